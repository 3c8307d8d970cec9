"""Starts eight jobs at once on two simulated GPUs, kills some, and looks whether two ever used one device.

    export PYTHONPATH=workflow
    .venv/bin/python tests/reliability/lease.py --rounds 1000 --seed 1

A job asks for one device or both, marks them with locks of its own, hands these to a process that closes the lease's
descriptors and outlives it, as an engine's worker does. At random moments two of the eight are killed (SIGKILL): the
holder of the lease, its child, or both at once. The other six must come to their end.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path

from distill.launch import launch

SIZES = (1, 1, 2, 1, 1, 2, 1, 1)
"""Devices of each job."""
VICTIMS = ("holder", "child", "both")
KILLS = 2
"""Jobs of a round that are killed."""
_LIMIT_S = 300
JOB = """
import fcntl, os, subprocess, sys
number, size, seconds = sys.argv[1:]
devices, marks = os.environ["CUDA_VISIBLE_DEVICES"].split(","), []
def tell(file, line):
    with open(file, "a") as open_file:
        open_file.write(line + "\\n")
if len(devices) != int(size):
    tell("shared", f"job {number} asked for {size}, got {devices}")
for device in devices:
    marks.append(os.open(f"used-{device}", os.O_RDWR | os.O_CREAT))
    try:
        fcntl.flock(marks[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        tell("shared", f"job {number} found device {device} in use")
worker = subprocess.Popen(["sleep", seconds], pass_fds=marks)
tell("started", f"{number} {os.getpid()} {worker.pid}")
worker.wait()
"""


def _start(place: Path, number: int, size: int, seconds: float) -> int:
    """Starts a job through the launcher in a process of its own; returns the launcher."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            os.chdir(place)
            sys.stderr = open("log", "a", buffering=1)  # noqa: SIM115 - until this process ends
            os.environ |= {"CUDA_VISIBLE_DEVICES": "0,1", "DISTILL_LEASES": str(place / "locks")}
            os.environ.pop("SLURM_JOB_ID", None)
            command = [sys.executable, "-S", "-E", "-c", JOB, str(number), str(size), f"{seconds:.3f}"]
            code = launch(1, command, size)
        finally:
            os._exit(code)
    return process


def _started(place: Path) -> dict[int, tuple[int, int]]:
    """Returns the child and the worker of each job that has its devices."""
    lines = (place / "started").read_text().splitlines() if (place / "started").exists() else []
    return {int(number): (int(child), int(worker)) for number, child, worker in map(str.split, lines)}


def _alive(process: int) -> bool:
    with suppress(OSError):
        text = Path(f"/proc/{process}/stat").read_text()
        return text[text.rfind(")") + 2] not in "ZX"
    return False


def play(seed: int) -> dict[str, int]:
    """Plays one round; returns how often a victim was hit while it had devices, and how often its worker lived on.

    Raises:
        AssertionError: two jobs shared a device, or a job did not come to its end.
    """
    draw, found = random.Random(seed), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="lease-") as folder:
        place = Path(folder)
        sizes = draw.sample(SIZES, len(SIZES))
        running = {_start(place, number, size, draw.uniform(0.02, 0.3)): number for number, size in enumerate(sizes)}
        plan = [(draw.choice(VICTIMS), draw.randint(0, len(SIZES) - KILLS), draw.uniform(0, 0.1)) for _ in range(KILLS)]
        codes: dict[int, int] = {}
        killed: set[int] = set()
        until = time.monotonic() + _LIMIT_S
        while running:
            assert time.monotonic() < until, f"round {seed}: jobs {[*running.values()]} wait for ever"
            process, status = os.waitpid(-1, os.WNOHANG)
            if process:
                codes[running.pop(process)] = os.waitstatus_to_exitcode(status)
                continue
            started = _started(place)
            if plan and len(started) >= plan[0][1]:
                victim, _, delay = plan.pop(0)
                time.sleep(delay)
                # One that has devices, where one has, as the others only wait.
                left = [process for process, number in running.items() if number not in killed]
                process = draw.choice([one for one in left if running[one] in started] or left or [0])
                if process:
                    number = running[process]
                    child, worker = _started(place).get(number, (0, 0))
                    killed.add(number)
                    for one in {"holder": [process], "child": [child], "both": [process, child]}[victim]:
                        with suppress(ProcessLookupError):
                            if one:
                                os.kill(one, signal.SIGKILL)
                    found[victim] += bool(child)
                    found["worker lived on"] += bool(worker) and _alive(worker)
            time.sleep(0.01)
        shared = (place / "shared").read_text() if (place / "shared").exists() else ""
        assert not shared, f"round {seed}: {shared}{(place / 'log').read_text()}"
        failed = {number: code for number, code in codes.items() if code and number not in killed}
        assert not failed, f"round {seed}: codes {failed}: {(place / 'log').read_text()}"
    return dict(found)


def campaign(rounds: int, seed: int, at_once: int) -> Iterator[dict[str, int]]:
    """Yields what each round found."""
    with ProcessPoolExecutor(at_once) as pool:
        yield from pool.map(play, range(seed * 1_000_000, seed * 1_000_000 + rounds))


def main() -> None:
    """Prints what was done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=4, help="rounds that are played side by side")
    options = parser.parse_args()
    began, found = time.monotonic(), Counter[str]()
    for number, one in enumerate(campaign(options.rounds, options.seed, options.at_once), 1):
        found.update(one)
        if number % 50 == 0:
            print(f"{number} rounds, {time.monotonic() - began:.0f} s, {dict(found)}", flush=True)
    print(f"{options.rounds} rounds of {len(SIZES)} jobs on 2 devices: none shared; {dict(found)}")


if __name__ == "__main__":
    main()
