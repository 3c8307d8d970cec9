"""A trained model goes to a hub, here a stand-in on 127.0.0.1, and into a GGUF file that transformers reads again."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from distill.__main__ import main
from distill.data.chat_template import conversation, make_usable
from distill.files import read_json, seal_folder, write_json
from distill.models.load import load_model
from tiny_models import TEXTS, make_model
from workplace import ROOT

TOKEN = "hf_" + "x" * 34


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Sealed model folders by family; GPT-2 has as many positions as transformers gives one of a GGUF file."""
    root = tmp_path_factory.mktemp("models")

    @cache
    def model_of(family):
        folder = make_model(root / family, family, initializer_range=0.3, positions=1024)
        make_usable(folder, "alpaca", 12)
        (folder / "README.md").write_text("---\nlibrary_name: transformers\n---\n# A student\n")
        seal_folder(folder)
        return folder

    return model_of


@pytest.fixture
def copy(models, tmp_path):
    """Copies a model, to be changed."""
    return lambda family: Path(shutil.copytree(models(family), tmp_path / family))


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub's protocol as a commit needs; a repository named `taken` is refused."""

    made, files, stored, tokens = [], {}, {}, set()

    def do_POST(self):  # noqa: N802
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.tokens.add(self.headers["Authorization"])
        rows = [json.loads(line) for line in body.splitlines()]
        if self.path == "/api/repos/create":
            self.made.append(rows[0])
            if rows[0]["name"] == "taken":
                return self.answer(403, {"error": f"not yours, {self.headers['Authorization']}"})
            return self.answer(200, {"url": f"http://{self.headers['Host']}/{rows[0]['organization']}/x"})
        if self.path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        if "/preupload/" in self.path:
            mode = {True: "lfs", False: "regular"}
            files = [(file["path"], mode[file["path"].endswith(".safetensors")]) for file in rows[0]["files"]]
            listed = [{"path": path, "uploadMode": how, "shouldIgnore": False} for path, how in files]
            return self.answer(200, {"files": listed})
        if self.path.endswith("/info/lfs/objects/batch"):
            place = f"http://{self.headers['Host']}/store"
            listed = [row | {"actions": {"upload": {"href": f"{place}/{row['oid']}"}}} for row in rows[0]["objects"]]
            return self.answer(200, {"transfer": "basic", "objects": listed})
        for row in rows[1:]:
            value = row["value"]
            is_large = row["key"] == "lfsFile"
            self.files[value["path"]] = (
                self.stored[value["oid"]] if is_large else base64.b64decode(value["content"], validate=True)
            )
        return self.answer(200, {"commitUrl": f"http://{self.headers['Host']}/me/x/commit/ab", "commitOid": "ab"})

    def do_PUT(self):  # noqa: N802
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.stored[hashlib.sha256(content).hexdigest()] = content
        self.answer(200, {})

    def answer(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def pushed(endpoint, *arguments):
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "*"}
    environment |= {"PYTHONPATH": "workflow", "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-m", "distill", "push", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_push_sends_a_model_as_it_was_sealed_and_nothing_else_beside_it(copy):
    model = copy("qwen2")
    (model / "optimizer.pt").write_text("not for others")
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        dry = pushed(endpoint, model, "me/student")
        assert (dry.returncode, Hub.tokens) == (0, set()), dry.stderr
        assert f"{model} to {endpoint}/me/student (private" in dry.stdout
        assert dry.stdout.endswith("Left out: optimizer.pt\nNothing was sent: --yes sends it.\n")
        sent = pushed(endpoint, model, "me/student", "--yes")
        refused = pushed(endpoint, model, "me/taken", "--yes")
        unasked = pushed("http://[", model, "me/student", "--yes")
        server.shutdown()
    assert (sent.returncode, sent.stdout.splitlines()[-1]) == (0, "Sent as commit ab"), sent.stderr
    assert sent.stdout.splitlines()[:-1] == dry.stdout.splitlines()[:-1]
    assert Hub.files == {
        path.name: path.read_bytes() for path in model.iterdir() if path.name != "optimizer.pt"
    } and Hub.files.keys() >= {"COMPLETE", "README.md", "chat_template.jinja", "model.safetensors", "tokenizer.json"}
    assert Hub.made[0]["visibility"] == "private" and Hub.tokens == {f"Bearer {TOKEN}"}
    assert refused.returncode == 2 and "expected the hub to take the files" in refused.stderr.splitlines()[-1]
    assert (unasked.returncode, unasked.stderr.count("\n")) == (2, 1) and "error: HF_ENDPOINT: " in unasked.stderr
    assert TOKEN not in "".join(done.stdout + done.stderr for done in (dry, sent, refused))


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        ("name", "student: expected OWNER/NAME, found no owner"),
        ("README.md", "README.md: expected a model card, found none"),
        ("COMPLETE", "expected a complete folder with a COMPLETE manifest, found none"),
        ("config.json", "config.json: expected the bytes that COMPLETE seals, found others"),
    ],
)
def test_what_is_no_sealed_model_is_not_pushed(copy, capsys, damage, line):
    model = copy("qwen2")
    if damage == "config.json":
        content = (model / damage).read_text()
        (model / damage).write_text(content.replace("false", "true ", 1))
    elif damage != "name":
        (model / damage).unlink()
        if damage == "README.md":
            seal_folder(model)
    assert main(["push", str(model), "student" if damage == "name" else "me/student"]) == 2
    assert line in capsys.readouterr().err


@pytest.mark.parametrize("family", ["qwen2", "gpt2"])
def test_a_gguf_file_answers_as_the_model_it_was_written_from(models, tmp_path, capsys, family):
    model, file = models(family), tmp_path / "student.gguf"
    assert main(["gguf", str(model), str(file)]) == 0
    options = {"gguf_file": file.name, "dtype": torch.float32, "quantization_config": GgufConfig(dequantize=True)}
    again = AutoModelForCausalLM.from_pretrained(tmp_path, **options)
    own, read = AutoTokenizer.from_pretrained(model), AutoTokenizer.from_pretrained(tmp_path, gguf_file=file.name)
    answers, first = set(), load_model(model)
    for text in (*TEXTS[:3], "Why don't 42 kettles\n  sing? Ünïcode 漢字"):
        asked = conversation(text, "")
        prompts = [tokenizer.apply_chat_template(asked, return_dict=False) for tokenizer in (own, read)]
        assert prompts[0] == prompts[1]
        ids = torch.tensor(prompts[:1])
        found, expected = (each.generate(ids, max_new_tokens=12, do_sample=False) for each in (again, first))
        assert found.tolist() == expected.tolist()
        answers.add(tuple(found[0, len(prompts[0]) :].tolist()))
    assert len(answers) > 1 and again.generation_config.eos_token_id == own.eos_token_id
    assert main(["gguf", str(model), str(file)]) == 2 and "expected a new file, found one" in capsys.readouterr().err
    results = tmp_path / "study" / "models"
    (results.parent / ".state").mkdir(parents=True)
    results.mkdir()
    (tmp_path / "link").symlink_to(results)
    assert main(["gguf", str(model), "/proc/a.gguf"]) == 2
    assert "error: /proc/a.gguf" in capsys.readouterr().err.splitlines()[-1]
    assert main(["gguf", str(model), str(tmp_path / "link" / "a.gguf")]) == 2
    assert "expected a place beside the results, found it in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("family", "change", "line"),
    [
        ("opt", {}, "that transformers reads again from a GGUF file (gpt2, qwen2), found opt"),
        ("gpt2", {"activation_function": "relu"}, "expected activation_function gelu_new, as a gpt2 has it"),
        (
            "qwen2",
            {"tokenizer.json": "Whitespace"},
            "a byte-level BPE tokenizer that splits a text as GPT-2's",
        ),
        ("gpt2", {"tokenizer.json": None}, "as GPT-2's or Qwen2's, found another form"),
        ("qwen2", {"weights": 0}, "model.safetensors: expected the bytes that COMPLETE seals, found others"),
    ],
)
def test_a_model_without_such_a_form_ends_with_one_line(copy, tmp_path, capsys, family, change, line):
    model = copy(family)
    for name, value in change.items():
        if name == "weights":
            content = (model / "model.safetensors").read_bytes()
            (model / "model.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            continue
        (model / "COMPLETE").unlink(missing_ok=True)
        path = model / (name if name.endswith("json") else "config.json")
        changed = {"pre_tokenizer": value and {"type": value}} if name.endswith("json") else {name: value}
        write_json(path, read_json(path) | changed)
    assert main(["gguf", str(model), str(tmp_path / "x.gguf")]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and line in error and not (tmp_path / "x.gguf").exists()


def test_where_a_package_is_missing_one_line_names_it(models, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert main(["gguf", str(models("qwen2")), str(tmp_path / "x.gguf")]) == 2
    assert "expected an environment with gguf, found another; run `make env`" in capsys.readouterr().err
