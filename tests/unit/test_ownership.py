"""One process at a time makes an artifact; who finds it owned waits, succeeds the dead, or names the owner."""

import json
import os
import stat
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from distill.__main__ import main
from distill.config.base import Section
from distill.errors import DataError
from distill.files import CARD, digest_file, read_json, write_json, write_jsonl
from distill.meeting import MEETING
from distill.pieces import Share
from distill.provenance import ownership
from distill.provenance.ownership import OWNERS, current_owner, has_begun, lives, own, this_process
from distill.provenance.record import record_path
from distill.provenance.stage import Job, run_stage

GONE = 2**22 + 1  # no process has an id above the kernel's limit


def elsewhere(**changes):
    """Returns an owner on another machine, without a scheduler."""
    changes = {"host": "node7", "machine": "", "boot": "b", "namespace": "n", "job": ""} | changes
    return replace(this_process("results/thing"), **changes)


def hold(root: Path, owner, number: int = 1) -> Path:
    """Writes down an owner as its process would."""
    folder = root / OWNERS / "place" / str(number)
    folder.mkdir(parents=True)
    write_json(folder / "owner.json", asdict(owner))
    return folder.parent


@pytest.fixture
def looks(monkeypatch):
    """Counts the waits instead of waiting; `at(n, act)` does something at the n-th."""
    found, acts = [], {}

    def sleep(seconds):
        found.append(seconds)
        assert len(found) < 50, "waits for ever"
        acts.get(len(found), lambda: None)()

    monkeypatch.setattr(ownership.time, "sleep", sleep)
    found_at = lambda number, act: acts.update({number: act})  # noqa: E731
    return type("Looks", (), {"at": staticmethod(found_at), "count": property(lambda self: len(found))})()


def test_a_place_is_free_again_after_its_owner(tmp_path):
    own(tmp_path, "place", "one").release()
    own(tmp_path, "place", "two")
    assert current_owner(tmp_path / OWNERS / "place").work == "two"


def test_who_finds_a_living_owner_waits_and_says_for_whom(tmp_path, looks, capsys):
    first = own(tmp_path, "place", "results/thing")
    looks.at(3, first.release)
    own(tmp_path, "place", "results/thing").release()
    assert looks.count == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"waits for process {os.getpid()} on ") and "results/thing" in line and "every 2 s" in line


def test_a_dead_owner_is_succeeded(tmp_path, looks):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = replace(this_process(""), process=child.pid, start=ownership._start_of(child.pid))
    assert lives(owner) and not lives(replace(owner, start=owner.start + 1)), "another process has its id"
    hold(tmp_path, owner)

    def kill():
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, but its parent has not yet noticed

    looks.at(1, kill)
    own(tmp_path, "place", "mine")
    child.communicate()
    assert looks.count == 1 and current_owner(tmp_path / OWNERS / "place").work == "mine"


def test_a_number_that_a_kill_left_without_a_name_holds_nobody_up_for_long(tmp_path, looks):
    (tmp_path / OWNERS / "place" / "7").mkdir(parents=True)
    own(tmp_path, "place", "mine")
    assert looks.count == 5
    assert [path.name for path in (tmp_path / OWNERS / "place").iterdir()] == ["8"]


def test_of_two_who_find_an_owner_dead_one_succeeds_it(tmp_path, looks, monkeypatch):
    """The slow one had looked before the quick one took the place over, and even before a third did."""
    place = hold(tmp_path, replace(this_process(""), process=GONE))
    original, third = ownership.lives, []

    def slow(owner):
        monkeypatch.setattr(ownership, "lives", original)
        own(tmp_path, "place", "quick").release()
        third.append(own(tmp_path, "place", "third"))
        return False

    monkeypatch.setattr(ownership, "lives", slow)
    looks.at(2, lambda: third[0].release())
    own(tmp_path, "place", "slow")
    assert looks.count == 2 and current_owner(place).work == "slow"


def test_who_is_taken_for_dead_while_it_writes_its_name_gives_way(tmp_path, looks, monkeypatch):
    """A disk that takes longer for the name than the others wait for one."""
    write, quick = ownership.write_json, []

    def slow(path, value):
        monkeypatch.setattr(ownership, "write_json", write)
        quick.append(own(tmp_path, "place", "quick"))
        write(path, value)

    monkeypatch.setattr(ownership, "write_json", slow)
    looks.at(7, lambda: quick[0].release())
    own(tmp_path, "place", "slow")
    assert looks.count == 7 and current_owner(tmp_path / OWNERS / "place").work == "slow"


def test_an_owner_on_another_machine_is_named_with_the_command_that_releases_it(tmp_path, capsys):
    place = hold(tmp_path, elsewhere(process=4711))
    with pytest.raises(DataError) as refused:
        own(tmp_path, "place", "mine")
    message = str(refused.value)
    assert "found process 4711 on node7, of which nothing is known here" in message
    command = message.split("`")[1].removeprefix("python -m distill ").split()
    assert main(command) == 0 and "released: process 4711 on node7" in capsys.readouterr().out
    own(tmp_path, "place", "mine")
    assert main(["release", str(tmp_path)]) == 1, "a living owner stays"
    assert current_owner(place).work == "mine" and main(["release", str(tmp_path / "nowhere")]) == 2


def test_a_machine_that_started_anew_has_no_process_of_before(monkeypatch):
    own_machine = {"machine": "m", "host": "node7"}
    monkeypatch.setattr(ownership, "this_process", lambda work: elsewhere(boot="c", **own_machine))
    assert lives(elsewhere(**own_machine)) is False
    assert lives(elsewhere(**own_machine | {"host": "node8"})) is None
    assert lives(elsewhere(**own_machine | {"machine": ""})) is None
    # A container's process ids are its own, whatever its kernel.
    assert lives(elsewhere(boot="c", namespace="other", **own_machine)) is None


SCONTROL = """#!/bin/sh
[ "$*" = "show job 77" ] || exit 9
{answer}
"""


@pytest.mark.parametrize(
    ("answer", "alive"),
    [
        ("echo 'JobId=77 JobName=x Requeue=1 Restarts=1 JobState=RUNNING Reason=None'", True),
        ("echo 'JobId=77 Restarts=1 JobState=COMPLETING'", True),
        ("echo 'JobId=77 Restarts=2 JobState=RUNNING'", False),
        ("echo 'JobId=77 Restarts=1 JobState=PENDING'", False),
        ("echo 'JobId=77 Restarts=1 JobState=COMPLETED'", False),
        ("echo 'JobId=77 Restarts=1 JobState=NODE_FAIL'", False),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", False),
        ("echo 'Unable to contact slurm controller' >&2; exit 1", None),
        (None, None),
    ],
    ids=["runs", "ends", "started again", "waits again", "ended", "node died", "forgotten", "no answer", "no Slurm"],
)
def test_a_job_of_slurm_on_another_host_is_asked_for(tmp_path, monkeypatch, answer, alive):
    if answer:
        script = tmp_path / "scontrol"
        script.write_text(SCONTROL.format(answer=answer))
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep + "/bin:/usr/bin" * bool(answer))
    assert lives(elsewhere(job="77", restart=1)) is alive


def test_what_slurm_says_of_this_process_is_written_down(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    owner = this_process("")
    assert (owner.job, owner.restart) == ("77", 2) and str(owner).startswith(
        f"process {os.getpid()} of Slurm job 77 on "
    )


def test_further_processes_of_a_job_wait_for_the_first_of_their_own(tmp_path, monkeypatch):
    assert has_begun(tmp_path, "place") is False
    monkeypatch.setenv(MEETING, "a")
    first = own(tmp_path, "place", "x")
    assert has_begun(tmp_path, "place") is False, "it may still find the work done"
    first.begin()
    assert has_begun(tmp_path, "place") is True
    for name, other in ((MEETING, "b"), ("SLURM_RESTART_COUNT", "1")):
        with monkeypatch.context() as another_job:
            another_job.setenv(name, other)
            assert has_begun(tmp_path, "place") is False
    first.release()
    assert has_begun(tmp_path, "place") is None


class Settings(Section):
    number: int = 1


def test_a_further_process_enters_a_state_folder_once_the_first_has_removed_what_a_kill_left(tmp_path, monkeypatch):
    started, looks = own(tmp_path, "job", "x"), []
    started.begin()
    made = (tmp_path / "made", "code", "lock", tmp_path, 1.0)
    first, further = (Job("make", Settings(), {}, *made, share=Share(rank, 2), place="job") for rank in range(2))
    folder = first.state(key=1)
    left_over = folder / "part.tmp-77-0123abcd"
    left_over.touch()
    for owned in first.owned.values():
        owned.release()
    first.owned.clear()

    def sleep(_):
        looks.append(left_over.exists())
        assert first.state(key=1) == folder

    monkeypatch.setattr(time, "sleep", sleep)
    assert further.state(key=1) == folder
    assert looks == [True] and not left_over.exists()


def test_a_further_process_ends_where_the_first_has_done_all(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["workflow/scripts/make_thing.py"])
    monkeypatch.setenv(MEETING, "a")
    output, state, places = tmp_path / "results" / "thing" / "COMPLETE", tmp_path / "results" / ".state", []

    def first(job):
        places.append(job.place)
        write_jsonl(job.output / "rows.jsonl", [{}])

    def further(job):
        owned.release()
        job.state(of=1)
        raise AssertionError("nothing is left to do")

    def start(work):
        arguments = ["--output", str(output), "--state", str(state)]
        run_stage(work, "A stage.", inputs=(), settings=Settings, arguments=arguments)

    start(first)
    owned = own(state, *places, "x")
    owned.begin()
    monkeypatch.setenv("RANK", "1")
    before = sorted(tmp_path.rglob("*"))
    start(further)
    assert [path for path in sorted(tmp_path.rglob("*")) if path not in before] == [
        state / OWNERS / places[0] / "2" / "free"
    ]


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """Runs a stage that writes its number, and counts how often it works."""
    monkeypatch.setattr(sys, "argv", ["workflow/scripts/make_thing.py"])
    output, worked = tmp_path / "results" / "thing" / "COMPLETE", []

    def work(job):
        worked.append(job.settings.number)
        state = job.state(of=1)
        write_json(state / "step.json", 1)
        write_jsonl(job.output / "deep" / "rows.jsonl", [{"number": job.settings.number}])
        job.spent.append(state)

    def tell(folder, settings):
        (folder / CARD).write_text(f"It says {settings.number}.")

    def run(number: int = 1):
        arguments = ["--output", str(output), "--state", str(tmp_path / "results" / ".state")]
        arguments += ["--settings", json.dumps({"number": number})]
        run_stage(work, "A stage.", inputs=(), settings=Settings, beside=tell, arguments=arguments)
        return output.parent

    run.worked = worked
    return run


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def forget(folder: Path) -> None:
    """Takes away what Snakemake deletes before it tries a job again."""
    (folder / "COMPLETE").unlink()
    record_path(folder).unlink()


def test_a_finished_output_is_accepted_and_not_made_again(stage):
    folder = stage()
    before, record = bytes_of(folder), read_json(record_path(folder))
    forget(folder)
    stage()
    after = read_json(record_path(folder))
    assert stage.worked == [1] and bytes_of(folder) == before
    forget(folder)
    (folder / CARD).unlink()
    stage()
    assert stage.worked == [1] and bytes_of(folder) == before, "its card is written again"
    details = after["predicate"]["runDetails"]
    assert (details["tries"], details["resumed"]) == (2, True)
    details |= {"tries": 1, "resumed": False}
    assert after == record


def test_a_group_of_another_launcher_is_not_waited_for(stage, monkeypatch):
    """Pods of cloud services tell each process of a rank."""
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("waits for a first process that is not there"))
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    stage()
    assert stage.worked == [1]


def change(folder):
    (folder / "deep" / "rows.jsonl").write_text('{"number":2}\n')


def take_away(folder):
    (folder / "deep" / "rows.jsonl").unlink()


def add(folder):
    (folder / "more").write_text("x")


def damage_receipt(folder):
    (path,) = (folder.parent / ".state" / "receipts").iterdir()
    path.write_text(path.read_text().replace('"tries": 1', '"tries": 7'))


def cut_receipt(folder):
    (path,) = (folder.parent / ".state" / "receipts").iterdir()
    path.write_text(path.read_text()[:-20])


@pytest.mark.parametrize("damage", [change, take_away, add, damage_receipt, cut_receipt])
def test_what_is_not_whole_is_made_again(stage, damage):
    folder = stage()
    before = bytes_of(folder)
    forget(folder)
    damage(folder)
    stage()
    assert stage.worked == [1, 1] and bytes_of(folder) == before
    assert digest_file(folder / "COMPLETE") == read_json(record_path(folder))["subject"][0]["digest"]["sha256"]


def test_another_key_is_another_output_and_takes_the_place_of_the_receipt(stage):
    folder = stage(1)
    stage(2)
    stage(1)
    assert stage.worked == [1, 2, 1]
    assert len(list((folder.parent / ".state" / "receipts").iterdir())) == 1


def test_state_goes_once_the_receipt_is_there_and_not_before(stage, monkeypatch):
    """A kill between the two leaves both; the next start accepts the output and takes the state away."""
    written = []

    def die(folder, *_, **__):
        if folder.name.startswith("make_thing-"):
            written.extend((folder.parent / "receipts").iterdir())
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("distill.provenance.stage.shutil.rmtree", die)
        stage()
    assert len(written) == 1
    states = lambda: [path for path in written[0].parents[1].glob("make_thing-*/step.json")]  # noqa: E731
    assert len(states()) == 1
    folder = stage()
    assert stage.worked == [1] and states() == [] and (folder / "COMPLETE").is_file()


def test_who_waited_takes_what_was_made(stage, monkeypatch):
    """Two starts of one stage: the second comes while the first works, and computes nothing."""
    folder = stage()
    root = folder.parent / ".state"
    (name,) = [path.stem for path in (root / "receipts").iterdir()]
    first = own(root, name, "the first")
    monkeypatch.setattr(ownership.time, "sleep", lambda seconds: first.release())
    stage()
    assert stage.worked == [1]


def test_a_stage_frees_its_places_when_it_fails(stage, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("distill.provenance.stage.seal_folder", lambda folder: 1 / 0)
    for _ in range(2):
        with pytest.raises(SystemExit):
            stage()
    owners = tmp_path / "results" / ".state" / OWNERS
    assert all(current_owner(place) is None for place in owners.iterdir()) and "waits" not in capsys.readouterr().err
