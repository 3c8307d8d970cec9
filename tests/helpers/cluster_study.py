"""Studies whose jobs run on the two-node Slurm of tests/cluster/start.sh."""

import os
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from distill.files import read_json
from workplace import CONFIG, ROOT


def slurm(*command: str) -> str:
    """Returns what a command of Slurm prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def wait_for(what: Callable[[], object], seconds: float = 400) -> object:
    """Returns what a function returns once that is something."""
    until = time.monotonic() + seconds
    while not (found := what()):
        if time.monotonic() > until:
            raise TimeoutError(f"waited {seconds:.0f} s in vain")
        time.sleep(0.2)
    return found


@dataclass
class ClusterStudy:
    """A copy of the repository whose jobs run on Slurm."""

    folder: Path

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen:
        """Starts Snakemake as a user would, in a group of its own; what it says is added to `slurm.log`."""
        path = os.pathsep.join([*(str(ROOT / name / "bin") for name in (".venv-slurm", ".venv")), os.environ["PATH"]])
        command = ["snakemake", "--workflow-profile", "profiles/slurm"]
        command += ["--slurm-init-seconds-before-status-checks", "2", "--max-status-checks-per-second", "1"]
        with (self.folder / "slurm.log").open("ab") as log:
            return subprocess.Popen(
                [*command, *arguments, "--configfile", CONFIG],
                cwd=self.folder,
                env=os.environ | {"PATH": path, "OMP_NUM_THREADS": "1", "OPENAI_API_KEY": ""} | environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self) -> str:
        """Returns what Snakemake has said."""
        return (self.folder / "slurm.log").read_text(errors="replace")

    def submitted(self) -> list[str]:
        """Returns the ids of the Slurm jobs that were submitted, oldest first."""
        return re.findall(r"has been submitted with SLURM jobid (\d+)", self.said())

    def job_of(self, rule: str, state: str) -> str | None:
        """Returns the id of a rule's Slurm job that is in a state."""
        ours = self.submitted()
        for line in slurm("squeue", "--noheader", f"--states={state}", "--format=%i %k").splitlines():
            job, _, comment = line.partition(" ")
            if job in ours and comment.startswith(f"rule_{rule}"):
                return job
        return None

    def saved_step(self) -> int | None:
        """Returns the update up to which a training in progress is saved; None where nothing is saved yet."""
        steps = [read_json(path)["step"] for path in (self.results / ".state").glob("train_run-*/resume.json")]
        return max(steps, default=None)

    def unsaved(self) -> int:
        """Returns the updates of a training in progress that are not saved."""
        rows = [path.read_bytes().count(b"\n") for path in (self.results / ".state").glob("train_run-*/metrics.jsonl")]
        return max(rows, default=0) - (self.saved_step() or 0)

    def record(self, artifact: str) -> dict:
        """Returns how an artifact was made, by its record."""
        return read_json(self.results / f"{artifact}.prov.json")["predicate"]["runDetails"]
