"""SeqKD with the teacher's share from its stored candidate sets: the right set at each token, and no teacher."""

from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from distill.candidates.store import load_candidate_sets
from distill.errors import ConfigError
from distill.files import MANIFEST, digest_file, seal_folder
from distill.losses.candidate_sets import top_p_sets
from distill.methods.seqkd import SeqKdRun, build_task
from distill.models.load import load_model
from distill.models.packed import PackedModel
from distill.models.packing import pack_sequences
from distill.records import read_samples
from distill.study.load import load_study
from plain_trainer import make_context
from stage_process import make_inputs, make_samples, rows_of, succeed
from tiny_models import make_model

RECIPE = {"steps": 12, "batch": 16, "micro_batch": 8, "learning_rate": 5e-3, "evaluate_every": 12}
CACHED = {"method": "seqkd", "kd_ratio": 0.5, "teacher": "cached", "samples_per_prompt": 2, "training": RECIPE}
SHAPE = {"vocabulary": 400, "layers": 1, "positions": 64}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A random teacher whose distributions are peaked enough for small sets."""
    folder = make_model(tmp_path_factory.mktemp("teacher"), initializer_range=0.5, seed=1, **SHAPE)
    seal_folder(folder)
    return folder


@pytest.fixture(scope="module")
def inputs(teacher, tmp_path_factory):
    root = tmp_path_factory.mktemp("inputs")
    inputs = make_inputs(root, dev=20, **SHAPE)
    made = make_samples(root, inputs, teacher, prompts=30, held_out_prompts=5, per_prompt=3)
    return {name: path for name, path in inputs.items() if name != "plain_text"} | made


def task_of(inputs: dict[str, Path], **changes):
    """Returns the task of a run; a teacher that is asked for fails the test."""
    context = make_context(
        inputs,
        SeqKdRun(**(CACHED | changes)),
        inputs={name: [inputs[name]] for name in ("samples", "candidates")},
        load_teacher=lambda: pytest.fail("the teacher was loaded"),
    )
    return build_task(context)


def student_of(inputs) -> PackedModel:
    return PackedModel(load_model(inputs["start"]), 400)


def test_each_token_meets_the_teacher_s_set_of_its_own_state(inputs, teacher):
    """Against the teacher itself; the first two of each prompt's three samples, in another order."""
    task, student, live = task_of(inputs), student_of(inputs), PackedModel(load_model(teacher), 400)
    samples = [s for s in read_samples(inputs["samples"] / "samples.jsonl") if not s.held_out and s.sample < 2]
    assert task.items == len(samples) == 60
    chosen = [41, 3, 0, 58, 17]
    batch = pack_sequences([(samples[i].prompt_ids, samples[i].response_ids) for i in chosen], "cpu", False)
    assert task.weights(chosen, 0) == {"response": len(batch.actions)}
    with torch.no_grad():
        terms = task.losses(student.states, chosen, 0)["response"]
        logits, probs = student.states(batch).logits(), live.states(batch).logits().softmax(-1)
    aim = probs * top_p_sets(probs, 0.95).to_mask(400)
    assert (aim > 0).sum(-1).float().mean() < 200
    expected = {
        "ce": cross_entropy(logits, batch.actions, reduction="sum") / 2,
        "kd": cross_entropy(logits, aim / aim.sum(-1, keepdim=True), reduction="sum") / 2,
    }
    torch.testing.assert_close(terms.parts, expected, rtol=1e-5, atol=1e-5)
    assert terms.weight == len(batch.actions)


def test_the_dev_loss_is_that_of_seqkd_without_the_teacher_s_share(inputs):
    student = student_of(inputs)
    with torch.no_grad():
        cached, plain = (task_of(inputs, **own).evaluate(student) for own in ({}, {"kd_ratio": 0.0, "teacher": "live"}))
    assert cached == plain


def test_a_run_trains_without_the_teacher(inputs, tmp_path):
    """The stage gets no teacher's folder; both parts fall, however the batch is cut."""
    values = {"name": "tried", "updates_of": None, "wrapper": "short", "plain_text_tokens": 16}
    values |= {"deepspeed": {}, "seed": 10}
    logs = []
    for size in (8, 16):
        run = CACHED | {"training": RECIPE | {"micro_batch": size}}
        output = succeed("train_run", tmp_path / str(size), values | {"run": run}, **inputs)
        logs.append(rows_of(output / "metrics.jsonl"))
    for mine, other in zip(*logs, strict=True):
        assert mine["loss"] == pytest.approx(mine["response/ce"] + mine["response/kd"], rel=1e-6)
        assert [other[key] for key in ("loss", "response/kd")] == pytest.approx(
            [mine[key] for key in ("loss", "response/kd")], rel=1e-5
        )
    for part in ("response/ce", "response/kd"):
        assert logs[0][-1][part] < logs[0][0][part] - 0.1


def test_stored_sets_leave_out_the_state_after_the_last_token(inputs):
    lengths = [len(sample.response_ids) for sample in read_samples(inputs["samples"] / "samples.jsonl")]
    stored = load_candidate_sets([inputs["candidates"]], digest_file(inputs["samples"] / MANIFEST), lengths)
    found = stored.take([7, 2], with_final_state=False)
    assert found.p == 0.95 and len(found) == lengths[7] + lengths[2]
    whole = [stored[place][: lengths[place]] for place in (7, 2)]
    assert torch.equal(found.ids, torch.cat([own.ids for own in whole]))
    assert torch.equal(found.sizes, torch.cat([own.sizes for own in whole]))


@pytest.mark.parametrize(
    ("options", "needs"),
    [
        ({}, {"teacher_samples", "candidate_sets"}),
        ({"teacher": "live"}, {"teacher_samples", "teacher_logits"}),
        ({"teacher": "live", "kd_ratio": 0.0}, {"teacher_samples"}),
    ],
)
def test_a_run_needs_the_teacher_or_its_sets(options, needs):
    assert SeqKdRun(**(CACHED | options)).needs == needs
    load_study({"runs": {"tried": CACHED | options}})


def test_sets_that_nothing_would_read_are_refused():
    with pytest.raises(ConfigError) as error:
        load_study({"runs": {"tried": CACHED | {"kd_ratio": 0}}})
    expected = "config: runs.tried.teacher: expected live since kd_ratio is 0, found cached; raise kd_ratio or leave"
    assert str(error.value) == f"{expected} teacher out"
