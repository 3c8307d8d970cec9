"""The smallest study, and trainings of two nodes, on a real Slurm: what comes out is what one machine makes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cluster_study import ClusterStudy, slurm
from fake_openai import FakeOpenAI
from stage_process import WORKFLOW, make_inputs, rows_of, stage_arguments
from workplace import CONFIG, FEW_RUNS, Workplace, check_out, untimed_tables

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not shutil.which("sinfo"), reason="needs Slurm: tests/cluster/start.sh --install"),
]
STATE = Path(os.environ.get("DISTILL_SLURM", "/var/tmp/distill-slurm"))
KEY = "-".join(("sk", "canary", "which", "no", "job", "may", "see"))  # as a whole it stands in no copy of this file


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """The same study made on this machine, and on Slurm by a user whose shell has a judge's key."""
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "here").mkdir()
    here = check_out(folder / "here")
    here.configure(FEW_RUNS)
    there = ClusterStudy(Path(shutil.copytree(here.folder, folder / "there")))
    here.run()
    code = there.start(OPENAI_API_KEY=KEY).wait()
    assert code == 0, there.said()[-4000:]
    return here, there


def test_a_study_is_that_of_one_machine_and_its_records_name_the_jobs(studies):
    here, there = studies
    assert untimed_tables(there.results) == untimed_tables(here.results)
    host = there.record("training/sft")["host"]
    assert host["slurm"]["job"] in there.submitted() and host["slurm"]["node"] in ("node1", "node2")
    verify = [sys.executable, "-m", "distill", "verify", "--configfile", CONFIG]
    environment = os.environ | {"PYTHONPATH": str(there.folder / "workflow")}
    done = subprocess.run(verify, cwd=there.folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_another_rate_submits_that_run_and_what_follows_alone(studies):
    _, there = studies
    path, before = there.folder / CONFIG, len(there.submitted())
    text = path.read_text()
    start = text.index("bd_sampled:")
    path.write_text(text[:start] + text[start:].replace("learning_rate: 0.001", "learning_rate: 0.002", 1))
    assert there.start().wait() == 0, there.said()[-4000:]
    assert len(there.submitted()) - before == 4, "training, validation, answers, efficiency; the rest runs here"


def test_the_judges_key_reaches_the_judge_and_no_job(studies):
    _, there = studies
    with FakeOpenAI(key=KEY) as server:
        Workplace(there.folder).configure({"judge.kind": "openai", "judge.base_url": server.base_url})
        name = next((there.results / "verdicts").glob("*/COMPLETE"))
        command = there.start(str(name.relative_to(there.folder)), OPENAI_API_KEY=KEY)
        assert command.wait() == 0, there.said()[-4000:]
        assert server.billed, "it takes no other key"
    for folder in (STATE, there.folder):
        files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
        assert files and not [path for path in files if KEY.encode() in path.read_bytes()]


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """Returns a function that trains 20 updates in fp32 in a Slurm job, and returns their losses."""
    inputs = make_inputs(tmp_path_factory.mktemp("inputs"))
    training = {"steps": 20, "batch": 8, "micro_batch": 2, "learning_rate": 1e-3, "evaluate_every": 10}
    settings = {"name": "sft", "run": {"method": "sft", "training": training}, "updates_of": None, "wrapper": "short"}
    settings |= {"plain_text_tokens": 16, "seed": 10}

    def run(nodes: int, processes: int, zero_stage: int) -> list[float]:
        output = tmp_path_factory.mktemp("training") / "training"
        own = settings | {"deepspeed": {"processes": processes, "zero_stage": zero_stage}}
        arguments = [WORKFLOW / "scripts/train_run.py", *stage_arguments(output, own, **inputs)]
        launch = [sys.executable, "-m", "distill.launch", f"--nodes={nodes}", "--node-gpus=1", str(processes)]
        words = " ".join(f"'{word}'" for word in map(str, [*launch, sys.executable, *arguments]))
        script, log = output.with_name("job.sh"), output.with_name("log")
        script.write_text(f"#!/bin/sh\nexport PYTHONPATH={WORKFLOW} OMP_NUM_THREADS=1\nexec {words}\n")
        job = ["sbatch", "--wait", f"--nodes={nodes}", "--ntasks-per-node=1", "--cpus-per-task=2", "--mem=4000"]
        done = subprocess.run([*job, "--gpus-per-node=1", f"--output={log}", script], capture_output=True)
        assert done.returncode == 0, log.read_text()[-3000:]
        return [row["loss"] for row in rows_of(output / "metrics.jsonl")]

    return run


@pytest.fixture(scope="module")
def alone(train):
    return train(1, 1, 0)


@pytest.mark.parametrize(("processes", "zero_stage"), [(2, 0), (2, 1), (4, 2)])
def test_a_training_of_two_nodes_has_the_losses_of_one_process(train, alone, processes, zero_stage):
    assert len(alone) == 20 and train(2, processes, zero_stage) == pytest.approx(alone, rel=1e-5)


def test_no_job_is_left(studies):
    assert slurm("squeue", "--noheader").strip() == ""
