"""Whatever a user gives a sub-command, and however it is stopped, it ends in one line and leaves nothing behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from distill.__main__ import main
from distill.audit import show
from distill.audit.manifest import write_manifest
from distill.errors import DataError
from workplace import ROOT


def told(stdout):
    """Runs `--help` into a file; returns the exit code and what stood on standard error."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-m", "distill", "--help"]
    pipes = {"stdout": stdout, "stderr": subprocess.PIPE, "text": True}
    done = subprocess.run(command, cwd=ROOT, env=environment | {"PYTHONPATH": "workflow"}, check=False, **pipes)
    return done.returncode, done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the kernel's always-full device /dev/full")
def test_what_cannot_be_told_is_one_line():
    with open("/dev/full", "w") as full:
        code, error = told(full)
    assert code == 2 and error.startswith("error: /dev/full: expected room on the disk") and error.count("\n") == 1


def test_a_reader_that_has_read_enough_ends_it_quietly():
    reader, writer = os.pipe()
    os.close(reader)
    assert told(writer) == (141, "")
    os.close(writer)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "Stopped."),
        (BrokenPipeError(32, "x"), 141, ""),
        (FileNotFoundError(2, "No such file", "/a/b"), 2, "error: /a/b: expected a file or folder that can be used"),
        (MemoryError(), 2, "error: expected enough memory"),
        (ZeroDivisionError("x"), 1, "error: show.py:"),
    ],
    ids=["Ctrl-C", "head", "path", "memory", "a fault of ours"],
)
def test_every_end_is_one_line(monkeypatch, capsys, error, code, line):
    def fail(_):
        raise error

    monkeypatch.setattr(show, "study_archive", fail)
    assert main(["show"]) == code
    found = capsys.readouterr().err
    assert found.splitlines()[-1].startswith(line) if line else not found
    assert ("Traceback" in found) == (code == 1)


@pytest.mark.parametrize(
    "command", [["show"], ["graph"], ["manifest"], ["questions"], ["trace", "--all"], ["diff", "A", "A"]], ids=" ".join
)
def test_a_folder_without_a_study_is_refused_and_left_alone(tmp_path, capsys, command):
    (tmp_path / "notes.txt").write_text("mine")
    options = [] if command[0] == "diff" else ["--results", str(tmp_path)]
    assert main([str(tmp_path) if word == "A" else word for word in command] + options) == 2
    assert "expected artifacts with their records, found none" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_a_file_whose_name_no_manifest_can_hold_is_named(tmp_path):
    Path(os.fsdecode(bytes(tmp_path) + b"/\xff")).touch()
    with pytest.raises(DataError, match="expected files with names in UTF-8, found one from .*; rename it"):
        write_manifest(tmp_path)


def test_tables_are_not_published_into_a_study(tmp_path, capsys):
    (tmp_path / ".state").mkdir()
    assert main(["publish-tables", str(tmp_path), str(tmp_path / "a")]) == 2
    assert f"expected a place beside the results, found it in {tmp_path}" in capsys.readouterr().err
    assert os.listdir(tmp_path) == [".state"]


def test_tables_that_are_damaged_are_not_compared(tmp_path, capsys):
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "scores.csv").write_bytes(b"system\n\xff\n")
    assert main(["diff", str(tmp_path), str(tmp_path)]) == 2
    assert "expected rows and records as the stages write them, found UnicodeDecodeError" in capsys.readouterr().err


def test_chat_without_an_input_asks_for_one(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", None)
    assert main(["chat", "nowhere"]) == 2
    assert "error: standard input: expected prompts, found it closed" in capsys.readouterr().err
