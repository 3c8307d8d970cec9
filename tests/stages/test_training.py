"""DeepSpeed drives every training run: plain AdamW on one process, and the same losses however the work is cut up."""

import math
import os
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from distill.checkpoints import checkpoint_name, read_checkpoints
from distill.data.tokens import encode_file, load_tokenizer
from distill.files import read_json
from distill.losses.cross_entropy import token_nll
from distill.models.load import load_model
from distill.models.packed import PackedModel
from distill.models.packing import pack_sequences
from distill.training.order import batch_indices
from engine_updates import CASES
from stage_process import WORKFLOW, make_inputs, make_samples, rows_of, run_stage_process, stage_arguments, succeed
from warm import ENVIRONMENT, warm_python

# A large epsilon: with the usual one Adam blows the rounding of a gradient near 0 up to whole steps.
RECIPE = {"steps": 4, "batch": 16, "micro_batch": 16, "learning_rate": 2e-3, "evaluate_every": 2, "weight_decay": 0.1}
RECIPE |= {"epsilon": 1e-4}
HELPERS = Path(__file__).parents[1] / "helpers"
BELLMAN_PARTS = ("linear", "chi2", "oos_fraction", "set_size", "p_eff", "nll", "residual")


def settings(method="sft", deepspeed=None, run=None, **recipe):
    section = {"method": method, "training": RECIPE | recipe} | (run or {})
    values = {"name": "tried", "run": section, "updates_of": None, "wrapper": "short", "plain_text_tokens": 16}
    return values | {"deepspeed": deepspeed or {}, "seed": 10}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp("inputs"), dev=20)


@pytest.fixture(scope="module")
def bd_inputs(inputs, tmp_path_factory):
    return inputs | make_samples(tmp_path_factory.mktemp("samples"), inputs, inputs["start"])


def metrics(output):
    return rows_of(output / "metrics.jsonl")


def losses(output):
    return [row["loss"] for row in metrics(output)]


def weights(output):
    return load_file(list(read_checkpoints(output).values())[-1] / "model.safetensors")


def assert_same_weights(first, second, tolerance):
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], atol=tolerance, rtol=0)


def sft_inputs(inputs):
    return {name: path for name, path in inputs.items() if name not in ("plain_text", "samples", "candidates")}


def test_sft_is_plain_adamw_with_clip_and_schedule(inputs, tmp_path):
    recipe = {"warmup_steps": 2, "gradient_clip": 0.7, "steps": 6, "evaluate_every": 6}
    output = succeed("train_run", tmp_path / "run", settings(**recipe), **sft_inputs(inputs))

    torch.set_num_threads(1)
    tokenizer, eos_id = load_tokenizer(inputs["tokenizer"])
    examples = encode_file(inputs["split"] / "train.jsonl", tokenizer, "short", eos_id)
    model = AutoModelForCausalLM.from_pretrained(inputs["start"], dtype=torch.float32)
    groups = [{"params": [], "weight_decay": 0.1}, {"params": [], "weight_decay": 0.0}]
    for name, weight in model.named_parameters():
        groups["bias" in name or "norm" in name]["params"].append(weight)
    optimizer = torch.optim.AdamW(groups, lr=2e-3, betas=(0.9, 0.95), eps=1e-4)
    rates = [1e-3, 2e-3, *(1e-3 * (1 + math.cos(math.pi * step / 4)) for step in range(4))]
    seen, norms = [], []
    for step, rate in enumerate(rates):
        nll, count = 0.0, 0
        for index in batch_indices(step, len(examples), 16, 10, "tried", "order"):
            ids = torch.tensor([[*examples[index].prompt_ids, *examples[index].response_ids]])
            labels = ids.clone()
            labels[0, : len(examples[index].prompt_ids)] = -100
            tokens = len(examples[index].response_ids)
            nll, count = nll + model(input_ids=ids, labels=labels).loss * tokens, count + tokens
        optimizer.zero_grad()
        (nll / count).backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 0.7).item())
        for group in groups:
            group["lr"] = rate
        optimizer.step()
        seen.append((nll / count).item())

    rows = metrics(output)
    assert [row["learning_rate"] for row in rows] == pytest.approx(rates)
    assert [row["loss"] for row in rows] == pytest.approx(seen, rel=1e-6)
    assert [row["gradient_norm"] for row in rows] == pytest.approx(norms, abs=1e-5)
    assert min(norms) > 0.7  # the clip was at work
    drawn = {index for step in range(6) for index in batch_indices(step, len(examples), 16, 10, "tried", "order")}
    seen = read_json(output / "data_seen.json")
    assert [seen[key] for key in ("updates", "sequences", "labelled_rows")] == [6, 96, len(drawn)]
    assert seen["prompts"] == len({examples[index].prompt for index in drawn})
    assert_same_weights(weights(output), {n: p for n, p in model.state_dict().items() if n != "lm_head.weight"}, 1e-6)


def run_bd(inputs, output, micro_batch, deepspeed=None, **bellman):
    run = {"bellman": {"p": 0.8, **bellman}, "plain_text_weight": 0.5}
    return succeed("train_run", output, settings("bd", deepspeed, run, micro_batch=micro_batch), **inputs)


def test_micro_batches_change_neither_sft_nor_bd(inputs, bd_inputs, tmp_path):
    for name, run in (
        ("sft", lambda folder, size: succeed(
            "train_run", folder, settings(micro_batch=size), **sft_inputs(inputs))),
        ("bd", lambda folder, size: run_bd(bd_inputs, folder, size)),
        ("released", lambda folder, size: run_bd(
            bd_inputs, folder, size, objective="released", reduction="sequence")),
    ):  # fmt: skip
        whole, cut = (run(tmp_path / f"{name}-{size}", size) for size in (16, 4))
        assert len(set(losses(whole))) == 4
        for mine, other in zip(metrics(whole), metrics(cut), strict=True):
            assert mine.keys() == other.keys()
            for key in mine.keys() - {"tokens", "tokens_per_second", "seconds"}:
                assert other[key] == pytest.approx(mine[key], rel=2e-6, abs=1e-6), (name, key)
            assert mine["tokens"] == other["tokens"]
        assert_same_weights(weights(whole), weights(cut), 2e-6)


def test_every_update_of_bd_logs_what_its_reader_needs(bd_inputs, tmp_path):
    output = run_bd(bd_inputs, tmp_path / "bd", 8)
    rows = metrics(output)
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    names = {"step", "loss", "learning_rate", "gradient_norm", "tokens", "tokens_per_second", "seconds"}
    for row in rows:
        assert row.keys() == names | {"plain_text/ce"} | {f"bellman/{name}" for name in BELLMAN_PARTS}
        assert all(math.isfinite(value) for value in row.values())
        parts = row["bellman/linear"] + row["bellman/chi2"] + 0.5 * row["plain_text/ce"]
        assert row["loss"] == pytest.approx(parts, rel=1e-5)
        assert row["bellman/linear"] == pytest.approx(row["bellman/nll"], rel=1e-5)
        assert 0 < row["bellman/oos_fraction"] < 0.4 and 0.8 <= row["bellman/p_eff"] < 1
        assert 1 < row["bellman/set_size"] < 400
    dev = rows_of(output / "dev.jsonl")
    assert [row["step"] for row in dev] == [0, 2, 4]
    items = rows_of(output / "dev_items.jsonl")
    assert {row["step"] for row in items} == {0, 2, 4} and items[0].keys() >= {"id", "sample", "loss", "linear"}
    assert all(0 < row["teacher_outside"] <= 0.2 and 0 < row["student_outside"] < 1 for row in items)


def launch(processes, script, *arguments):
    python = warm_python("stages")
    command = [python, "-m", "distill.launch", str(processes), python, str(script), *map(str, arguments)]
    environment = ENVIRONMENT | {"PYTHONPATH": f"{WORKFLOW}{os.pathsep}{HELPERS}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_two_processes_give_the_losses_of_one(bd_inputs, tmp_path):
    one = run_bd(bd_inputs, tmp_path / "one", 4)
    two, run = tmp_path / "two", {"bellman": {"p": 0.8}, "plain_text_weight": 0.5}
    arguments = stage_arguments(two, settings("bd", {"processes": 2}, run, micro_batch=4), **bd_inputs)
    launch(2, WORKFLOW / "scripts" / "train_run.py", *arguments)
    for mine, other in zip(metrics(one), metrics(two), strict=True):
        for key in mine.keys() - {"tokens_per_second", "seconds"}:
            assert other[key] == pytest.approx(mine[key], rel=1e-5, abs=1e-5), key
    assert_same_weights(weights(one), weights(two), 2e-6)

    def files(folder):
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))

    assert files(two) == files(one)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("two")) == ["two", "two.prov.json"]


def test_every_process_hears_the_dev_loss_and_answers_its_share(bd_inputs, tmp_path):
    """DistiLLM's threshold rises with each loss, whatever it is, and decides which texts both processes learn from."""
    run = {"responses": "labels", "threshold": 0.3, "threshold_raise": 0.4, "tolerance": 0.0, "capacity": 16}
    run |= {"max_new_tokens": 6, "plain_text_weight": 0.0}
    recipe = {"steps": 6, "evaluate_every": 2, "micro_batch": 8, "learning_rate": 3e-2}
    given = bd_inputs | {"teacher": bd_inputs["start"]}
    one = succeed("train_run", tmp_path / "one", settings("distillm", run=run, **recipe), **given)
    two = tmp_path / "two"
    launch(
        2,
        WORKFLOW / "scripts" / "train_run.py",
        *stage_arguments(two, settings("distillm", {"processes": 2}, run, **recipe), **given),
    )
    assert read_json(one / "data_seen.json") == read_json(two / "data_seen.json")
    shares = [[row["divergence/student_share"] for row in metrics(output)] for output in (one, two)]
    assert shares[0] == shares[1] and {*shares[0]} == {0, 1}
    for mine, other in zip(metrics(one), metrics(two), strict=True):
        assert other["loss"] == pytest.approx(mine["loss"], rel=1e-3)


FALLS = {"steps": 16, "evaluate_every": 16, "micro_batch": 8}
ENGINES = {
    "fp32": {},
    "checkpointing": {"gradient_checkpointing": True},
    "zero1": {"zero_stage": 1},
    "zero2": {"zero_stage": 2},
    "bf16": {"precision": "bf16"},
    "bf16-zero1": {"precision": "bf16", "zero_stage": 1},
    "bf16-zero2": {"precision": "bf16", "zero_stage": 2},
}


@pytest.fixture(scope="module")
def fallen(inputs, tmp_path_factory):
    """The metrics of plain SFT under every engine."""
    root = tmp_path_factory.mktemp("engines")
    folders = sft_inputs(inputs)
    return {
        name: metrics(succeed("train_run", root / name, settings(deepspeed=engine, **FALLS), **folders))
        for name, engine in ENGINES.items()
    }


@pytest.mark.parametrize("name", ENGINES)
def test_the_loss_falls_under_every_engine(fallen, name):
    rows = fallen[name]
    assert rows[-1]["loss"] < rows[0]["loss"] - 1
    assert all(math.isfinite(row["gradient_norm"]) and row["gradient_norm"] > 0 for row in rows)
    exact = "bf16" not in name
    for mine, plain in zip(rows, fallen["fp32"], strict=True):
        assert mine["loss"] == pytest.approx(plain["loss"], rel=2e-5 if exact else 0.05)
        assert mine["gradient_norm"] == pytest.approx(plain["gradient_norm"], rel=1e-3 if exact else 0.2)
        assert mine["learning_rate"] == plain["learning_rate"]


@pytest.fixture(scope="module")
def updates(tmp_path_factory):
    """What one update adds to each weight, its loss and its gradient norm, by number of processes and case."""
    root, found = tmp_path_factory.mktemp("updates"), {}
    for processes in (1, 2):
        launch(processes, HELPERS / "engine_updates.py", path := root / f"{processes}.safetensors")
        for key, tensor in load_file(path).items():
            number, name = key.split(":")
            found.setdefault((processes, CASES[int(number)]), {})[name] = tensor
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_an_update_of_bd_is_the_same_under_every_engine(updates, case):
    """As without ZeRO and checkpointing in one process; bf16 adds up the processes' gradients in bf16."""
    plain = case._replace(zero_stage=0, gradient_checkpointing=False)
    expected = updates[1, plain]
    for processes in (1,) if case.gradient_checkpointing else (1, 2):
        found = updates[processes, case]
        bound = 0.03 if processes == 2 and case.precision == "bf16" else 1e-6
        assert found.keys() == expected.keys()
        for name, own in expected.items():
            assert own.norm() > 1 and (found[name] - own).norm() < bound * own.norm(), (processes, name)
    exact = updates[1, plain._replace(precision="fp32")]
    assert expected["loss"].item() == pytest.approx(exact["loss"].item(), rel=0.02)
    assert expected["gradient_norm"].item() == pytest.approx(exact["gradient_norm"].item(), rel=0.05)


@pytest.mark.parametrize("family", ["gpt2", "opt"])
def test_other_families_train_and_neighbours_change_nothing(family, tmp_path):
    inputs = sft_inputs(make_inputs(tmp_path / "inputs", family, dev=20))
    output = succeed("train_run", tmp_path / "run", settings(steps=1), **inputs)
    assert rows_of(output / "dev.jsonl")[1]["loss"] < rows_of(output / "dev.jsonl")[0]["loss"]

    tokenizer, eos_id = load_tokenizer(inputs["tokenizer"])
    examples = encode_file(inputs["split"] / "train.jsonl", tokenizer, "short", eos_id)[:40]
    pairs = [(example.prompt_ids, example.response_ids) for example in examples]
    assert len({len(prompt) + len(response) for prompt, response in pairs}) > 2
    model = PackedModel(load_model(output / "checkpoints" / checkpoint_name(1)))

    def total(chosen):
        batch = pack_sequences(chosen, "cpu", with_final_state=False)
        with torch.no_grad():
            return token_nll(model.states(batch), batch.actions).total.item()

    assert total(pairs) / 40 == pytest.approx(sum(total([pair]) for pair in pairs) / 40, abs=1e-5)


def test_a_loss_that_is_not_finite_stops_the_run_with_one_line(inputs, tmp_path):
    hot = settings(learning_rate=1e30, gradient_clip=0.0)
    done = run_stage_process("train_run", tmp_path / "run", hot, **sft_inputs(inputs))
    assert done.code == 2
    last = done.text.rstrip().splitlines()[-1]
    assert last.startswith("error: train_run: tried: expected a finite loss, found nan on items ")
    assert "what was saved before is kept; lower the learning rate" in last
    assert not (tmp_path / "run").exists()


def test_each_epoch_takes_every_item_once_in_another_order():
    epochs = [
        [index for step in range(4 * epoch, 4 * epoch + 4) for index in batch_indices(step, 18, 4, 10, "x")]
        for epoch in range(3)
    ]
    assert all(len(set(epoch)) == 16 for epoch in epochs)
    assert all(first != second for first, second in pairwise(epochs))
    assert epochs[0][:4] == batch_indices(0, 18, 4, 10, "x") != batch_indices(0, 18, 4, 11, "x")
