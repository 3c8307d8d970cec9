"""Runs of the workflow in one folder: the lock of a killed one goes, that of another that may live stays."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace

import pytest

from distill.files import write_json
from distill.provenance import runs
from distill.provenance.ownership import _start_of, this_process
from distill.provenance.runs import LOCKS, RUNS, begin_run


@pytest.fixture(autouse=True)
def ends(monkeypatch):
    """What would be done at the end of this process."""
    found = []
    monkeypatch.setattr(runs.atexit, "register", lambda act, **options: found.append((act, options)))
    return found


@pytest.fixture
def folder(tmp_path):
    """Snakemake's folder with the locks of one run."""
    (tmp_path / LOCKS).mkdir()
    for kind in ("input", "output"):
        (tmp_path / LOCKS / f"0.{kind}.lock").write_text("results/tables.md\n")
    return tmp_path


def locks(folder):
    return sorted(path.name for path in (folder / LOCKS).iterdir())


def name(folder, **changes):
    """Names a run as its process did; returns its file."""
    owner = replace(this_process("results"), **changes)
    write_json(path := folder / RUNS / f"{owner.token}.json", asdict(owner))
    return path


KILLED = {"process": 2**22 + 1}  # no process has an id above the kernel's limit
ELSEWHERE = {"host": "node7", "machine": "", "boot": "b", "namespace": "n", "job": ""}
BOTH = ["0.input.lock", "0.output.lock"]


def test_the_lock_of_a_killed_run_goes(folder):
    left = name(folder, **KILLED)
    assert begin_run(folder, "results") == []
    assert locks(folder) == [] and not left.exists()
    assert len([*(folder / RUNS).iterdir()]) == 1, "this run is named"


def test_a_run_is_named_until_its_end(folder, ends):
    begin_run(folder, "results")
    ((act, options),) = ends
    act(**options)
    assert [*(folder / RUNS).iterdir()] == []


def test_the_lock_of_a_living_run_stays_and_its_process_is_named(folder):
    name(folder, **KILLED)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        name(folder, process=other.pid, start=_start_of(other.pid))
        (line,) = begin_run(folder, "results")
        other.stdin.close()
    assert line.startswith(f"note: process {other.pid} on ") and "results; let it end, or stop it" in line
    assert locks(folder) == BOTH


def test_a_living_run_on_other_results_is_no_matter_but_its_lock_stays(folder):
    name(folder, **KILLED)
    name(folder, work="other")
    assert begin_run(folder, "results") == []
    assert locks(folder) == BOTH


def test_of_a_run_on_another_machine_nothing_is_known(folder):
    name(folder, **KILLED)
    name(folder, **ELSEWHERE)
    (line,) = begin_run(folder, "results")
    assert "on node7 may make results" in line and "snakemake --unlock" in line
    assert locks(folder) == BOTH


def test_where_nothing_is_locked_a_run_on_another_machine_is_forgotten(folder):
    left = name(folder, **ELSEWHERE)
    for path in (folder / LOCKS).iterdir():
        path.unlink()
    assert begin_run(folder, "results") == [] and not left.exists()


@pytest.mark.parametrize("text", [None, "", "{", json.dumps({"process": 1})])
def test_a_lock_of_which_nobody_is_known_stays(folder, text):
    if text is not None:
        (folder / RUNS).mkdir()
        (folder / RUNS / "x.json").write_text(text)
    assert begin_run(folder, "results") == []
    assert locks(folder) == BOTH


def test_a_lock_made_after_the_look_stays(folder, monkeypatch):
    """Another run begins, and locks, while this one looks."""
    name(folder, **KILLED)

    def lives(owner):
        (folder / LOCKS / "1.output.lock").write_text("other/tables.md\n")
        return False

    monkeypatch.setattr(runs, "lives", lives)
    begin_run(folder, "results")
    assert locks(folder) == ["1.output.lock"]


def test_who_may_only_look_is_not_named(folder, monkeypatch):
    def refuse(path, value):
        raise PermissionError(13, os.strerror(13), str(path))

    name(folder, **KILLED)
    monkeypatch.setattr(runs, "write_json", refuse)
    assert begin_run(folder, "results") == []
    assert locks(folder) == BOTH
