"""GPUs lent to one job at a time: who gets which, who waits, and when a killed job's come free. All are simulated."""

import os
import signal
import stat
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from distill.lease import devices

WORKFLOW = Path(__file__).parents[2] / "workflow"
HOLDS = "import os, sys; print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True); sys.stdin.read()"
# Its worker inherits the standard input alone, as those of multiprocessing inherit nothing of the lease.
LAUNCH = [sys.executable, "-S", "-m", "distill.launch", "--gpus"]
MIG = "MIG-377e0049-554c-540b-93c6-d0976f8426cb"
WITH_WORKER = """
import os, subprocess, sys, threading
worker = subprocess.Popen([sys.executable, "-S", "-c", "import sys; sys.stdin.read()"])
print(os.getpid(), worker.pid, flush=True)
threading.Event().wait()
"""
TELLS = """
try:
    lives = open("/proc/{}/stat").read().rpartition(")")[2].split()[0] not in "ZX"
except OSError:
    lives = False
print("it lives" if lives else "it is gone")
"""
LISTED = """
GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-52a3a85d-3c55-ca3a-a955-82c69ed360fc)
  MIG 3g.40gb     Device  0: (UUID: MIG-377e0049-554c-540b-93c6-d0976f8426cb)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-64b90baa-0cf1-11f1-857b-fd56668b7053)
"""


@pytest.fixture
def tool(tmp_path):
    """A folder with an nvidia-smi that lists two GPUs."""
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "nvidia-smi"
    script.write_text(f"#!/bin/sh\ncat <<'END'{LISTED}END\n")
    script.chmod(0o755)
    return f"{script.parent}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture
def start(tmp_path):
    """Starts a command with so many GPUs, messages and output together; all that live are killed after the test."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    kept |= {"PYTHONPATH": str(WORKFLOW), "DISTILL_LEASES": str(tmp_path / "locks")}
    with ExitStack() as stack:

        def begin(gpus, text=HOLDS, visible="0,1", umask=-1, **environment):
            process = subprocess.Popen(
                [*LAUNCH, str(gpus), "1", sys.executable, "-S", "-c", text],
                env=kept | {"CUDA_VISIBLE_DEVICES": visible} | environment,
                umask=umask,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            stack.callback(process.stdin.close)
            return process

        yield begin


def said(process):
    return process.stdout.readline().strip()


def ends(process, code=0):
    """Lets a job end; returns what else it said."""
    process.stdin.close()
    rest = process.stdout.read()
    assert process.wait() == code, rest
    return rest


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        (None, ["0", "1"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("5", ["5"]),
        ("1, 0", ["1", "0"]),
        ("2,-1,3", ["2"]),
        ("0,0", ["0"]),
        (
            "GPU-64b90baa,MIG-377e0049-554c-540b-93c6-d0976f8426cb",
            ["GPU-64b90baa", "MIG-377e0049-554c-540b-93c6-d0976f8426cb"],
        ),
    ],
)
def test_a_variable_that_is_set_bounds_the_devices_else_the_tool_lists_them(tool, monkeypatch, visible, found):
    monkeypatch.setenv("PATH", tool)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices() == found


@pytest.mark.parametrize("text", [None, "exit 9"], ids=["no tool", "a tool without a driver"])
def test_without_the_tool_the_driver_shows_how_many_there_are(tmp_path, monkeypatch, text):
    if text:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("distill.lease._DRIVER", driver := tmp_path / "gpus")
    assert devices() == []
    for bus in ("0000:65:00.0", "0000:66:00.0", "0000:b5:00.0"):
        (driver / bus).mkdir(parents=True)
    assert devices() == ["0", "1", "2"]


def test_each_job_has_devices_of_its_own_and_one_too_many_waits(start):
    first, second = start(1, visible="3,5"), start(1, visible="3,5")
    assert {said(first), said(second)} == {"3", "5"}
    third = start(2, visible="3,5")
    assert said(third) == "waits for 2 of the GPUs 3,5: 3 is lent; 5 is lent"
    ends(first)
    ends(second)
    assert said(third) == "3,5"
    ends(third)


def test_a_job_of_two_devices_keeps_the_first_that_it_gets(start):
    small = start(1)
    assert said(small) == "0"
    large = start(2)
    assert said(large) == "waits for 2 of the GPUs 0,1: 0 is lent"
    other, later = start(2), start(1)
    assert said(other) == "waits for 2 of the GPUs 0,1: another job gathers"
    assert said(later) == "waits for 1 of the GPUs 0,1: 0 is lent; 1 is lent"
    for job in (large, other, later):
        job.stdin.close()
    ends(small)
    assert said(large) == said(other) == "0,1" and said(later) in {"0", "1"}
    assert [job.wait() for job in (large, other, later)] == [0, 0, 0]


def test_more_than_there_are_is_one_line(start):
    text = ends(start(3), code=2)
    assert text.startswith("error: ") and text.count("\n") == 1
    assert "expected 3 for this job, found 2 (0,1); lower" in text


def test_a_folder_that_cannot_hold_locks_is_one_line(start, tmp_path):
    (file := tmp_path / "file").touch()
    text = ends(start(1, DISTILL_LEASES=str(file)), code=2)
    assert text.startswith("error: ") and text.count("\n") == 1
    assert f"{file}: expected a folder for the locks of GPUs, found Not a directory; name one" in text


def test_who_waits_can_be_stopped(start):
    first = start(1, visible="0")
    assert said(first) == "0"
    second = start(1, visible="0")
    assert "is lent" in said(second)
    second.terminate()
    text = ends(second, code=143)
    assert text.startswith("error: ") and "stopped by SIGTERM; " in text and text.count("\n") == 1


def test_a_killed_holders_device_is_free_when_its_workers_are_gone(start):
    """The child dies with its holder; the worker closed what it inherited, and lives."""
    first = start(1, WITH_WORKER, visible="0")
    _, worker = said(first).split()
    first.kill()
    first.wait()
    second = start(1, TELLS.format(worker), visible="0")
    assert said(second) in (  # the child may take a moment to die
        "waits for 1 of the GPUs 0: 0 is lent",
        f"waits for 1 of the GPUs 0: 0 is used by process {worker}, whose job was killed",
    )
    first.stdin.close()  # what the worker waits for
    assert said(second) == "it is gone"


def test_a_killed_childs_device_is_free_when_its_workers_are_gone(start):
    first = start(1, WITH_WORKER, visible="0")
    child, worker = map(int, said(first).split())
    os.kill(child, signal.SIGKILL)
    second = start(1, TELLS.format(worker), visible="0")
    assert said(second) == "waits for 1 of the GPUs 0: 0 is lent"
    assert "ended by SIGKILL" in ends(first, code=137)
    assert said(second) == "it is gone"


def test_what_a_job_leaves_behind_does_not_keep_its_device_for_ever(tmp_path):
    text = """
import os, subprocess, sys
from distill import lease
lease._PATIENCE_S = 0
with lease.leased(1):
    subprocess.run(["sh", "-c", "sleep 1000 & echo $!"], check=True)
"""
    environment = {"PYTHONPATH": str(WORKFLOW), "CUDA_VISIBLE_DEVICES": "0", "DISTILL_LEASES": str(tmp_path / "locks")}
    command = [sys.executable, "-S", "-c", text]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
    assert not Path(f"/proc/{done.stdout.strip()}").exists()


def test_a_uuid_and_a_number_of_the_same_device_are_one(start, tool):
    first = start(1, visible="1", PATH=tool)
    assert said(first) == "1"
    second = start(1, visible="GPU-64b90baa", PATH=tool)
    assert said(second) == "waits for 1 of the GPUs 1: 1 is lent"
    ends(first)
    assert said(second) == "GPU-64b90baa"
    ends(second)


def test_each_slurm_job_and_step_has_devices_of_its_own(start):
    jobs = [{"SLURM_JOB_ID": "7"}, {"SLURM_JOB_ID": "8"}, {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"}]
    running = [start(1, visible="0", **job) for job in jobs]
    assert [said(job) for job in running] == ["0"] * 3
    same = start(1, visible="0", **jobs[0])
    assert "is lent" in said(same)
    ends(running[0])
    assert said(same) == "0"
    for job in (same, *running[1:]):
        ends(job)


def test_all_users_of_a_machine_can_share_the_locks(start, tmp_path):
    """Also behind a user whose new files are private."""
    job = start(1, umask=0o077)
    said(job)
    ends(job)
    assert stat.S_IMODE((tmp_path / "locks").stat().st_mode) == 0o1777
    assert stat.S_IMODE((tmp_path / "locks" / "0").stat().st_mode) == 0o644


def test_one_process_alone_is_no_group(start):
    text = """
import os, sys
print(sorted({"RANK", "LOCAL_RANK", "WORLD_SIZE", "DISTILL_MEETING"} & {*os.environ}), os.environ["CUDA_DEVICE_ORDER"])
sys.stdin.read()
"""
    assert ends(start(1, text)) == "[] PCI_BUS_ID\n"
