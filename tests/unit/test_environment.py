"""Locks hold what the requirement files ask for; the installer brings an environment to its lock or says why not."""

import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
ENVS = ROOT / "envs"
NAMES = ["cpu", "cuda-train", "cuda-vllm"]  # those that stages run in


def requirement_lines(path: Path) -> list[str]:
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def pins(name: str) -> dict[str, str]:
    pairs = (line.split()[0].split("==") for line in requirement_lines(ENVS / f"{name}.lock"))
    return {canonicalize_name(package): version for package, version in pairs}


@pytest.mark.parametrize("name", [*NAMES, "tools", "audit", "docs"])
def test_a_lock_is_exact_pins_and_names_no_index(name):
    lines = requirement_lines(ENVS / f"{name}.lock")
    pin = r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+( --hash=sha256:[0-9a-f]{64})+"
    assert [line for line in lines if not re.fullmatch(pin, line)] == ["torch==2.13.0+cpu"] * (name == "cpu")
    assert len(pins(name)) == len(lines) > (15 if name in ("tools", "docs") else 90)
    assert not re.search(r"://|index-url|find-links", (ENVS / f"{name}.lock").read_text())


@pytest.mark.parametrize("name", [*NAMES, "tools", "audit", "docs"])
def test_a_lock_holds_each_direct_requirement(name):
    locked = pins(name)
    for requirement in map(Requirement, requirement_lines(ENVS / f"{name}.in")):
        version = locked.get(canonicalize_name(requirement.name))
        assert version and requirement.specifier.contains(version), f"{requirement}: locked is {version}"


def test_the_page_says_what_each_direct_requirement_is_for():
    lines = [line for path in ENVS.glob("*.in") for line in requirement_lines(path)]
    told = re.findall(r"`([\w-]+)`", (ENVS / "README.md").read_text())
    assert {Requirement(line).name for line in lines} <= set(told)


def test_the_default_lock_brings_no_cuda_build():
    locked = pins("cpu")
    assert locked["torch"].endswith("+cpu")
    assert [name for name in locked if name.startswith(("nvidia-", "cuda-", "torchvision", "torchaudio"))] == []


@pytest.mark.parametrize("name", ["cuda-train", "cuda-vllm"])
def test_an_artifact_moves_between_cpu_and_cuda_with_the_same_library_versions(name):
    shared = ["transformers", "tokenizers", "safetensors", "numpy", "pydantic", "datasets"]
    assert {package: pins(name)[package] for package in shared} == {package: pins("cpu")[package] for package in shared}


def test_a_tool_is_in_no_lock_that_stands_in_a_stages_key():
    assert [name for name in NAMES if pins(name).keys() & pins("tools").keys()] == []


def test_an_audit_computes_with_the_versions_that_the_study_had():
    shared = pins("audit").items() & pins("cpu").items()
    both = pins("audit").keys() & pins("cpu").keys()
    assert both - dict(shared).keys() == {"rich", "packaging"}  # which compute nothing
    assert "torch" not in pins("audit")


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_lock_changes_its_conda_environment(name):
    digest = hashlib.sha256((ENVS / f"{name}.lock").read_bytes()).hexdigest()
    script = (ENVS / f"{name}.post-deploy.sh").read_text()
    assert f'"{digest}  envs/{name}.lock"' in script, f"envs/{name}.post-deploy.sh: put the digest {digest} there"


def test_the_running_environment_is_the_lock():
    locked = pins("cpu") | pins("tools")
    assert {name: importlib.metadata.version(name) for name in locked} == locked


def make_env(folder: Path, target: str = "env", **variables: str) -> subprocess.CompletedProcess:
    """Runs `make TARGET` in a copy of the repository's root; pip sees no index but the wheels in `folder`/wheels."""
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder / "wheels"), "PIP_CONFIG_FILE": os.devnull}
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    assignments = [f"{name}={value}" for name, value in variables.items()]
    command = ["make", "--no-print-directory", target, *assignments]
    return subprocess.run(command, cwd=folder, env=outside | offline, capture_output=True, text=True)


def write_wheel(folder: Path, name: str, version: str = "1.0") -> str:
    """Writes a wheel, the same bytes each time; returns the line of its lock."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n",
    }
    with zipfile.ZipFile(path, "w") as wheel:
        for place, text in files.items():
            wheel.writestr(zipfile.ZipInfo(place), text)
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


@pytest.fixture
def checkout(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "envs").mkdir()
    for script in ("install.sh", "wheelhouse.sh"):
        shutil.copy(ENVS / script, tmp_path / "envs")
    (tmp_path / "wheels").mkdir()
    (tmp_path / "envs/cpu.lock").write_text("# as small as can be\n" + write_wheel(tmp_path, "bdone"))
    (tmp_path / "envs/tools.lock").write_text("# no tool\n")
    return tmp_path


@pytest.mark.parametrize(("answer", "found"), [("echo 3.9", "3.9"), ("exit 127", "none that runs")])
def test_a_wrong_python_is_named_in_one_line_before_anything_is_made(checkout, answer, found):
    python = checkout / "other-python"
    python.write_text(f"#!/bin/sh\n{answer}\n")
    python.chmod(0o755)
    result = make_env(checkout, PYTHON=str(python))
    first, make_line = result.stderr.splitlines()
    assert result.returncode != 0 and make_line.startswith("make: ***")
    assert first.startswith(f"error: {python}: expected Python 3.11, found {found}: ")
    assert "make tables PYTHON=python3.11" in first
    assert not (checkout / ".venv").exists()


@pytest.mark.slow
def test_the_environment_follows_its_lock_and_survives_an_interrupted_installation(checkout):
    lock, environment = checkout / "envs/cpu.lock", checkout / ".venv"
    modules = environment / "lib/python3.11/site-packages"

    result = make_env(checkout, PYTHON=sys.executable)  # the wheel is missing: stopped half way
    assert result.returncode != 0 and "bdone==1.0" in result.stderr
    assert result.stderr.splitlines()[-2].endswith("did not finish: fix the cause above, then: make env")

    wheel, other = checkout / "wheels/bdone-1.0-py3-none-any.whl", checkout / "bdone-1.0-py3-none-any.whl"
    wheel.write_bytes(other.read_bytes() + b"\0")  # runs as well, and is not what the lock names
    result = make_env(checkout, PYTHON=sys.executable)
    assert result.returncode != 0 and "DO NOT MATCH THE HASHES" in result.stderr
    assert not (modules / "bdone.py").exists()

    shutil.copy(other, wheel)
    (modules / "leftover.py").touch()
    assert make_env(checkout, PYTHON=sys.executable).returncode == 0  # made again, not taken for ready
    assert (modules / "bdone.py").exists() and not (modules / "leftover.py").exists()
    assert (modules / "distill.pth").read_text() == f"{checkout}/workflow\n"

    (modules / "marker.py").touch()
    again = make_env(checkout, PYTHON="/no/python/needed")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")

    lock.write_text(write_wheel(checkout / "wheels", "bdtwo"))
    assert make_env(checkout, PYTHON=sys.executable).returncode == 0  # brought up to the new lock in place
    assert (modules / "bdtwo.py").exists() and (modules / "marker.py").exists()
    assert not (modules / "bdone.py").exists()


def test_a_cpu_build_is_in_no_folder_to_carry_of_another_lock(checkout):
    (checkout / "house").mkdir()
    write_wheel(checkout / "house", "torch", "2.13.0+cpu")
    result = make_env(checkout, "wheelhouse", WHEELHOUSE="house", PYTHON=sys.executable)
    assert result.returncode != 0 and result.stderr.splitlines()[0] == (
        "error: house: expected no CPU build, since envs/cpu.lock envs/tools.lock names none, found "
        "torch-2.13.0+cpu-py3-none-any.whl; name another folder by WHEELHOUSE"
    )


@pytest.mark.parametrize("lost", [True, False])
def test_a_folder_that_is_not_as_it_was_made_is_refused(lost, checkout):
    house = checkout / "house"
    house.mkdir()
    write_wheel(house, "bdone")
    if not lost:
        (house / "SHA256SUMS").write_text(f"{'0' * 64}  bdone-1.0-py3-none-any.whl\n")
    first = make_env(checkout, WHEELHOUSE="house", PYTHON=sys.executable).stderr.splitlines()[0]
    assert (
        first.startswith("error: house") and ("no such file" if lost else "bdone-1.0-py3-none-any.whl: FAILED") in first
    )
    assert not (checkout / ".venv").exists()


@pytest.mark.slow
def test_an_environment_is_made_of_a_carried_folder_alone(checkout):
    write_wheel(checkout / "wheels", "bdone", "1.0+cpu")
    write_wheel(checkout / "wheels", "bdone")
    result = make_env(checkout, "wheelhouse", PYTHON=sys.executable)  # pip takes 1.0+cpu for 1.0
    assert result.returncode != 0 and "expected no CPU build" in result.stderr
    assert "found bdone-1.0%2Bcpu-py3-none-any.whl; hide that folder" in result.stderr

    (checkout / "wheels/bdone-1.0+cpu-py3-none-any.whl").unlink()
    result = make_env(checkout, "wheelhouse", PYTHON=sys.executable)
    assert result.returncode == 0 and result.stdout.startswith("wheelhouse/cpu: 1 files, 0.00 GB. There: ")

    shutil.rmtree(checkout / "wheels")
    result = make_env(checkout, WHEELHOUSE="wheelhouse/cpu", PYTHON=sys.executable)
    assert result.returncode == 0, result.stderr
    assert (checkout / ".venv/lib/python3.11/site-packages/bdone.py").exists()
