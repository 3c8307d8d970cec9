"""One owner a place: two processes never make one artifact, nor work in one state folder, at the same time.

They meet where Snakemake was killed alone and started again, where two clones share a results folder, or where Slurm
starts a job again. Locks do not hold on every network file system; `mkdir` of one name succeeds once on all of them. A
place is owned through `STATE/owners/PLACE/NUMBER/`, the highest number being the owner's. Who finds the owner dead
makes the next number, so that two who find it dead do not both succeed it; a number is not used again.
"""

import os
import platform
import re
import secrets
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from distill.errors import DataError
from distill.files import read_json, write_json
from distill.meeting import MEETING

OWNERS = "owners"
POLL_SECONDS = 2.0
"""How often one who waits looks again."""
_NAME, _FREE, _BEGUN = "owner.json", "free", "begun"
_OF_JOB = ("launch", "cluster", "job", "restart")
"""What all processes of a job agree in, and those of no other; a Slurm job that starts again meets where it met."""
_UNNAMED_LOOKS = 5
"""Looks after which a number without a name counts as left by a kill between its making and its naming."""
_RUNNING = {"RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT"}
"""States of a Slurm job whose processes may live."""


@dataclass(frozen=True)
class Owner:
    """A process, named so that others can tell whether it lives.

    Attributes:
        work: what it makes.
        token: tells two processes apart that agree in all else.
        host: name of the machine, as people know it.
        machine: the machine's own id; empty where the system has none.
        boot: id of the boot of its kernel.
        namespace: within it process ids mean the same; a container has one of its own.
        process: process id.
        start: when the process started, in the kernel's ticks since its boot.
        launch: where all processes of a job meet, as `distill.launch` tells them; empty for one alone.
        cluster, job, restart: of Slurm; empty without it.
    """

    work: str
    token: str
    host: str
    machine: str
    boot: str
    namespace: str
    process: int
    start: int
    launch: str
    cluster: str
    job: str
    restart: int

    def __str__(self) -> str:
        job = f" of Slurm job {self.job}" if self.job else ""
        return f"process {self.process}{job} on {self.host}"


def _read(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text(encoding="utf-8").strip()
    return ""


def _start_of(process: int) -> int | None:
    """Returns a process's start; None if it is gone, or has ended and only waits to be noticed."""
    text = _read(f"/proc/{process}/stat")
    fields = text[text.rfind(")") + 2 :].split()  # the name before may hold anything
    return int(fields[19]) if len(fields) > 19 and fields[0] not in "ZX" else None


def this_process(work: str) -> Owner:
    """Returns the calling process as an owner."""
    namespace = ""
    with suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    return Owner(
        work=work,
        token=secrets.token_hex(8),
        host=platform.node(),
        machine=_read("/etc/machine-id"),
        boot=_read("/proc/sys/kernel/random/boot_id"),
        namespace=namespace,
        process=os.getpid(),
        start=_start_of(os.getpid()) or 0,
        launch=os.environ.get(MEETING, ""),
        cluster=os.environ.get("SLURM_CLUSTER_NAME", ""),
        job=os.environ.get("SLURM_JOB_ID", ""),
        restart=int(os.environ.get("SLURM_RESTART_COUNT") or 0),
    )


def _is_slurm_job_running(owner: Owner) -> bool | None:
    """Asks Slurm whether an owner's job, not started again since, may have processes; None if it cannot be asked."""
    command = ["scontrol", "show", "job", owner.job]
    if owner.cluster:
        command[1:1] = ["--cluster", owner.cluster]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if "invalid job id" in done.stderr.lower():  # Slurm forgets a job some minutes after its end
        return False
    state, restarts = re.search(r"\bJobState=(\w+)", done.stdout), re.search(r"\bRestarts=(\d+)", done.stdout)
    if done.returncode != 0 or not state:
        return None
    return state[1] in _RUNNING and int(restarts[1] if restarts else 0) == owner.restart


def lives(owner: Owner) -> bool | None:
    """Returns whether an owner's process lives; None if that cannot be known from here."""
    here = this_process("")
    if owner.boot and (owner.boot, owner.namespace) == (here.boot, here.namespace):
        return _start_of(owner.process) == owner.start
    if owner.job:
        return _is_slurm_job_running(owner)
    # The same machine has started again since.
    rebooted = owner.machine and owner.boot != here.boot and (owner.machine, owner.host) == (here.machine, here.host)
    return False if rebooted else None


def _numbers(place: Path) -> list[int]:
    with suppress(FileNotFoundError):  # of a place that its owner has removed
        return sorted(int(path.name) for path in place.iterdir() if path.name.isdecimal())
    return []


def read_owner(path: Path) -> Owner | None:
    """Returns who is named in a file; None if nobody is, or not as this version names owners."""
    with suppress(DataError, TypeError, KeyError):
        found = read_json(path)
        return Owner(**{field.name: found[field.name] for field in fields(Owner)})
    return None


def current_owner(place: Path) -> Owner | None:
    """Returns who owns a place, living or not; None if nobody does."""
    numbers = _numbers(place)
    last = place / str(numbers[-1]) if numbers else None
    return None if last is None or (last / _FREE).exists() else read_owner(last / _NAME)


def release(place: Path) -> None:
    """Makes a place free, whoever owns it."""
    for number in _numbers(place):
        (place / str(number) / _FREE).touch()


def forget(root: Path, name: str) -> None:
    """Removes all that is known of a place that its owner has removed."""
    shutil.rmtree(root / OWNERS / name, ignore_errors=True)


class Owned:
    """A place that this process owns, until `release`."""

    def __init__(self, folder: Path):
        self._folder = folder

    def begin(self) -> None:
        """Tells the other processes of a job that the first one has the place and goes on to work."""
        (self._folder / _BEGUN).touch()

    def release(self) -> None:
        """Makes the place free."""
        with suppress(OSError):  # a full disk, or a place that is gone; the end of this process will say the same
            (self._folder / _FREE).touch()


def own(root: Path, name: str, work: str) -> Owned:
    """Makes this process the owner of a place; waits as long as a living one owns it.

    Args:
        root: the folder of all state.
        name: of the place.
        work: what this process makes, for those who find it there.

    Raises:
        DataError: somebody owns it of whom nothing is known here.
    """
    place, told, unnamed = root / OWNERS / name, "", 0
    while True:
        place.mkdir(parents=True, exist_ok=True)
        last = (_numbers(place) or [0])[-1]
        folder = place / str(last)
        if last and not (folder / _FREE).exists():
            owner = read_owner(folder / _NAME)
            alive = lives(owner) if owner else unnamed < _UNNAMED_LOOKS
            if alive is None:
                raise DataError(
                    f"{place}: expected no owner, found {owner}, of which nothing is known here; if it has ended, run "
                    f"`python -m distill release {place}`"
                )
            if alive:
                unnamed += owner is None
                if owner and owner.token != told:
                    told = owner.token
                    line = f"waits for {owner}, which makes {owner.work}; looks every {POLL_SECONDS:g} s"
                    print(line, file=sys.stderr, flush=True)
                time.sleep(POLL_SECONDS)
                continue
        mine, unnamed = place / str(last + 1), 0
        try:
            mine.mkdir()
        except (FileExistsError, FileNotFoundError):
            continue
        write_json(mine / _NAME, asdict(this_process(work)))
        if _numbers(place)[-1:] != [last + 1]:  # overtaken since the look, or before the name was there
            shutil.rmtree(mine, ignore_errors=True)
            continue
        for number in _numbers(place):
            if number <= last:
                shutil.rmtree(place / str(number), ignore_errors=True)
        return Owned(mine)


def has_begun(root: Path, name: str) -> bool | None:
    """Returns whether the first process of this very job owns a place and works; None if the place is free."""
    place = root / OWNERS / name
    numbers = _numbers(place)
    if not numbers:
        return False
    last = place / str(numbers[-1])
    if (last / _FREE).exists():
        return None
    owner, here = read_owner(last / _NAME), this_process("")
    is_of_this_job = owner and all(getattr(owner, name) == getattr(here, name) for name in _OF_JOB)
    return bool(is_of_this_job and (last / _BEGUN).exists())
