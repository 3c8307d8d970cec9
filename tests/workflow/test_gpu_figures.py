"""What `make gpu-figures` does, as far as it can be run without a GPU."""

import csv
import os
import subprocess
import sys

import pytest
import yaml

from distill.study.load import load_study
from workplace import CONFIG, ROOT, check_out, untimed_tables

BENCHMARKS = ROOT / "benchmarks"
sys.path.append(str(BENCHMARKS))
import gpu  # noqa: E402


@pytest.mark.parametrize("vllm", [None, "/envs/vllm/bin/python"])
def test_the_study_on_a_gpu_is_the_small_one_in_bf16(vllm):
    config = gpu.study_config("cuda", "/envs/train/bin/python", vllm)
    study = load_study(config)
    assert (study.deepspeed.device, study.deepspeed.precision) == ("cuda", "bf16")
    assert (study.sampling.device, study.sampling.dtype) == ("cuda", "bfloat16")
    assert study.sampling.engine == ("vllm" if vllm else "transformers")
    assert study.environments.train.lock == "envs/cuda-train.lock"
    assert study.environments.vllm.python == (vllm or "/envs/train/bin/python")
    assert study.environments.vllm.lock == ("envs/cuda-vllm.lock" if vllm else "envs/cuda-train.lock")
    small = yaml.safe_load((ROOT / CONFIG).read_text())
    small["sampling"] = config["sampling"] | small["sampling"]
    assert {key: config[key] for key in small} == small


STEP = """\
# 2030-01-02, commit abc1234, 2 x Card
vocabulary,objective,part,measure,side,unit,n,p20,p50,p80
# vocabulary 100: a remark
100,both,matmul,speed,both,flop_per_second,5,1,92345678901,2
100,released,step,time,official,cpu_seconds,5,60,62.2041,63
100,released,step,time,ours,cpu_seconds,5,12,12.4862,13
100,released,step,time,official/ours,ratio,5,5,5.02868,5.1
100,released,step,memory above weights and gradients,official,MiB,5,1,2743.2,2
100,released,step,memory above weights and gradients,ours,MiB,5,1,300.4,2
100,released,step,memory above weights and gradients,official/ours,ratio,5,1,9.14,2
100,released,step,useful tokens,official,tokens_per_second,5,1,199.1,2
100,released,step,useful tokens,ours,tokens_per_second,5,1,1655.4,2
100,released,step,useful share of matmul speed,official,share,5,1,0.144,2
100,released,step,useful share of matmul speed,ours,share,5,1,0.708,2
"""
STUDY = """\
# 3 jobs, 30 CPU seconds
rule,jobs,cpu_seconds,cpu_share,wall_seconds,startup_seconds,recording_seconds
train_run,2,22.4,0.747,34,4.9,0.1
"""


def test_the_page_of_figures_says_what_was_measured():
    page = gpu.page(STEP, STUDY, "vllm", peak=0.2)
    for line in (
        "2030-01-02, commit abc1234, 2 x Card.",
        "| `released` | step | seconds an update | 62.2 | 12.5 | 5.03 |",
        "| `released` | step | peak memory above weights and gradients, MiB | 2,743 | 300 | 9.14 |",
        "| `released` | step | useful tokens a second | 199 | 1,655 |  |",
        "A large matrix product runs at 0.0923 TFLOP/s, 46% of the data sheet's 0.2.",
        "| `released` | step | share of the data sheet's peak | 0.0665 | 0.327 | |",
        "- 3 jobs, 30 CPU seconds",
        "| train_run | 2 | 22.4 | 34 |",
    ):
        assert line in page.splitlines()
    assert "data sheet" not in gpu.page(STEP, STUDY, "vllm", peak=None)


@pytest.mark.parametrize(
    ("python", "found"),
    [
        (sys.executable, "expected a GPU, found torch 2.13.0+cpu, built for CUDA None, sees none"),
        ("no/python", "No such"),
    ],
)
def test_without_a_gpu_the_command_says_so_in_one_line(python, found):
    command = [sys.executable, BENCHMARKS / "gpu.py", "--train", python]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1 and result.stdout == "" and result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"error: {python}: expected ") and found in result.stderr


@pytest.mark.slow
def test_the_small_study_without_vllm_in_bf16(tmp_path):
    """The stand-in for a GPU machine without vLLM."""
    place = check_out(tmp_path / "study")
    config = gpu.study_config("cpu", sys.executable, None)
    (place.folder / CONFIG).write_text(yaml.safe_dump(config))
    place.run()
    results = place.folder / gpu.RESULTS
    study, tables = load_study(config), untimed_tables(results)
    assert {row["system"] for row in tables["scores"]} == {*study.systems}
    with open(results / "tables/training.csv", newline="") as file:
        assert all(float(row["mean_gradient_norm"]) < 1000 for row in csv.DictReader(file))
    command = [sys.executable, "-m", "distill", "verify", "--configfile", CONFIG]
    environment = os.environ | {"PYTHONPATH": "workflow"}
    verified = subprocess.run(command, cwd=place.folder, env=environment, capture_output=True, text=True)
    assert verified.returncode == 0, verified.stdout
    assert "Nothing to be done" in place.run("--dry-run")
