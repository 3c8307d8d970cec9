"""N updates are k updates and N - k updates: every method, every engine, one and two processes (CPU)."""

import os
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from safetensors.torch import load_file

from distill.files import read_json, write_json
from distill.methods.registry import builtin_methods
from stage_process import WORKFLOW, make_inputs, make_pairs_folder, make_samples, rows_of, succeed
from state_kinds import left_in, training_kind
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
EVERYDAY = ("bd", "distillm")
"""The methods, without and with a state of their own, that the everyday tests try beyond one process without ZeRO."""
ENDS = 3
"""Updates before the end, which is behind no checkpoint."""


def case(method: str, **deepspeed: int | str) -> tuple[str, dict, int]:
    name = "-".join((method, *(f"{key}{value}" for key, value in deepspeed.items())))
    run = {"method": method, "dropout": True, "training": TRAINING} | OWN.get(method, {})
    settings = {"name": method, "run": run, "updates_of": None, "wrapper": "short", "plain_text_tokens": 16}
    return name, settings | {"deepspeed": deepspeed, "seed": 10}, ENDS


def beyond(methods: Iterable[str]) -> dict[int, list]:
    """Returns the cases of methods with ZeRO or two processes, by number of processes."""
    return {
        1: [case(method, zero_stage=stage) for method in methods for stage in (1, 2)],
        2: [case(method, processes=2, zero_stage=stage) for method in methods for stage in (0, 1, 2)],
    }


SLOW = beyond([method for method in builtin_methods() if method not in EVERYDAY])
CASES = beyond(EVERYDAY)
CASES[1] += [*map(case, builtin_methods())]
CASES[1] += [case("bd", zero_stage=stage, precision="bf16") for stage in (0, 1, 2)]
NAMES = [(processes, name) for processes, cases in CASES.items() for name, _, _ in cases]
NAMES += [
    pytest.param((processes, name), marks=pytest.mark.slow) for processes, cases in SLOW.items() for name, _, _ in cases
]


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
    """What a whole training of a case leaves and one in two parts; cases of a kind share their process."""

    @cache
    def of(processes, is_slow):
        cases = (SLOW if is_slow else CASES)[processes]
        return train(inputs, tmp_path_factory.mktemp("trainings"), processes, cases)

    def find(processes, name):
        return of(processes, name in {name for name, _, _ in SLOW[processes]})[name]

    return find


def train(inputs, root, processes, cases, half=None):
    """Returns what the helper found."""
    folders, python = {name: [str(folder)] for name, folder in inputs.items()}, warm_python("stages")
    write_json(root / "request.json", {"inputs": folders, "folder": str(root), "cases": cases, "half": half})
    group = [python, "-m", "distill.launch", str(processes)] if processes > 1 else []
    environment = ENVIRONMENT | {"PYTHONPATH": f"{WORKFLOW}{os.pathsep}{HELPER.parent}", "OMP_NUM_THREADS": "1"}
    command = [*group, python, HELPER, root / "request.json", root / "left.json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {} if half == "first" else read_json(root / "left.json")


@pytest.mark.parametrize("case", NAMES, ids=lambda case: f"{case[1]}-{case[0]}")
def test_a_training_in_two_parts_leaves_what_a_whole_one_leaves(left, case):
    whole, parts, notes = left(*case)
    assert parts == whole
    assert notes["resumes"] == 1 and len([name for name in whole if name.endswith("model.safetensors")]) == 3


@pytest.mark.parametrize(("first", "second"), [(2, 1), (1, 2)])
def test_a_state_does_not_depend_on_the_number_of_processes(inputs, tmp_path, first, second):
    """Gone on from by another number: the same items, updates and logs; gradients summed in another order."""
    for processes, half in ((first, "first"), (second, "second")):
        name, settings, end = case("bd", processes=processes, zero_stage=2)
        settings["run"] |= {"dropout": False}  # whose masks belong to a process
        notes = train(inputs, tmp_path, processes, [(name, settings, end)], half)
    assert [own["resumes"] for own in notes.values()] == [1]
    whole, parts = (tmp_path / f"0-{kind}" / "output" for kind in ("whole", "parts"))
    assert read_json(parts / "data_seen.json") == read_json(whole / "data_seen.json")
    assert [row["step"] for row in rows_of(parts / "metrics.jsonl")] == [*range(1, TRAINING["steps"] + 1)]
    last = f"checkpoints/step-{TRAINING['steps']:06}/model.safetensors"
    own, other = load_file(parts / last), load_file(whole / last)
    start = load_file(inputs["start"] / "model.safetensors")
    assert own.keys() == other.keys()
    for name in own.keys() - {"transformer.h.0.attn.c_attn.bias"}:  # a key's bias has no gradient but rounding
        assert (own[name] - other[name]).abs().max() < 2e-6 and not own[name].equal(start[name]), name


def test_for_a_stage_another_number_of_processes_is_another_training(inputs, tmp_path):
    """It has another key, begins again, and leaves what one leaves that nobody killed."""
    one, two = (
        replace(training_kind(inputs, "bd", processes=number, zero_stage=2), processes=number) for number in (1, 2)
    )
    for place in (tmp_path / "whole", tmp_path / "killed"):
        place.mkdir()
    two.kill_in(tmp_path / "killed")
    states = {*(tmp_path / "killed" / ".state").glob("*/saved")}
    assert len(states) == 1
    for place in (tmp_path / "whole", tmp_path / "killed"):
        assert (done := one.start(place)).code == 0, done.text
    assert left_in(tmp_path / "killed") == left_in(tmp_path / "whole")
    assert {*(tmp_path / "killed" / ".state").glob("*/saved")} == states, "it is there for two processes"
