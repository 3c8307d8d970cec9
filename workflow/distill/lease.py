"""GPUs of this machine, lent to one job at a time.

A device is a file, locked (flock) by whoever has the lease. The kernel lets go of the lock when the last process that
has the descriptor open is gone: the holder and, since they inherit it, the processes of its job. Python's `subprocess`
and `multiprocessing` (vLLM's and DeepSpeed's children) close what they inherit. The holder adopts such processes where
their parent ends, and keeps the lease until they are gone; where the holder itself was killed, they are found by the
lease in their environment.
"""

import ctypes
import fcntl
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from distill.errors import DataError

VISIBLE = "CUDA_VISIBLE_DEVICES"
LEASES = "DISTILL_LEASES"
"""Environment variable with the folder of the locks, where it is not `FOLDER`."""
FOLDER = "/tmp/distill-gpus"
"""Folder of the locks of all users. `TMPDIR` does not count, which differs between users and jobs."""
MARK = "DISTILL_LEASE"
"""Environment variable with the locks that a process works under."""
_DRIVER = Path("/proc/driver/nvidia/gpus")
_NAME = re.compile(r"\d+|(GPU|MIG)-[\w/-]+")
_LISTED = re.compile(r"^GPU (\d+):.*\(UUID: (\S+)\)", re.MULTILINE)
_PATIENCE_S = 10  # what processes that a job leaves behind get to end
_PR_SET_CHILD_SUBREAPER = 36  # of <linux/prctl.h>


@dataclass(frozen=True)
class Lease:
    """What the processes of a job get.

    Attributes:
        environment: variables to set.
        descriptors: to inherit.
    """

    environment: dict[str, str]
    descriptors: tuple[int, ...]


def _listed() -> dict[str, str]:
    """Returns {number: UUID} of the machine's GPUs as its driver's tool lists them; empty where it cannot be asked."""
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=True)
        return dict(_LISTED.findall(done.stdout))
    return {}


def devices() -> list[str]:
    """Returns the GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them.

    The variable bounds them where it is set, and is not held against the machine: on one without GPUs it simulates
    them. Else all that nvidia-smi or the driver shows. As for CUDA, what stands behind a name that is none is hidden.
    """
    named = os.environ.get(VISIBLE)
    if named is None:
        return [*_listed()] or [str(number) for number in range(len([*_DRIVER.glob("*")]))]
    found: list[str] = []
    for name in map(str.strip, named.split(",")):
        if not _NAME.fullmatch(name):
            break
        found.append(name)
    return [*dict.fromkeys(found)]


def _locks(names: Sequence[str]) -> list[str]:
    """Returns the file of each device: its number where that can be known, so that a UUID means the same device.

    A Slurm job (a step of it) has devices of its own, which it may number from 0 as every other job does.
    """
    job = os.environ.get("SLURM_JOB_ID")
    pool = f"slurm-{job}.{os.environ.get('SLURM_STEP_ID', 'batch')}-" if job else ""
    listed = {} if all(map(str.isdecimal, names)) else _listed()
    numbers = {name: number for name in names for number, uuid in listed.items() if uuid.startswith(name)}
    return [pool + numbers.get(name, name).replace("/", "_") for name in names]


@contextmanager
def _folder() -> Iterator[tuple[str, int]]:
    """Yields the folder of the locks and its descriptor, made if need be so that all users of the machine share it.

    Its own lock, which many can have at a time, keeps systemd from clearing out what lies in it.
    """
    folder, mask = os.path.abspath(os.environ.get(LEASES, FOLDER)), os.umask(0)
    try:
        with suppress(FileExistsError):
            os.mkdir(folder, 0o1777)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise DataError(
            f"{folder}: expected a folder for the locks of GPUs, found {error.strerror}; name one on a local disk in "
            f"{LEASES}, the same for all who use these GPUs"
        ) from error
    finally:
        os.umask(mask)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield folder, descriptor
    finally:
        os.close(descriptor)


def _open(name: str, folder: int) -> int:
    """Returns the descriptor of a lock's file. Reading is enough to lock it, so users need not write each other's."""
    while True:
        with suppress(FileNotFoundError):
            return os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
        mask = os.umask(0)
        try:
            with suppress(FileExistsError):
                return os.open(name, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=folder)
        finally:
            os.umask(mask)


def _lock(name: str, folder: int) -> int | None:
    """Returns the descriptor of a file that is locked now; None where somebody else has it."""
    descriptor = _open(name, folder)
    with suppress(BlockingIOError, FileNotFoundError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), os.stat(name, dir_fd=folder)):  # nobody has removed it meanwhile
            return descriptor
    os.close(descriptor)
    return None


def _left_behind(lock: str) -> int | None:
    """Returns a process that works under a lock whose holder is gone."""
    for place in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # it has ended, or is another user's
            for entry in place.read_bytes().split(b"\0"):
                name, _, value = entry.partition(b"=")
                if name == MARK.encode() and lock in os.fsdecode(value).split(os.pathsep):
                    return int(place.parent.name)
    return None


def _take(count: int, locks: Sequence[str], folder: str, descriptor: int) -> dict[str, int]:
    """Returns so many locks and their descriptors; waits for them.

    A job of several devices keeps what it has got until it has all, so that jobs of one device do not outrun it for
    ever. One such job gathers at a time, so none waits for another.
    """
    held: dict[str, int] = {}
    turn, told = None if count > 1 else -1, ""
    try:
        while True:
            busy = []
            if turn is None:
                turn = _lock("several", descriptor)
            for lock in locks if turn is not None else ():
                if lock in held or len(held) == count:
                    continue
                if (own := _lock(lock, descriptor)) is None:
                    busy.append(f"{lock} is lent")
                elif (process := _left_behind(f"{folder}/{lock}")) is not None:
                    os.close(own)
                    busy.append(f"{lock} is used by process {process}, whose job was killed")
                else:
                    held[lock] = own
            if len(held) == count:
                return held
            if not told:
                told = f"waits for {count} of the GPUs {','.join(locks)}: {'; '.join(busy) or 'another job gathers'}"
                print(told, file=sys.stderr, flush=True)
            time.sleep(random.uniform(0.1, 0.2))
    except BaseException:
        for own in held.values():
            os.close(own)
        raise
    finally:
        if turn is not None and turn >= 0:
            os.close(turn)


def _children() -> list[int]:
    """Returns this process's children."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            text = place.read_text(encoding="utf-8", errors="replace")
            if int(text[text.rfind(")") + 2 :].split()[1]) == os.getpid():  # the name before may hold anything
                found.append(int(place.parent.name))
    return found


def _wait_for_children() -> None:
    """Returns when no child is left; those that do not end by themselves are killed."""
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            process, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if process == 0:
            if time.monotonic() > until:
                for child in _children():
                    os.kill(child, signal.SIGKILL)
            time.sleep(0.05)


@contextmanager
def leased(count: int) -> Iterator[Lease]:
    """Lends so many GPUs to what is started inside; at the end, when all that was started there is gone, they are free.

    Waits for devices. Processes whose parent ends become this process's children from here on. Without a device nothing
    is done.

    Raises:
        DataError: there are fewer GPUs, or no place for the locks.
    """
    if count == 0:
        yield Lease({}, ())
        return
    mine = devices()
    if count > len(mine):
        raise DataError(
            f"GPUs of this machine: expected {count} for this job, found {len(mine)} ({','.join(mine) or 'none'}); "
            f"lower `deepspeed.processes`, set `device: cpu`, or name more in {VISIBLE}"
        )
    with _folder() as (folder, descriptor):
        names = dict(zip(_locks(mine), mine, strict=True))
        held = _take(count, [*names], folder, descriptor)
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
        try:
            environment = {
                VISIBLE: ",".join(names[lock] for lock in names if lock in held),
                # nvidia-smi's order; CUDA's own puts the fastest first.
                "CUDA_DEVICE_ORDER": os.environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID"),
                MARK: os.pathsep.join(f"{folder}/{lock}" for lock in held),
            }
            yield Lease(environment, (descriptor, *held.values()))
            _wait_for_children()
        finally:
            for own in held.values():
                os.close(own)
