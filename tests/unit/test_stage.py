"""What every stage promises: output whole or absent, one line for a mistake, a record that can be checked."""

import errno
import gc
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distill.config.base import Section
from distill.errors import DataError
from distill.files import digest_file, read_json, read_manifest, seal_folder, write_json, write_jsonl
from distill.provenance.record import public_path, record_path
from distill.provenance.settings import LONGEST, as_argument
from distill.provenance.stage import Job, run_stage
from distill.startup import starting


class Settings(Section):
    """Slice of the test's stage."""

    number: int = 1


@pytest.fixture(autouse=True)
def script_name(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["workflow/scripts/make_thing.py", "--seen"])


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "rows.jsonl").write_text('{"a": 1}\n')
    seal_folder(folder)
    return folder


def arguments(output: Path, source: Path | None = None, *more: str) -> list[str]:
    inputs = ["--source", str(source)] if source else []
    return [*inputs, "--output", str(output), "--state", str(output.parents[1] / ".state"), *more]


def stage(work, output: Path, source: Path | None = None, *more: str, **options) -> None:
    options = {"inputs": ("source",), "settings": Settings} | options
    run_stage(work, "A stage.", arguments=arguments(output, source, *more), **options)


def fails(capsys, work, output: Path, source: Path | None = None, *more: str, code: int = 2, **options) -> str:
    """Runs a stage that must exit with a code; returns the one line that it ends with."""
    with pytest.raises(SystemExit) as exit:
        stage(work, output, source, *more, **options)
    assert exit.value.code == code
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: make_thing: ")
    return last


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if ".tmp-" in path.name or ".old-" in path.name]


def write_one(job: Job) -> None:
    write_jsonl(job.output / "rows.jsonl", [{"number": job.settings.number}])


def write_then_fail(job: Job) -> None:
    write_one(job)
    raise DataError("rows.jsonl:1: expected sense,\nfound none; fix it")


@pytest.mark.parametrize("accepted", [False, True], ids=["made", "accepted"])
def test_an_output_is_no_older_than_its_inputs_whatever_the_clock_says(tmp_path, source, accepted):
    output = tmp_path / "results" / "thing" / "COMPLETE"
    if accepted:
        stage(write_one, output, source / "COMPLETE")
        output.unlink()
    ahead = time.time_ns() + 10**14
    os.utime(source / "COMPLETE", ns=(ahead, ahead))
    stage(write_one, output, source / "COMPLETE")
    assert {path.stat().st_mtime_ns for path in (output, record_path(output.parent))} == {ahead}


def test_folder_is_published_whole_and_sealed(tmp_path, source):
    output = tmp_path / "results" / "thing" / "COMPLETE"
    seen = []

    def work(job):
        write_one(job)
        seen.append((output.parent.exists(), job.output.is_dir(), job.input("source")))

    stage(work, output, source / "COMPLETE", "--settings", '{"number": 3}')
    assert seen == [(False, True, source)]
    assert (output.parent / "rows.jsonl").read_text() == '{"number":3}\n'
    assert list(read_manifest(output.parent)) == ["rows.jsonl"]
    assert leftovers(output.parents[1]) == []


def test_file_is_published_whole(tmp_path):
    output = tmp_path / "results" / "page.md"
    stage(lambda job: job.output.write_text("page"), output)
    assert output.read_text() == "page" and leftovers(output.parent) == []


def test_record_can_be_checked_against_the_artifact_and_its_inputs(tmp_path, source):
    output = tmp_path / "results" / "thing" / "COMPLETE"

    def work(job):
        write_one(job)
        job.notes |= {"rows": 1, "digest": job.digest("source")}

    stage(work, output, source, "--settings", '{"number": 3}', "--code", "c0de", "--lock", "10c4")
    record = read_json(record_path(output.parent))
    assert record["subject"] == [{"name": "thing", "digest": {"sha256": digest_file(output)}}]
    build, details = record["predicate"]["buildDefinition"], record["predicate"]["runDetails"]
    assert build["externalParameters"] == {"rule": "make_thing", "settings": {"number": 3}}
    found = {key: build["internalParameters"][key] for key in ("command", "code", "lock")}
    command = [public_path(sys.orig_argv[0], tmp_path), "workflow/scripts/make_thing.py", "--seen"]
    assert found == {"command": command, "code": "c0de", "lock": "10c4"}
    sealed = digest_file(source / "COMPLETE")
    assert build["resolvedDependencies"] == [{"name": "source", "uri": source.name, "digest": {"sha256": sealed}}]
    assert details["notes"] == {"rows": 1, "digest": [sealed]}
    assert details["tries"] == 1 and details["builder"]["version"]["python"]
    assert details["metadata"]["startedOn"] <= details["metadata"]["finishedOn"]


def test_record_tells_start_up_from_work(tmp_path, monkeypatch):
    clock = iter((3.0, 4.0, 6.5, 7.0, 7.25))
    monkeypatch.setattr("distill.startup._seconds", 0.0)
    monkeypatch.setattr(time, "process_time", lambda: next(clock))

    def work(job):
        for _ in range(2):
            with starting():
                pass
        write_one(job)

    output = tmp_path / "results" / "thing" / "COMPLETE"
    stage(work, output)
    usage = read_json(record_path(output.parent))["predicate"]["runDetails"]["usage"]
    assert usage["startup_cpu_seconds"] == 3.0 + 2.5 + 0.25  # until the stage began, and twice inside


def test_record_tells_what_recording_took(tmp_path, monkeypatch):
    spent = iter((10.0, 10.5, 20.0, 20.25, 20.25, 21.25, 22.0))
    for module in ("stage", "record"):
        monkeypatch.setattr(f"distill.provenance.{module}.cpu_seconds", lambda: next(spent))
    output = tmp_path / "results" / "thing" / "COMPLETE"
    stage(write_one, output)
    usage = read_json(record_path(output.parent))["predicate"]["runDetails"]["usage"]
    # Inputs, then what comes after the work, and the record: all but the work between them.
    assert usage["recording_cpu_seconds"] == 0.5 + 0.25 + 1.0 and usage["cpu_seconds"] == 22.0


def test_garbage_collector_leaves_start_up_alone_and_is_back_after_a_failure(tmp_path, capsys):
    seen = []

    def work(job):
        with starting():
            seen.append(gc.isenabled())
            raise DataError("rows.jsonl:1: expected sense, found none; fix it")

    fails(capsys, work, tmp_path / "results" / "thing" / "COMPLETE")
    assert seen == [False] and gc.isenabled()


NOISY = """
import os, sys
from distill.config.base import Section
from distill.errors import DataError
from distill.provenance.stage import run_stage

class Library:
    def __del__(self, write=os.write):
        write(2, b"library: leaked 4 instances!\\n")

def make_thing(job):
    job.notes |= {"rows": 3, "split": {"train": 2, "dev": 1}, "seeds": [10, 20], "hub": None}
    job.output.joinpath("rows").touch()
    if %r:
        raise DataError("rows: expected sense, found none; fix it")

left = Library()
run_stage(make_thing, "A stage.", inputs=(), settings=Section)
"""


@pytest.mark.parametrize("is_wrong", [False, True])
def test_the_last_line_says_what_was_done_whatever_libraries_say_at_exit(tmp_path, is_wrong):
    script, output = tmp_path / "make_thing.py", tmp_path / "results" / "thing" / "COMPLETE"
    script.write_text(NOISY % is_wrong)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, script, *arguments(output)]
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 * is_wrong
    if is_wrong:
        assert done.stderr.endswith("error: make_thing: rows: expected sense, found none; fix it\n")
    else:
        made = (
            rf"done: make_thing: {output.parent}: made in \d+\.\d s; rows 3; split train 2; split dev 1; seeds 10, 20\n"
        )
        assert re.fullmatch(made, done.stderr)
        again = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True).stderr
        assert again == f"done: make_thing: {output.parent}: found whole, as an earlier start made it\n"


def test_record_counts_tries_of_the_same_work(tmp_path, source, capsys):
    output = tmp_path / "results" / "thing" / "COMPLETE"
    fails(capsys, write_then_fail, output, source)
    fails(capsys, write_then_fail, output, source, "--settings", '{"number": 9}')
    stage(write_one, output, source)
    assert read_json(record_path(output.parent))["predicate"]["runDetails"]["tries"] == 2


@pytest.mark.parametrize("change", [lambda text: "", lambda text: "7", lambda text: text.replace(": 1\n", ": 7\n")])
def test_a_damaged_count_of_tries_begins_anew_and_is_named(tmp_path, source, caplog, change):
    output = tmp_path / "results" / "thing" / "COMPLETE"
    for tries in (1, 2):
        stage(write_one, output, source)
        assert read_json(record_path(output.parent))["predicate"]["runDetails"]["tries"] == tries
    (path,) = output.parents[1].glob(".state/*/tries")
    path.write_text(change(path.read_text().replace("2", "1")))
    stage(write_one, output, source)
    assert read_json(record_path(output.parent))["predicate"]["runDetails"]["tries"] == 1
    assert [str(path) in record.getMessage() for record in caplog.records] == [True]


def test_mistake_is_one_line_and_leaves_nothing(tmp_path, source, capsys):
    output = tmp_path / "results" / "thing" / "COMPLETE"
    message = fails(capsys, write_then_fail, output, source)
    assert message == "error: make_thing: rows.jsonl:1: expected sense, found none; fix it"
    assert [path.name for path in output.parents[1].iterdir()] == [".state"]


def test_failure_keeps_the_older_output(tmp_path, source, capsys):
    output = tmp_path / "results" / "thing" / "COMPLETE"
    stage(write_one, output, source)
    before = {path.name: path.read_bytes() for path in [*output.parent.iterdir(), record_path(output.parent)]}
    fails(capsys, write_then_fail, output, source, "--settings", '{"number": 2}')
    fails(capsys, lambda job: 1 / 0, output, source, "--settings", '{"number": 3}', code=1)
    after = {path.name: path.read_bytes() for path in [*output.parent.iterdir(), record_path(output.parent)]}
    assert after == before and leftovers(output.parents[1]) == []


def test_success_replaces_the_older_output(tmp_path, source):
    output = tmp_path / "results" / "thing" / "COMPLETE"
    stage(lambda job: (job.output / "old").write_text("x"), output, source)
    stage(write_one, output, source, "--settings", '{"number": 2}')
    assert {path.name for path in output.parent.iterdir()} == {"rows.jsonl", "COMPLETE"}
    assert leftovers(output.parents[1]) == []


def test_leftovers_of_a_killed_try_are_cleared_whoever_has_its_process_id_now(tmp_path, source):
    """Process ids come again: in a container, on another host, after a while."""
    output = tmp_path / "results" / "thing" / "COMPLETE"
    for process in (2**22 + 1, os.getppid(), os.getpid()):
        for left in (f"tmp-{process}", f"old-{process}", f"tmp-{process}-0a1b", f"prov.json.tmp-{process}"):
            (output.parents[1] / f"thing.{left}" / "deep").mkdir(parents=True)
    (output.parents[1] / "thing.prov.json.tmp-1-0a").write_text("{")
    (output.parents[1] / "thing.more-or-less").mkdir()
    stage(write_one, output, source)
    assert {path.name for path in output.parents[1].iterdir()} == {
        "thing", "thing.prov.json", "thing.more-or-less", ".state"
    }  # fmt: skip


def test_an_input_whose_manifest_is_written_again_meanwhile_is_unchanged(tmp_path, source):
    """As by a run in another clone, which finds the same made, and whose Snakemake touches it."""
    output = tmp_path / "results" / "thing" / "COMPLETE"

    def work(job):
        write_one(job)
        seal_folder(job.input("source"))
        os.utime(job.input("source") / "COMPLETE", ns=(1, 1))

    stage(work, output, source)
    assert output.is_file()


def test_input_that_changes_meanwhile_is_refused(tmp_path, source, capsys):
    output = tmp_path / "results" / "thing" / "COMPLETE"

    def work(job):
        write_one(job)
        (job.input("source") / "rows.jsonl").write_text('{"a": 2}\n')
        seal_folder(job.input("source"))

    message = fails(capsys, work, output, source)
    assert (
        message
        == f"error: make_thing: {source}: expected an unchanged input, found it changed while make_thing ran; rerun"
    )
    assert not output.parent.exists()


def remove_manifest(source):
    (source / "COMPLETE").unlink()


def swap_bytes(source):
    (source / "rows.jsonl").write_text('{"a": 2}\n')


def cut_short(source):
    (source / "rows.jsonl").write_text("{}")


def break_manifest(source):
    (source / "COMPLETE").write_text("{")


def empty_manifest(source):
    (source / "COMPLETE").write_text("{}")


def list_as_manifest(source):
    (source / "COMPLETE").write_text("[]")


def digest_as_entry(source):
    (source / "COMPLETE").write_text(json.dumps({"rows.jsonl": "0" * 64}))


def file_outside(source):
    (source / "COMPLETE").write_text(json.dumps({"../x": {"size": 1, "sha256": "0" * 64}}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove_manifest, "{source}: expected a complete folder with a COMPLETE manifest, found none; rerun the rule"),
        (swap_bytes, "{source}/rows.jsonl: expected the bytes sealed in {source}/COMPLETE, found others; delete"),
        (cut_short, "{source}/rows.jsonl: expected 9 bytes as sealed in {source}/COMPLETE, found 2; delete"),
        (break_manifest, "{source}/COMPLETE: expected JSON, found "),
        (empty_manifest, "{source}/COMPLETE: expected size and sha256 by file, found no entry; delete it and rerun"),
        (list_as_manifest, "{source}/COMPLETE: expected size and sha256 by file, found list; delete it and rerun"),
        (digest_as_entry, "{source}/COMPLETE: expected size and sha256 of a file below, found another entry at 'rows"),
        (file_outside, "{source}/COMPLETE: expected size and sha256 of a file below, found another entry at '../x'"),
    ],
)
def test_damaged_input_is_named(tmp_path, source, capsys, damage, message):
    damage(source)
    found = fails(capsys, write_one, tmp_path / "results" / "thing" / "COMPLETE", source / "COMPLETE")
    assert found.startswith(f"error: make_thing: {message.format(source=source)}")


def test_absent_input_is_named(tmp_path, capsys):
    message = fails(capsys, write_one, tmp_path / "results" / "thing" / "COMPLETE", tmp_path / "no.jsonl")
    assert message.startswith(f"error: make_thing: {tmp_path}/no.jsonl: expected an input, found none; ")


def test_unsealed_folder_is_taken_only_from_outside(tmp_path, source, capsys):
    (source / "COMPLETE").unlink()
    output = tmp_path / "results" / "thing" / "COMPLETE"
    fails(capsys, write_one, output, source)
    stage(write_one, output, source, external=("source",))
    digests = []
    for text in ("one", "two"):
        (source / "rows.jsonl").write_text(text)
        stage(lambda job: digests.extend(job.digest("source")) or write_one(job), output, source, external=("source",))
    assert len(set(digests)) == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('{"number": "x"}', "found a problem at number: "),
        ('{"numbr": 1}', "found a problem at numbr: "),
        ("{", "found a problem at the whole text: "),
    ],
)
def test_settings_that_are_not_the_rules_slice(tmp_path, source, capsys, settings, message):
    found = fails(capsys, write_one, tmp_path / "results" / "t" / "COMPLETE", source, "--settings", settings)
    assert found.startswith("error: make_thing: --settings: expected the slice Settings as JSON, ") and message in found


def test_state_outlives_a_failure_and_belongs_to_its_key_and_code(tmp_path, source, capsys):
    output = tmp_path / "results" / "thing" / "COMPLETE"
    folders, paid = {}, set()

    def work(job):
        folders[job.code, job.settings.number] = job.state(settings=job.settings.model_dump())
        paid.add(job.kept(server="a"))
        write_json(folders[job.code, job.settings.number] / "step.json", 1)
        raise DataError("killed")

    for code, number in (("a", 1), ("a", 2), ("b", 1)):
        fails(capsys, work, output, source, "--code", code, "--settings", json.dumps({"number": number}))
    assert (len(set(folders.values())), len(paid)) == (3, 1)
    assert all((folder / "step.json").is_file() for folder in folders.values())


# Permission bits do not bind root, so the file system's refusals that root meets as well stand for the others.


def test_place_below_a_file(tmp_path, source, capsys):
    (tmp_path / "results").write_text("a file")
    message = fails(
        capsys, write_one, tmp_path / "results" / "thing" / "COMPLETE", source, "--state", str(tmp_path / "s")
    )
    assert message.startswith(f"error: make_thing: {tmp_path}/results: expected a folder above each file, found ")
    assert message.endswith("; move what is in the way or set `results` in the config to another folder")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the kernel's always-full device /dev/full")
def test_full_disk(tmp_path, source, capsys):
    output = tmp_path / "results" / "thing" / "COMPLETE"
    message = fails(capsys, lambda job: Path("/dev/full").write_text("x"), output, source)
    assert f"{output}: expected room on the disk, found No space left on device (" in message
    assert " MB free); free some or set `results`" in message
    assert leftovers(output.parents[1]) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_refused_permission(tmp_path, source, capsys, number):
    def work(job):
        raise OSError(number, os.strerror(number), "/locked/file")

    message = fails(capsys, work, tmp_path / "results" / "thing" / "COMPLETE", source)
    assert message.startswith("error: make_thing: /locked/file: expected permission to use it, found ")
    assert message.endswith("change its permissions or set `results` in the config to a folder of yours")


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (
            ConnectionResetError(errno.ECONNRESET, "reset"),
            "found ConnectionResetError: [Errno 104] reset; see the lines",
        ),
        (
            ZeroDivisionError("a\nb \x1b[2J\x9b\u202e"),
            "found ZeroDivisionError: a b \\x1b[2J\\x9b\\u202e; see the lines",
        ),
        (AssertionError(), "found AssertionError; see the lines"),
        (KeyError("k" * 10_000), "kkk...; see the lines"),
        (SystemExit(0), "found a call of exit (0); take it out"),
    ],
    ids=["of the system", "several lines, control characters", "without words", "endless", "exit"],
)
def test_what_a_stage_does_not_expect_is_one_line_too(tmp_path, source, capsys, error, found):
    def work(job):
        raise error

    message = fails(capsys, work, tmp_path / "results" / "thing" / "COMPLETE", source, code=1)
    assert message.startswith("error: make_thing: test_stage.py:") and found in message and len(message) < 600


@pytest.mark.parametrize(
    "text",
    [
        "Error while serializing: I/O error: No space left on device (os error 28)",
        "[enforce fail at inline_container.cc:668] . unexpected pos 64 vs 0",
        "PytorchStreamWriter failed writing file data/0: file write failed",
    ],
)
def test_a_full_disk_under_a_library_is_a_full_disk(tmp_path, source, capsys, text):
    def work(job):
        raise RuntimeError(text)

    message = fails(capsys, work, tmp_path / "results" / "thing" / "COMPLETE", source)
    assert "expected room on the disk, found No space left on device (" in message and " MB free" in message


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")])
def test_too_little_memory_is_a_line_with_what_is_free(tmp_path, source, capsys, error):
    def work(job):
        raise error

    message = fails(capsys, work, tmp_path / "results" / "thing" / "COMPLETE", source)
    assert "expected enough memory, found " in message and "MB of the machine's free" in message
    assert "make the batch smaller" in message


def test_a_slice_too_long_for_a_command_line_travels_in_a_file(tmp_path, source, capsys):
    text = '{"number": 7}'
    assert as_argument(text, tmp_path) == text
    long = text[:-1] + " " * LONGEST + "}"
    argument = as_argument(long, tmp_path / "state")
    assert argument == as_argument(long, tmp_path / "state") and len(argument) < 1000
    assert as_argument(f" {long}", tmp_path / "state") != argument, "the file's name is part of the key"
    output = tmp_path / "results" / "thing" / "COMPLETE"
    stage(write_one, output, source, "--settings", argument)
    assert (output.parent / "rows.jsonl").read_text() == '{"number":7}\n'
    record = read_json(record_path(output.parent))["predicate"]["buildDefinition"]
    assert record["externalParameters"]["settings"] == {"number": 7}
    assert "found No such file" in fails(capsys, write_one, output, source, "--settings", "@none.json")


@pytest.mark.parametrize("content", ["", '{"number": 8}', "\0" * 99, '{"number": 7}'])
def test_a_slice_in_a_file_counts_with_its_own_bytes_alone(tmp_path, source, capsys, content):
    long = '{"number": 7' + " " * LONGEST + "}"
    argument, output = as_argument(long, tmp_path / "state"), tmp_path / "results" / "thing" / "COMPLETE"
    path = Path(argument[1:])
    path.write_text(content)
    line = fails(capsys, write_one, output, source, "--settings", argument)
    assert f"{path}, found others than its name tells; run the rule by Snakemake" in line
    assert as_argument(long, tmp_path / "state") == argument and path.read_text() == long
    stage(write_one, output, source, "--settings", argument)
