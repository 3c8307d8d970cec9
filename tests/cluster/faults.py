"""Disturbs a study on the two-node Slurm of start.sh, and compares what comes out with an undisturbed local run.

    tests/cluster/start.sh --install && make slurm-env
    export PYTHONPATH=workflow:tests/helpers
    .venv/bin/python tests/cluster/faults.py                    # all, some minutes
    .venv/bin/python tests/cluster/faults.py requeue walltime

Each fault befalls one training or one sampling, taken out of a copy of the finished study. Printed with it: the exit
code of Snakemake (of the last one), the Slurm jobs that it took, how often the stage was started, and the updates that
were made and not saved when the fault came. It ends with 1 where a table, the artifact itself or a row of it differs,
or where `verify` finds something.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from cluster_study import ClusterStudy, slurm, wait_for
from workplace import CONFIG, FEW_RUNS, Workplace, check_out, untimed_tables

PLACE = Path(os.environ.get("DISTILL_SLURM", "/var/tmp/distill-slurm"))
LONG = {"runs.bd_sampled.training.steps": 400, "runs.bd_sampled.training.evaluate_every": 200}
LONG |= {"save_every_minutes": 0.1}
TWO_NODES = {"deepspeed.processes": 2, "deepspeed.nodes": 2}
TWO_NODES |= {f"models.{role}.pretraining.micro_batch": 8 for role in ("teacher", "student")}
TWO_NODES |= {f"{name}.training.micro_batch": 8 for name in ("teacher", "phase1", "runs.sft", "runs.bd_sampled")}
TRAINING, SAMPLING = "training/bd_sampled", "shards/0"


def in_training(study: ClusterStudy) -> str:
    """Returns the Slurm job of the training, once it has saved some updates."""
    return wait_for(lambda: (study.saved_step() or 0) > 0 and study.job_of("train_run", "running"))


def in_sampling(study: ClusterStudy) -> str:
    """Returns the Slurm job of the sampling, once it has begun."""
    return wait_for(
        lambda: any((study.results / ".state").glob("sample_teacher-*")) and study.job_of("sample_teacher", "running")
    )


def daemon(name: str) -> int:
    """Returns the process id of one of Slurm's daemons."""
    return int((PLACE / f"{name}.pid").read_text())


def node_of(job: str) -> str:
    """Returns the node of a running job."""
    return slurm("squeue", "--noheader", "--format=%N", f"--jobs={job}").strip()


def node_is(node: str, state: str) -> bool:
    """Returns whether a node is in a state."""
    return state in slurm("sinfo", "--noheader", f"--nodes={node}", "--format=%T")


def requeue(study: ClusterStudy) -> None:
    """scontrol requeue, in training."""
    slurm("scontrol", "requeue", in_training(study))


def requeue_two_nodes(study: ClusterStudy) -> None:
    """scontrol requeue, in a training of two nodes."""
    job = in_training(study)
    assert slurm("squeue", "--noheader", "--format=%D", f"--jobs={job}").strip() == "2"
    slurm("scontrol", "requeue", job)


def cancel(study: ClusterStudy) -> None:
    """scancel, in sampling."""
    slurm("scancel", in_sampling(study))


def restart_slurmd(study: ClusterStudy) -> None:
    """slurmd killed (SIGKILL) in training, started again after 5 s."""
    node = node_of(in_training(study))
    os.kill(daemon(f"slurmd.{node}"), signal.SIGKILL)
    time.sleep(5)
    slurm("slurmd", "-N", node)


def lose_node(study: ClusterStudy) -> None:
    """all that a node runs killed (SIGKILL) in training, as by a power cut, and slurmd away until the node is lost."""
    job = in_training(study)
    node = node_of(job)
    os.kill(daemon(f"slurmd.{node}"), signal.SIGKILL)
    for step in psutil.process_iter():
        with suppress(psutil.Error):
            if step.cmdline()[:1] and step.cmdline()[0].startswith(f"slurmstepd: [{job}."):
                for process in (step, *step.children(recursive=True)):
                    process.kill()
    wait_for(lambda: node_is(node, "down"))
    wait_for(lambda: (now := node_of(job)) and now != node)  # the same job, on the other node
    slurm("slurmd", "-N", node)


def drain(study: ClusterStudy) -> None:
    """the node drained in training, the job requeued: it goes to the other node."""
    job = in_training(study)
    node = node_of(job)
    slurm("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
    slurm("scontrol", "requeue", job)
    wait_for(lambda: (now := node_of(job)) and now != node)
    slurm("scontrol", "update", f"nodename={node}", "state=resume")


def stop_controller(study: ClusterStudy) -> None:
    """slurmctld away for 60 s in training."""
    in_training(study)
    os.kill(daemon("slurmctld"), signal.SIGTERM)
    time.sleep(60)
    slurm("slurmctld")


def stop_accounting(study: ClusterStudy) -> None:
    """slurmdbd, whom Snakemake asks for its jobs, away for 60 s, in which the training ends."""
    in_training(study)
    os.kill(daemon("slurmdbd"), signal.SIGTERM)
    time.sleep(60)
    assert study.job_of("train_run", "running") is None
    slurm("slurmdbd")


def fill_nodes(study: ClusterStudy) -> None:
    """one GPU busy on each node when a training asks for two: it waits until both of one node are free."""
    hold = ["sbatch", "--parsable", "--gpus=1", "--mem=100", "--output=/dev/null", "--wrap=sleep 900"]
    held = [slurm(*hold, f"--nodelist={node}").strip() for node in ("node1", "node2")]
    job = wait_for(lambda: study.job_of("train_run", "pending"))
    slurm("scancel", held[0])
    assert node_of(in_training(study)) == "node1" and study.job_of("train_run", "running") == job
    slurm("scancel", held[1])


def kill_snakemake(study: ClusterStudy) -> None:
    """Snakemake killed (SIGKILL) in training, the same command given again while its job runs."""
    in_training(study)


def walltime(study: ClusterStudy) -> None:
    """a training of several walltimes (one minute each), without retries."""


@dataclass(frozen=True)
class Fault:
    """What befalls a stage.

    Attributes:
        act: does it.
        artifact: what is made meanwhile.
        arguments: further ones of Snakemake.
        changes: of the study's config, beside `LONG`.
    """

    act: Callable[[ClusterStudy], None]
    artifact: str = TRAINING
    arguments: tuple[str, ...] = ()
    changes: dict = field(default_factory=dict)


FAULTS = {
    "requeue": Fault(requeue),
    "cancel": Fault(cancel, SAMPLING),
    "restart_slurmd": Fault(restart_slurmd),
    "lose_node": Fault(lose_node),
    "drain": Fault(drain),
    "stop_controller": Fault(stop_controller),
    "stop_accounting": Fault(stop_accounting),
    "kill_snakemake": Fault(kill_snakemake),
    "walltime": Fault(
        walltime,
        arguments=("--retries", "0", "--set-resources", "train_run:runtime=1"),
        changes={"runs.bd_sampled.training.steps": 3200},
    ),
    "fill_nodes": Fault(fill_nodes, arguments=("--set-resources", "train_run:gpu=2")),
    "requeue_two_nodes": Fault(requeue_two_nodes, changes=TWO_NODES),
}


def undisturbed(folder: Path, changes: dict) -> Workplace:
    """Returns a finished study, run on this machine."""
    folder.mkdir()
    place = check_out(folder)
    place.configure(changes)
    place.run(warm=False)
    return place


def disturb(fault: Fault, finished: Workplace, folder: Path) -> tuple[str, list[str]]:
    """Makes an artifact of a finished study again, under a fault; returns a row of the table, and what is wrong."""
    study = ClusterStudy(Path(shutil.copytree(finished.folder, folder)))
    for path in study.results.glob(f"{fault.artifact}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in [*study.results.glob(".state/train_run-*"), *study.results.glob(".state/sample_teacher-*")]:
        shutil.rmtree(path)
    began, wanted = time.monotonic(), (f"results/{fault.artifact}/COMPLETE", "all", *fault.arguments)
    command = study.start(*wanted)
    fault.act(study)
    lost = study.unsaved()
    if fault.act is kill_snakemake:
        command.kill()
        command.wait()
        command = study.start(*wanted)
    code = command.wait()
    details = study.record(fault.artifact)
    wrong = [f"exit code {code}"] * bool(code)
    if untimed_tables(study.results) != untimed_tables(finished.results):
        wrong.append("tables differ")
    wrong += differences(study.results / fault.artifact, finished.results / fault.artifact)
    verified = subprocess.run(
        [sys.executable, "-m", "distill", "verify", "--configfile", CONFIG],
        cwd=study.folder,
        env=os.environ | {"PYTHONPATH": str(study.folder / "workflow")},
        capture_output=True,
        text=True,
    )
    if verified.returncode:
        wrong.append(verified.stdout[-500:])
    row = [fault.act.__doc__.split("\n")[0], code, len(study.submitted()), details["tries"], details["resumed"]]
    row += [details["host"]["slurm"]["restarts"], lost, f"{time.monotonic() - began:.0f}", "; ".join(wrong) or "equal"]
    return " | ".join(map(str, row)), wrong


def differences(made: Path, expected: Path) -> list[str]:
    """Returns what differs between two artifacts besides measured times: weights and rows."""
    found = []
    for path in sorted(expected.rglob("*")):
        own = made / path.relative_to(expected)
        if path.suffix == ".safetensors" and own.read_bytes() != path.read_bytes():
            found.append(f"{own.name} differs")
        if path.name == "metrics.jsonl":
            steps = re.findall(rb'"step": (\d+)', own.read_bytes())
            if steps != re.findall(rb'"step": (\d+)', path.read_bytes()):
                found.append(f"{own.name}: other rows")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[*FAULTS, []], help=f"of {', '.join(FAULTS)}")
    names = parser.parse_args().names or [*FAULTS]
    wrong = []
    head = ["fault", "exit code", "Slurm jobs", "starts", "resumed", "restarts by Slurm", "updates not saved"]
    print(" | ".join([*head, "seconds", "tables"]), flush=True)
    with tempfile.TemporaryDirectory(prefix="distill-faults-") as place:
        finished: dict[str, Workplace] = {}
        for name in names:
            fault = FAULTS[name]
            if (changes := str(fault.changes)) not in finished:
                folder = Path(place) / f"finished-{len(finished)}"
                finished[changes] = undisturbed(folder, FEW_RUNS | LONG | fault.changes)
            row, found = disturb(fault, finished[changes], Path(place) / name)
            print(row, flush=True)
            wrong += found
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
