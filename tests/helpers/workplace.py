"""Copies of the repository in which the small study runs: once a session, and private copies of it to change."""

import csv
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from distill.report.csv_tables import without_times
from warm import ENVIRONMENT, warm_python

ROOT = Path(__file__).parents[2]
CONFIG, SMOKE = "tests/fixtures/micro.yaml", "presets/smoke.yaml"
DROPPED = ("OPENAI_API_KEY", "PYTHONDONTWRITEBYTECODE")
_JOB = re.compile(r"^(?:local)?rule (\w+):\n(.*?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL)


def _few_runs() -> dict:
    micro, smoke = (yaml.safe_load((ROOT / path).read_text()) for path in (CONFIG, SMOKE))
    changes = {f"runs.{name}": None for name in micro["runs"] if name not in smoke["runs"]}
    return changes | {"generation.seeds": smoke["generation"]["seeds"]}


FEW_RUNS = _few_runs()
"""Changes that make the small study that of `make smoke`: a run of SFT, one of Bellman Distill, each kind of stage."""


@dataclass
class Workplace:
    """A copy of the repository in which the small study, or that of another config, was run, or is to run."""

    folder: Path
    config: str = CONFIG

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def snakemake(
        self, *arguments: str, warm: bool = True, output: int | None = subprocess.PIPE, **environment: str
    ) -> subprocess.CompletedProcess:
        """Runs Snakemake on the study as a user would; `output`, by default kept, takes stdout and stderr together.

        Snakemake and its jobs are forks of processes that have loaded the libraries, or, unless `warm`, new processes.
        """
        python = Path(sys.executable)
        if warm:
            python = warm_python("snakemake", *["stages"] * ("--dry-run" not in arguments))
        command = [python, "-m", "snakemake", "--cores", "2", *arguments, "--configfile", self.config]
        path = os.pathsep.join([str(python.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
        # Python may keep what it compiled: the code is this copy's own.
        kept = {name: value for name, value in ENVIRONMENT.items() if name not in DROPPED}
        return subprocess.run(
            command,
            cwd=self.folder,
            env=kept | {"PATH": path, "OMP_NUM_THREADS": "1"} | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str, warm: bool = True) -> str:
        """Runs Snakemake, which must succeed; returns its output."""
        result = self.snakemake(*arguments, warm=warm)
        assert result.returncode == 0, result.stdout[-8000:]
        return result.stdout

    def planned(self, warm: bool = True) -> dict[str, str]:
        """Returns what a dry run would make: {artifact below results: rule}."""
        found = {}
        for rule, block in _JOB.findall(self.run("--dry-run", warm=warm)):
            if rule != "all":
                output = re.search(r"^    output: (\S+?),?(?: |$)", block, re.MULTILINE)[1]
                found[output.removeprefix("results/").removesuffix("/COMPLETE")] = rule
        return found

    def configure(self, changes: dict) -> None:
        """Sets dotted keys of the small study's config; None takes a key out."""
        path = self.folder / CONFIG
        config = yaml.safe_load(path.read_text())
        for dotted, value in changes.items():
            *parents, last = dotted.split(".")
            section = config
            for key in parents:
                section = section.setdefault(key, {})
            if value is None:
                del section[last]
            else:
                section[last] = value
        path.write_text(yaml.safe_dump(config, sort_keys=False))

    def replace(self, path: str, old: str, new: str) -> None:
        """Replaces the one occurrence of a text in a file of the repository."""
        file = self.folder / path
        text = file.read_text()
        assert text.count(old) == 1, f"{path}: expected {old!r} once, found it {text.count(old)} times"
        file.write_text(text.replace(old, new))

    def copy_artifact(self, name: str, target: Path) -> Path:
        """Returns a copy of an artifact's folder outside the study, without its manifest, as a user would have it."""
        return Path(shutil.copytree(self.results / name, target, ignore=shutil.ignore_patterns("COMPLETE")))

    def copy(self, folder: Path) -> "Workplace":
        """Returns a private copy: times are kept, since Snakemake compares them; no file is shared with this one."""
        return Workplace(copy_tree(self.folder, folder / "workplace"))


def copy_tree(source: Path, target: Path) -> Path:
    """Copies a folder with the times of its files; for thousands of files a fourth of what `shutil.copytree` costs."""
    subprocess.run(["cp", "--archive", "--reflink=auto", "--no-target-directory", source, target], check=True)
    return target


def untimed_tables(results: Path) -> dict[str, list[dict]]:
    """Returns a study's tables without what a clock measured."""
    found = {}
    for path in sorted((results / "tables").glob("*.csv")):
        with open(path, newline="") as file:
            found[path.stem] = without_times(path.stem, csv.DictReader(file))
    return found


def check_out(folder: Path) -> Workplace:
    """Copies the repository's own files, changed ones as they are, into a new repository with one, packed commit."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    commit = [*identity, "commit", "-q", "-m", "state under test"]
    for command in (["init", "-q"], ["add", "--all"], commit, ["gc", "-q"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return Workplace(folder)


@pytest.fixture(scope="session")
def micro_study(tmp_path_factory, worker_id) -> Workplace:
    """The small study, run from scratch once for all workers; do not change it: take `workplace`."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    place, log = Workplace(shared / "micro"), shared / "micro.log"
    with FileLock(f"{log}.lock"):
        if not log.exists():
            result = check_out(place.folder).snakemake()
            log.write_text(f"{result.returncode}\n{result.stdout}")
    code, output = log.read_text().split("\n", 1)
    assert code == "0", output[-8000:]
    return place


@pytest.fixture
def workplace(micro_study, tmp_path) -> Iterator[Workplace]:
    """A private copy of the finished small study; removed afterwards, since dozens of them are a gigabyte."""
    copy = micro_study.copy(tmp_path)
    yield copy
    shutil.rmtree(copy.folder)
