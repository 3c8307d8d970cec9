"""A signature holds for untouched bytes alone, and only with the signer's key; no key enters the results."""

import base64
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from audit_environment import audit, run_in_audit

CURVE = ["ecparam", "-name", "prime256v1", "-genkey", "-noout"]


def make_keys(folder: Path, name: str) -> tuple[Path, Path]:
    """Makes a key pair as docs/audit.md says."""
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    subprocess.run(["openssl", *CURVE, "-out", private], check=True)
    subprocess.run(["openssl", "ec", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
    return private, public


@pytest.fixture(scope="module")
def signed(tmp_path_factory) -> Path:
    """A folder with keys, a model's folder, and the model's signature; do not change it."""
    folder = tmp_path_factory.mktemp("signed")
    private, _ = make_keys(folder, "key")
    make_keys(folder, "other")
    model = folder / "model"
    for name in (
        "model.safetensors",
        "COMPLETE",
        ".gitattributes",
        "deep/part.json",
        ".state/unfinished",
        "curves/bd/events",
    ):
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_text(f"contents of {name}")
    result = audit("sign", model, "--private-key", private, "--signature", folder / "model.sig")
    assert (result.returncode, result.stdout) == (0, f"{folder}/model.sig: signature of {model}, 4 files\n"), (
        result.stderr
    )
    return folder


def check(model: Path, signed: Path, signature: Path | None = None, key: str = "key.pub"):
    return audit(
        "verify-signature", model, "--public-key", signed / key, "--signature", signature or signed / "model.sig"
    )


@pytest.fixture
def model(signed, tmp_path) -> Path:
    return Path(shutil.copytree(signed / "model", tmp_path / "model"))


def test_an_untouched_folder_verifies_wherever_it_lies(signed, model):
    for name in (".state/unfinished", "curves/bd/events"):
        (model / name).write_text("more")
    result = check(model, signed)
    assert (result.returncode, result.stdout) == (0, f"{model}: as signed in {signed}/model.sig\n")


def test_every_changed_missing_or_added_file_is_named(signed, model):
    (model / "model.safetensors").write_text("contents of model.safetensorz")
    (model / "COMPLETE").write_text("")
    (model / "deep" / "part.json").unlink()
    (model / ".gitignore").write_text("*")
    result = check(model, signed)
    assert result.returncode == 1
    lines = [line.removeprefix(f"{model}/") for line in result.stdout.splitlines()]
    named = [".gitignore", "COMPLETE", "deep/part.json", "model.safetensors"]
    assert [line.split(": expected ")[0] for line in lines] == named
    assert lines[0].startswith(".gitignore: expected no such file as signed, found sha256 ")
    assert lines[2].endswith(" as signed, found no such file")


def test_another_key_a_forged_list_and_a_broken_signature_do_not_verify(signed, model, tmp_path):
    assert "does not match the provided public key" in check(model, signed, key="other.pub").stdout
    bundle = json.loads((signed / "model.sig").read_text())
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"]).replace(b"deep/part.json", b"deep/tarp.json")
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    for content in (json.dumps(bundle), "{}"):
        (tmp_path / "forged.sig").write_text(content)
        result = check(model, signed, tmp_path / "forged.sig")
        assert result.returncode == 1 and result.stdout.count("\n") == 1, result.stdout + result.stderr
        assert result.stdout.startswith(f"{tmp_path}/forged.sig: expected the signature of {model} ")


def test_the_librarys_own_command_line_reads_the_signature(signed, model):
    place = [model, "--signature", signed / "model.sig", "--public_key", signed / "key.pub", "--no-ignore-git-paths"]
    assert run_in_audit("model_signing", "verify", "key", *place).returncode == 0
    (model / "COMPLETE").write_text("")
    assert run_in_audit("model_signing", "verify", "key", *place).returncode == 1


def test_one_file_can_be_signed_and_a_key_may_have_a_password(signed, tmp_path):
    secret = tmp_path / "secret.pem"
    lock = ["openssl", "ec", "-in", signed / "key.pem", "-aes256", "-passout", "pass:open", "-out", secret]
    subprocess.run(lock, check=True, capture_output=True)
    (tmp_path / "MANIFEST.json").write_text("{}")
    place = [tmp_path / "MANIFEST.json", "--private-key", secret, "--signature", tmp_path / "manifest.sig"]
    refused = audit("sign", *place)
    assert refused.returncode == 2 and "DISTILL_KEY_PASSWORD" in refused.stderr
    assert audit("sign", *place, DISTILL_KEY_PASSWORD="open").returncode == 0
    assert check(place[0], signed, tmp_path / "manifest.sig").returncode == 0
    place[0].write_text("[]")
    assert f"{place[0]}: expected sha256 " in check(place[0], signed, tmp_path / "manifest.sig").stdout


def test_keys_and_signatures_stay_out_of_what_is_signed_and_of_the_results(signed, model, tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    for private, signature in ((model / "key.pem", tmp_path / "s"), (signed / "key.pem", results / "s")):
        result = audit("sign", model, "--results", results, "--private-key", private, "--signature", signature)
        assert result.returncode == 2 and "keep keys and signatures apart" in result.stderr
    assert list(results.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"key": "key.pem"}, "expected a public EC key as PEM"),
        ({"key": "missing.pub"}, "expected a public EC key as PEM"),
        ({"signature": Path("missing.sig")}, "expected a signed file or folder and its signature, found none"),
    ],
)
def test_a_wrong_use_is_one_line(signed, model, wrong, message):
    result = check(model, signed, **wrong)
    assert result.returncode == 2 and message in result.stderr and result.stderr.count("\n") == 1
