"""The benchmarks run at a toy shape, and time what they say: the official transcription equals the dense reference."""

import csv
import math
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from distill.methods.bd.reference import bellman_released, bellman_sampled
from distill.models.packed import PackedModel

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import half_precision  # noqa: E402
import losses  # noqa: E402
import phase2_step  # noqa: E402
import rollouts  # noqa: E402
import scaling  # noqa: E402
from official_step import Recipe  # noqa: E402
from shapes import SHAPES, make_data  # noqa: E402

TOY = SHAPES["toy"]
RECIPES = {"official": Recipe(), **phase2_step.RUNGS}


def place(dtype):
    return phase2_step.Workplace(TOY, TOY.vocabularies[0], "cpu", dtype, 1, pack=2, chunks=2)


@pytest.fixture(scope="module")
def double():
    models = place(torch.float64).models()
    return models, make_data(TOY, PackedModel(place(torch.float64).models()[1]))


def rows_of(captured):
    lines = captured.out.splitlines()
    assert lines[0].startswith("# 2")
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("objective", phase2_step.OBJECTIVES)
def test_the_official_step_equals_the_dense_reference(objective, recipe, double):
    models, data = double
    official = place(torch.float64).official(objective, models, recipe)
    options = phase2_step.OBJECTIVES[objective][0]
    reference = bellman_released if objective == "released" else bellman_sampled
    for (prompt, response), sets in zip(data.pairs, data.sets, strict=True):
        with torch.no_grad():
            found = official.bellman(prompt, response, sets)
            logits = models[0](torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 :]
        own = phase2_step.trajectories_of(phase2_step.Data([(prompt, response)], [], data.chunks), "cpu")
        assert found.item() == pytest.approx(reference(logits, own, sets, options).mean.item(), rel=1e-10)


@pytest.mark.parametrize("objective", phase2_step.OBJECTIVES)
def test_both_sides_compute_one_update(objective, double):
    models, data = double
    official, ours = place(torch.float64).official(objective, models), place(torch.float64).ours(objective, models)
    samples = range(len(data.pairs))
    for run, own in (
        (phase2_step.official_bellman, ours.bellman),
        (phase2_step.official_plain_text, ours.plain_text),
    ):
        assert own(data).item() == pytest.approx(sum(run(official, data, i).item() for i in samples) / len(samples))


def test_useful_operations_of_one_layer():
    """Counted by hand: toy student, one sequence of 3 tokens, 2 of which have logits."""
    student = place(torch.float32).models()[0]
    attention = 32 * (32 + 16 + 16 + 32) + 32 + 16 + 16  # query, key, value, output; three biases
    layer = attention + 3 * 32 * 64 + 2 * 32
    found = phase2_step.forward_flops(student, [3], rows=2)
    assert found == 2 * (layer + 32) * 3 + 2 * 32 * 3**2 + 2 * 300 * 32 * 2


def test_a_phase_2_step_on_paper(capsys):
    phase2_step.main(["--shape", "toy", "--rounds", "2", "--parts", "accuracy", "time", "repairs"])
    rows = rows_of(capsys.readouterr())
    found = {tuple(row[key] for key in ("objective", "part", "measure", "side")): float(row["p50"]) for row in rows}
    assert all(math.isfinite(value) and value >= 0 for value in found.values())
    for objective in phase2_step.OBJECTIVES:
        for part in ("bellman", "plain text"):
            assert found[objective, part, "loss error", "ours"] < 1e-6
            assert found[objective, part, "gradient error", "ours"] < 1e-5
        for side in ("official", "ours"):
            parts = (found[objective, part, "time", side] for part in ("bellman", "plain text"))
            assert found[objective, "step", "time", side] >= sum(parts) * 0.5
            assert found[objective, "step", "useful tokens", side] > 0
        assert (objective, "step", "time", "official/ours") in found
    assert {key[3] for key in found if key[:2] == ("released", "bellman")} >= set(phase2_step.RUNGS)


@pytest.mark.slow
def test_half_precision_takes_the_same_path(capsys):
    phase2_step.main(["--shape", "toy", "--rounds", "1", "--parts", "time", "--dtype", "bfloat16"])
    assert all(float(row["p50"]) > 0 for row in rows_of(capsys.readouterr()))


@pytest.mark.parametrize("side", ["official", "ours"])
@pytest.mark.parametrize("objective", phase2_step.OBJECTIVES)
def test_memory_of_a_side(objective, side, double):
    assert phase2_step.memory_of_side(place(torch.float32), double[1], objective, side) > 0


def test_scaling_on_paper(capsys):
    scaling.main(["--shape", "toy", "--rounds", "1", "--vocabularies", "300", "600"])
    rows = rows_of(capsys.readouterr())
    assert {row["study"] for row in rows} == {"tokens", "padding", "vocabulary", "p"}
    assert all(float(row["p50"]) >= 0 for row in rows)
    shares = [float(row["x"]) for row in rows if row["study"] == "padding"]
    assert min(shares) < 0.05 and max(shares) > 0.25


@pytest.mark.parametrize("offset", half_precision.OFFSETS)
def test_half_precision_leaves_gradients_and_choices_right(offset, capsys):
    half_precision.measure_exactness(half_precision.invented("toy"), offset)
    rows = [line.split(",") for line in capsys.readouterr().out.splitlines()]
    found = {(row[4], row[5]): float(row[-1]) for row in rows}
    assert found["sampled", "gradient error"] < 0.01 and found["sft", "gradient error"] < 0.01
    exact = [("largest logit", "wrong tokens"), ("sets at p = 0.8", "others than of float32 logits")]
    assert [found[key] for key in exact] == [0, 0]
    assert found["Q of candidates", "largest"] == 0 and found["entropy", "largest error"] < 1e-4


def test_time_and_memory_of_half_precision():
    for make in (
        partial(half_precision.work_of, partial(half_precision.invented, "toy")),
        partial(half_precision.update_of, "toy"),
    ):
        for part, run in make().items():
            run()
            assert half_precision.memory(make, part) > 0


@pytest.fixture(scope="module")
def case():
    return losses.make_case(losses.SHAPES["toy"], torch.float64)


@pytest.mark.parametrize("loss", losses.LOSSES)
def test_both_forms_of_a_loss_compute_one_update(loss, case):
    ours, dense = (losses.update(loss, side, case) for side in losses.SIDES)
    assert all(own.isfinite().all() and own.abs().max() > 0 for own in dense)
    assert losses.difference(ours, dense) < 1e-12


def test_losses_on_paper(capsys):
    losses.main(["--shape", "toy", "--losses", "jsd", "dpo", "--rounds", "1"])
    found = {
        tuple(row[key] for key in ("loss", "measure", "side")): float(row["p50"])
        for row in rows_of(capsys.readouterr())
    }
    for loss in ("jsd", "dpo"):
        assert found[loss, "largest difference", "both"] < 1e-5
        for measure in ("peak memory", "time"):
            ratio = found[loss, measure, "dense"] / found[loss, measure, "ours"]
            assert found[loss, measure, "dense/ours"] == pytest.approx(ratio, rel=1e-3)


def test_rollouts_on_paper(tmp_path):
    shape = rollouts.SHAPES["toy"]
    rollouts.save_models(shape, tmp_path)
    started, updates, found = rollouts.run_engine("sampler with scores", shape, tmp_path, rounds=2)
    assert len(updates) == 2 and found.keys() == set(shape.batches) and min(started) > 0
    longest = shape.answers * shape.max_new_tokens
    # A seed for each answer, and weights that stay: every batch and round gives the same answers.
    assert {tokens for own in found.values() for tokens, _ in own} == {found[4][0][0]}
    assert 0 < found[4][0][0] <= longest
