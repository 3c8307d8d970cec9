"""Jobs of a Slurm cluster: what the Snakemake that submits them does before, and what a job learns of itself.

Two habits of Slurm's executor plugin stand behind it. It submits with `--export=ALL`, so all that stands in the
submitting environment lies in Slurm's state and in each job. And it drops most variables of Slurm before it starts the
job's one step.
"""

import os
import platform
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from distill.errors import DistillError

JOB, RESTARTS = "SLURM_JOB_ID", "SLURM_RESTART_COUNT"
_PASSED = "DISTILL_SLURM_RESTARTS"
_RESERVE_S, _SHARE = 300.0, 0.25
"""What a job keeps of its time to save and end: so many seconds, or of a short one this share."""
_PATIENCE_S = 120.0  # what Slurm gets to end a job that it starts again
_RETRY_S = 20.0


class ClusterError(DistillError):
    """A cluster is set up, or asked for, in a way that loses work."""


def _scontrol(*arguments: str) -> str | None:
    """Returns what Slurm answers; None where it refuses or cannot be asked."""
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(["scontrol", *arguments], capture_output=True, text=True, timeout=60, check=True)
        return done.stdout
    return None


def hide_key(environ: MutableMapping[str, str], name: str) -> str | None:
    """Takes a secret out of an environment that jobs will inherit; what is left there says where it went.

    Returns:
        The file that holds it as long as this process lives, in memory alone, for processes of the same user on this
        machine; None where the variable is not set.
    """
    if not environ.get(name):
        return None
    descriptor = os.memfd_create("key")
    os.write(descriptor, environ[name].encode())
    environ[name] = f"kept by process {os.getpid()} on {platform.node()}"
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def check_executor(storage: str | None, status_command: str | None) -> None:
    """Refuses what loses results or waits for ever.

    Args:
        storage: Snakemake's default storage provider.
        status_command: with which Slurm's executor asks for its jobs; None for other executors.
    """
    if storage:
        raise ClusterError(
            f"--default-storage-provider: expected results on a file system that all nodes share, found {storage}, "
            "which would carry the manifests of the artifacts and none of their files; leave it out"
        )
    if status_command == "sacct":
        if (found := _scontrol("show", "config")) is None:
            raise ClusterError("Slurm: expected its controller to answer `scontrol show config`, found none; try later")
        if re.search(r"^AccountingStorageType\s*=\s*(accounting_storage/none|\(null\))", found, re.MULTILINE):
            raise ClusterError(
                "slurm-status-command: expected squeue on a cluster without accounting, found sacct, which would never "
                "tell of a job's end; add --slurm-status-command squeue, or set it in the profile"
            )


class _Names(set[str]):
    """Nodes; what is no name is not taken."""

    def add(self, name: str) -> None:
        if re.fullmatch(r"[\w.,\[\]-]+", name):
            super().add(name)


def name_lost_nodes(executor: Any) -> None:
    """Lets Slurm's executor keep the names of lost nodes alone.

    Of a job that waits after its node was lost sacct says `None assigned`. The plugin (issue 485, up to 2.8.0) takes
    that for a node and puts it into each later `sbatch --exclude`, which then fails.

    Args:
        executor: the plugin's class.
    """
    begin = executor.__post_init__

    def begin_with_names(self: Any, *arguments: Any, **options: Any) -> None:
        begin(self, *arguments, **options)
        self._failed_nodes = _Names(self._failed_nodes)

    executor.__post_init__ = begin_with_names


def longest_minutes(partition: str | None) -> int | None:
    """Returns the longest time that a partition allows a job; None where it sets no limit, or Slurm cannot be asked.

    Args:
        partition: its name; None stands for the cluster's default.
    """
    for line in (_scontrol("--oneliner", "show", "partition") or "").splitlines():
        found = dict(re.findall(r"(\S+?)=(\S+)", line))
        is_it = found.get("Default") == "YES" if partition is None else found.get("PartitionName") == partition
        if is_it and (limit := re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", found.get("MaxTime", ""))):
            days, hours, minutes, _ = (int(number or 0) for number in limit.groups())
            return (24 * days + hours) * 60 + minutes
    return None


def pass_on_restarts(environ: MutableMapping[str, str]) -> None:
    """Carries, within a job, the count of its restarts past the plugin, which drops it before the job's step.

    Who compares owners of a place needs it (`provenance.ownership`): a job that was started again is another owner.
    """
    if not (job := environ.get(JOB)):
        return
    passed, _, count = environ.get(_PASSED, "").partition(".")
    if passed == job:
        environ.setdefault(RESTARTS, count)
    else:
        environ[_PASSED] = f"{job}.{environ.get(RESTARTS) or 0}"


def meeting_point() -> str:
    """Returns where the processes of this job's nodes meet: `tcp://` address of the first node, a port by the job's id.

    Raises:
        ClusterError: Slurm does not tell.
    """
    job = os.environ.get(JOB, "")
    shown = _scontrol("--oneliner", "show", "job", job) or ""
    nodes = re.search(r"\bNodeList=(\S+)", shown)
    names = (_scontrol("show", "hostnames", nodes[1]) or "").split() if nodes else []
    address = re.search(r"\bNodeAddr=(\S+)", _scontrol("show", "node", names[0]) or "") if names else None
    if not address:
        raise ClusterError(f"deepspeed.nodes: expected Slurm to name the nodes of job {job or 'none'}, found none")
    return f"tcp://{address[1]}:{20000 + int(job) % 20000}"


def on_each_node(nodes: int, gpus: int) -> list[str]:
    """Returns the words before a command that this job runs once on each of its nodes, with so many GPUs there.

    They say all that the plugin has dropped of the job's environment.
    """
    command = ["srun", f"--jobid={os.environ.get(JOB, '')}", f"--nodes={nodes}", f"--ntasks={nodes}"]
    command += ["--ntasks-per-node=1", "--kill-on-bad-exit=1", "--cpu-bind=none"]
    return [*command, f"--gres=gpu:{gpus}"] if gpus else command


def requeue() -> None:
    """Gives this process's job back to Slurm, which ends it and starts it again with the whole of its time.

    Returns only where Slurm refuses, or takes too long.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # what Slurm sends to end the job must not keep it from being asked
    if _scontrol("requeue", os.environ[JOB]) is not None:
        time.sleep(_PATIENCE_S)


class Walltime(threading.Thread):
    """Asks for a stop some time before the end of this process's job.

    Attributes:
        is_over: whether it has asked.
    """

    def __init__(self, ask: Callable[[int], None]):
        super().__init__(daemon=True)
        self.is_over = False
        self._ask = ask

    def run(self) -> None:
        while (answer := _scontrol("--oneliner", "show", "job", os.environ[JOB])) is None:
            time.sleep(_RETRY_S)
        start, end = (re.search(rf"\b{name}Time=(\d\S+)", answer) for name in ("Start", "End"))
        if not (start and end):  # no limit
            return
        first, last = (datetime.fromisoformat(found[1]).timestamp() for found in (start, end))
        time.sleep(max(last - min(_RESERVE_S, _SHARE * (last - first)) - time.time(), 0))
        self.is_over = True
        self._ask(signal.SIGUSR1)
