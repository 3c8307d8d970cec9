"""What a job on a Slurm cluster learns and does, and what comes before it is submitted; Slurm is simulated."""

import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from distill import launch, slurm
from distill.errors import DataError
from distill.files import write_json
from distill.slurm import (
    ClusterError,
    Walltime,
    check_executor,
    hide_key,
    longest_minutes,
    name_lost_nodes,
    pass_on_restarts,
)
from distill.study.load import load_study
from distill.study.submitted import check_submitted, note_submitted

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / "workflow"


@pytest.fixture
def scontrol(tmp_path, monkeypatch):
    """Puts a `scontrol` in front of all others; it runs a text of shell."""

    def answer(text: str) -> None:
        script = tmp_path / "bin" / "scontrol"
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}/bin{os.pathsep}/usr/bin")
    return answer


def test_jobs_inherit_no_key_and_a_process_of_this_machine_can_still_read_it():
    environ = {"THE_KEY": "sk-canary"}
    place = hide_key(environ, "THE_KEY")
    assert environ["THE_KEY"] and "sk-canary" not in str(environ)
    read = subprocess.run(["sh", "-c", f'printf %s "$(cat {place})"'], capture_output=True, text=True, check=True)
    assert read.stdout == "sk-canary"


@pytest.mark.parametrize("environ", [{}, {"THE_KEY": ""}])
def test_where_there_is_no_key_nothing_is_put_in_its_place(environ):
    assert hide_key(environ, "THE_KEY") is None and not environ.get("THE_KEY")


def test_the_count_of_restarts_reaches_the_step_whose_variables_were_dropped():
    batch = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "2"}
    pass_on_restarts(batch)
    step = {name: value for name, value in batch.items() if name != "SLURM_RESTART_COUNT"}
    pass_on_restarts(step)
    assert step["SLURM_RESTART_COUNT"] == "2"
    # A job that was submitted from within another one does not take that one's count.
    inner = step | {"SLURM_JOB_ID": "8"}
    del inner["SLURM_RESTART_COUNT"]
    pass_on_restarts(inner)
    again = dict(inner)
    pass_on_restarts(again)
    assert again["SLURM_RESTART_COUNT"] == "0"


PARTITIONS = """
echo 'PartitionName=short AllowGroups=ALL Default=NO MaxTime=00:30:00 MinNodes=0'
echo 'PartitionName=long Default=YES MaxTime=2-12:00:00'
echo 'PartitionName=free Default=NO MaxTime=UNLIMITED'
"""


@pytest.mark.parametrize(("partition", "minutes"), [("short", 30), ("long", 3600), (None, 3600), ("free", None)])
def test_a_partition_tells_the_longest_time_of_its_jobs(scontrol, partition, minutes):
    scontrol(PARTITIONS)
    assert longest_minutes(partition) == minutes


def test_without_slurm_nothing_limits_a_job(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert longest_minutes(None) is None


def test_an_executor_that_would_lose_results_or_wait_for_ever_is_refused(scontrol):
    scontrol("echo 'AccountingStorageType   = accounting_storage/none'")
    check_executor(None, "squeue")
    check_executor(None, None)
    with pytest.raises(ClusterError, match="expected squeue on a cluster without accounting, found sacct"):
        check_executor(None, "sacct")
    with pytest.raises(ClusterError, match="--default-storage-provider: .* found s3"):
        check_executor("s3", "squeue")
    scontrol("echo 'AccountingStorageType   = accounting_storage/slurmdbd'")
    check_executor(None, "sacct")
    scontrol("exit 1")
    with pytest.raises(ClusterError, match="expected its controller to answer"):
        check_executor(None, "sacct")


def show_job(minutes_ago: float, minutes_left: float) -> str:
    start, end = (datetime.now() + timedelta(minutes=minutes) for minutes in (-minutes_ago, minutes_left))
    return f"JobId=7 Restarts=0 StartTime={start:%Y-%m-%dT%H:%M:%S} EndTime={end:%Y-%m-%dT%H:%M:%S} Deadline=N/A"


@pytest.mark.parametrize(
    ("job", "pause"),
    [
        ((0, 600), 595 * 60),  # five minutes of a long job
        ((0, 8), 6 * 60),  # a quarter of a short one
        ((7, 1), 0),
    ],
)
def test_a_stop_is_asked_for_before_the_end_of_the_job(scontrol, monkeypatch, job, pause):
    pauses, asked = [], []
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(slurm, "time", SimpleNamespace(sleep=pauses.append, time=time.time))
    scontrol(f'[ "$*" = "--oneliner show job 7" ] && echo "{show_job(*job)}"')
    walltime = Walltime(asked.append)
    walltime.run()
    assert asked == [signal.SIGUSR1] and walltime.is_over
    assert pauses == [pytest.approx(pause, abs=20)]


def test_a_job_without_a_limit_is_not_stopped(scontrol, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    scontrol("echo 'JobId=7 StartTime=2026-01-01T00:00:00 EndTime=Unknown'")
    asked = []
    Walltime(asked.append).run()
    assert asked == []


WORK = """
import os, signal, sys
from pathlib import Path
def stop(number, frame):
    if sys.argv[1] == "saves":
        (Path(sys.argv[3]) / "train_run-1" / "state").write_text("whole")
    print("error: train_run: stopped", file=sys.stderr, flush=True)
    os._exit(128 + number)
signal.signal(signal.SIGUSR1, stop)
Path(sys.argv[3], "train_run-1").mkdir(parents=True)
Path(sys.argv[3], "train_run-1", "tries").write_text("1")
Path(sys.argv[3], "ready").touch()
while True:
    signal.pause()
"""


@pytest.mark.parametrize("saves", ["saves", "nothing"])
def test_a_job_whose_time_ends_is_started_again_where_it_saved_work(scontrol, tmp_path, saves):
    """Slurm, asked to start the job again, ends all its processes."""
    script, state = tmp_path / "train_run.py", tmp_path / "state"
    script.write_text(WORK)
    scontrol(
        f"""case "$*" in
        "requeue 7") echo "$*" > {tmp_path}/asked; kill -9 $PPID;;
        *) while [ ! -e {state}/ready ]; do sleep 0.05; done; echo '{show_job(9, 0)}';;
        esac"""
    )
    command = [sys.executable, "-m", "distill.launch", "--requeue", "1"]
    command += [sys.executable, "-S", str(script), saves, "--state", str(state)]
    environment = os.environ | {"PYTHONPATH": str(WORKFLOW), "SLURM_JOB_ID": "7"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if saves == "saves":
        assert (tmp_path / "asked").read_text() == "requeue 7\n" and done.returncode == -signal.SIGKILL
    else:
        assert not (tmp_path / "asked").exists() and done.returncode == 2
        assert "error: train_run: runtime: expected enough to save some work" in done.stderr.splitlines()[-1]


def test_what_other_jobs_remove_while_a_job_looks_for_its_saved_work_ends_nothing(tmp_path, monkeypatch):
    for name in ("train_run-1", "train_run-2"):
        write_json(tmp_path / name / "saved" / "state.json", {})
    scan = os.scandir

    def remove_first(path):
        if Path(path).name == "saved":
            monkeypatch.setattr(os, "scandir", scan)
            shutil.rmtree(path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", remove_first)
    assert len(launch._saved("train_run", ["--state", str(tmp_path)])) == 1


def test_a_job_runs_the_code_and_config_that_it_was_planned_with(tmp_path):
    for name in ("Snakefile", "workflow/rules/common.smk", "envs/cpu.lock"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    environ, study = {}, load_study({})
    check_submitted(study, tmp_path, environ)  # nobody submitted it
    note_submitted(study, tmp_path, environ)
    check_submitted(study, tmp_path, environ)
    with pytest.raises(DataError, match="found them changed since"):
        check_submitted(load_study({"seed": study.seed + 1}), tmp_path, environ)
    (tmp_path / "workflow/rules/common.smk").write_text("other")
    with pytest.raises(DataError, match="found them changed since"):
        check_submitted(study, tmp_path, environ)


def test_what_sacct_says_of_no_node_keeps_no_later_job_from_being_submitted():
    class Executor:
        def __post_init__(self, test_mode=False):
            self._failed_nodes = {"node7"} if test_mode else set()

    name_lost_nodes(Executor)
    (executor := Executor()).__post_init__(test_mode=True)
    for name in ("None assigned", "", "gpu-[1,3-4]", "node2.site"):
        executor._failed_nodes.add(name)
    assert executor._failed_nodes == {"node7", "gpu-[1,3-4]", "node2.site"}
