"""N updates are k updates and N - k updates: every method, every engine, one and two processes (CPU)."""

import os
import subprocess
from pathlib import Path

import pytest

from distill.files import read_json, write_json
from distill.methods.registry import builtin_methods
from stage_process import WORKFLOW, make_inputs, make_pairs_folder, make_samples, succeed
from warm import ENVIRONMENT, warm_python

HELPER = Path(__file__).parents[1] / "helpers" / "resumed_trainings.py"
TRAINING = {"steps": 5, "batch": 8, "micro_batch": 4, "learning_rate": 1e-3, "evaluate_every": 2, "warmup_steps": 3}
# So that the end comes in the middle of a round of answers, between two draws of stored ones, while a weight falls.
ROUND = {"max_new_tokens": 6, "prompts_per_round": 4, "group": 4}
OWN = {
    "distillm": {"max_new_tokens": 6, "threshold": 0.6, "tolerance": 0.0, "capacity": 8},
    "gkd": {"max_new_tokens": 6},
    "minillm": {"max_new_tokens": 6, "prompts_per_round": 16, "inner_epochs": 2},
    **dict.fromkeys(("tgpo", "kdrl", "rkl", "grpo"), ROUND),
}
CUT = ("bd", "distillm")
"""The methods, without and with a state of their own, that are tried beyond one process without ZeRO."""
ENDS = 3
"""Updates before the end, which is behind no checkpoint."""


def case(method: str, **deepspeed: int | str) -> tuple[str, dict, int]:
    name = "-".join((method, *(f"{key}{value}" for key, value in deepspeed.items())))
    run = {"method": method, "dropout": True, "training": TRAINING} | OWN.get(method, {})
    settings = {"name": method, "run": run, "updates_of": None, "wrapper": "short", "plain_text_tokens": 16}
    return name, settings | {"deepspeed": deepspeed, "seed": 10}, ENDS


CASES = {
    1: [
        *map(case, builtin_methods()),
        *(case(method, zero_stage=stage) for method in CUT for stage in (1, 2)),
        *(case("bd", zero_stage=stage, precision="bf16") for stage in (0, 1, 2)),
    ],
    2: [case(method, processes=2, zero_stage=stage) for method in CUT for stage in (0, 1, 2)],
}
NAMES = [(processes, name) for processes, cases in CASES.items() for name, _, _ in cases]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """GPT-2, since it has dropout, whose masks must come back too; the start also stands for both teachers."""
    root = tmp_path_factory.mktemp("inputs")
    inputs = make_inputs(root, "gpt2", dev=20)
    inputs |= make_samples(root, inputs, inputs["start"], per_prompt=1)
    inputs |= {"pairs": make_pairs_folder(root), "teacher": inputs["start"], "preference_teacher": inputs["start"]}
    own = {name: inputs[name] for name in ("pairs", "vocabulary", "tokenizer", "teacher")}
    values = {"exponent": 0.7, "scale": 1.0, "batch": 32, "wrapper": "short", "deepspeed": {}}
    return inputs | {"values": succeed("build_values", root / "values", values, **own)}


@pytest.fixture(scope="module")
def left(inputs, tmp_path_factory):
    """What whole trainings leave and those in two parts, by number of processes and case."""
    found = {}
    for processes, cases in CASES.items():
        root, python = tmp_path_factory.mktemp("trainings"), warm_python("stages")
        folders = {name: [str(folder)] for name, folder in inputs.items()}
        write_json(root / "request.json", {"inputs": folders, "folder": str(root), "cases": cases})
        group = [python, "-m", "distill.launch", str(processes)] if processes > 1 else []
        environment = ENVIRONMENT | {"PYTHONPATH": f"{WORKFLOW}{os.pathsep}{HELPER.parent}", "OMP_NUM_THREADS": "1"}
        command = [*group, python, HELPER, root / "request.json", root / "left.json"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found |= {(processes, name): own for name, own in read_json(root / "left.json").items()}
    return found


@pytest.mark.parametrize("case", NAMES, ids=lambda case: f"{case[1]}-{case[0]}")
def test_a_training_in_two_parts_leaves_what_a_whole_one_leaves(left, case):
    whole, parts, notes = left[case]
    assert parts == whole
    assert notes["resumes"] == 1 and len([name for name in whole if name.endswith("model.safetensors")]) == 3
