"""Kills a study at random moments, gives the same command again each time, and compares what comes out.

    export PYTHONPATH=workflow:tests/helpers
    .venv/bin/python tests/reliability/kills.py --kills 60 --seed 1 > kills.csv
    .venv/bin/python tests/reliability/kills.py --kills 20 --signal TERM --config config.yaml

Works in a copy of the repository. A third of the kills each hits the whole group of processes, Snakemake alone, and one
process of a stage. The last attempt runs to its end; the tables must be those of a study that nobody disturbed, byte
for byte but for measured times. Printed with each kill: the updates of a training that were not saved at that moment.
"""

import argparse
import csv
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import psutil

from distill.files import read_json
from workplace import check_out, untimed_tables

VICTIMS = ("group", "snakemake", "stage")


@dataclass
class Kill:
    """What one kill hit, after so many seconds, and how the command ended.

    `stage`: the rule of the process that was hit, or of the first one that ran. `lost`: the most updates of a training
    that were done and not saved at that moment. `code`, `last_line`: of the command.
    """

    number: int
    victim: str
    seconds: float
    stage: str
    lost: int
    code: int
    last_line: str


def stages_of(command: psutil.Process) -> dict[str, list[psutil.Process]]:
    """Returns the running processes of stages by rule."""
    found: dict[str, list[psutil.Process]] = {}
    with suppress(psutil.Error):
        for child in command.children(recursive=True):
            with suppress(psutil.Error):
                scripts = re.findall(r"workflow/scripts/(\w+)\.py", " ".join(child.cmdline()))
                for rule in scripts[:1]:  # the shell that starts it counts, too
                    found.setdefault(rule, []).append(child)
    return found


def unsaved_updates(results: Path) -> int:
    """Returns the most updates that a training in progress has made since its last saved state."""
    most = 0
    for metrics in (results / ".state").glob("*/metrics.jsonl"):
        done = metrics.read_bytes().count(b"\n")
        with suppress(Exception):  # nothing was saved yet
            done -= read_json(metrics.with_name("resume.json"))["step"]
        most = max(most, done)
    return most


class Study:
    """A copy of the repository and the command that makes its tables."""

    def __init__(self, folder: Path, config: str):
        self.folder, self.results = folder, folder / "results"
        kept = {key: value for key, value in os.environ.items() if key not in ("OPENAI_API_KEY", "PYTHONPATH")}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = kept | {"OMP_NUM_THREADS": "1", "PATH": path}
        self.command = [sys.executable, "-m", "snakemake", "--cores", "2", "results/tables.md", "--configfile", config]

    def start(self, log: Path) -> subprocess.Popen:
        """Starts the command in a group of its own."""
        with open(log, "w") as file:
            return subprocess.Popen(
                self.command, cwd=self.folder, env=self.environment, stdout=file, stderr=file, start_new_session=True
            )

    def run(self, *extra: str) -> int:
        """Runs the command to its end."""
        done = subprocess.run([*self.command, *extra], cwd=self.folder, env=self.environment, capture_output=True)
        return done.returncode


def disturb(study: Study, number: int, longest: float, sign: int, draw: random.Random, log: Path) -> Kill | None:
    """Starts the command and kills it at a random moment; None where it ended before."""
    victim, wait = VICTIMS[number % len(VICTIMS)], draw.uniform(0.5, longest)
    process = study.start(log)
    try:
        process.wait(timeout=wait)
    except subprocess.TimeoutExpired:
        pass
    else:
        return None
    running = stages_of(psutil.Process(process.pid))
    rules = sorted(running)
    stage = draw.choice(rules) if rules else ""
    lost = unsaved_updates(study.results)
    if victim == "stage" and stage:
        with suppress(psutil.NoSuchProcess):
            draw.choice(running[stage]).send_signal(sign)
        process.wait()
    elif victim == "snakemake":
        process.send_signal(sign)
        process.wait()  # its jobs live on
    else:
        os.killpg(process.pid, sign)
        process.wait()
    lines = log.read_text(errors="replace").rstrip().splitlines() or [""]
    return Kill(number, victim, round(wait, 1), stage, lost, process.returncode, lines[-1][:160])


def campaign(study: Study, kills: int, longest: float, sign: int, seed: int) -> Iterator[Kill]:
    """Yields each kill; afterwards the study is finished by the same command.

    Raises:
        AssertionError: the command does not come to its end after the last kill.
    """
    draw, log = random.Random(seed), study.folder.with_name("attempt.log")
    for number in range(kills):
        found = disturb(study, number, longest, sign, draw, log)
        if found is None:  # finished before the kill: make all of it again
            shutil.rmtree(study.results)
            continue
        yield found
    assert study.run() == 0, "the study does not come to its end: " + log.read_text()[-2000:]


def main() -> None:
    """Prints a CSV row for each kill; ends with 1 where the tables differ or more than a save interval was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--signal", default="KILL", help="KILL, TERM, INT or USR1")
    parser.add_argument("--config", default="tests/fixtures/micro.yaml")
    parser.add_argument("--longest", type=float, default=40.0, help="seconds from a start to its kill, at most")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        whole, killed = (Study(check_out(Path(place) / name / "study").folder, options.config) for name in ("a", "b"))
        assert whole.run() == 0, "the undisturbed study fails"
        writer = csv.DictWriter(sys.stdout, [field.name for field in fields(Kill)])
        writer.writeheader()
        began, found = time.monotonic(), []
        sign = getattr(signal, f"SIG{options.signal}")
        for kill in campaign(killed, options.kills, options.longest, sign, options.seed):
            writer.writerow(asdict(kill))
            sys.stdout.flush()
            found.append(kill)
        is_same = untimed_tables(whole.results) == untimed_tables(killed.results)
        print(
            f"{len(found)} kills in {time.monotonic() - began:.0f} s, {dict(Counter(kill.stage for kill in found))}; "
            f"most updates not saved: {max((kill.lost for kill in found), default=0)}; "
            f"tables {'equal' if is_same else 'DIFFER'}",
            file=sys.stderr,
        )
    sys.exit(not is_same)


if __name__ == "__main__":
    main()
