"""GKD and DistiLLM at work: which texts they learn from, what their options do, and what they watch."""

from copy import deepcopy

import pytest
import torch

from distill.config.runs import Run
from distill.errors import ConfigError, DataError
from distill.files import seal_folder
from distill.losses.divergences import state_divergences
from distill.methods import distillm, distillm2, gkd, kd
from distill.methods.minillm.objective import reverse_kl
from distill.models.load import load_model
from distill.models.packed import PackedModel
from distill.models.packing import pack_sequences
from distill.study.load import load_study
from distill.training.data_seen import data_seen
from distill.training.loop import TrainingPlan
from distill.training.order import batch_indices
from plain_trainer import Trainer, make_context
from stage_process import make_inputs, make_samples
from tiny_models import EOS_ID, make_model

METHODS = {
    "gkd": (gkd, gkd.GkdRun),
    "distillm": (distillm, distillm.DistillmRun),
    "distillm2": (distillm2, distillm2.Distillm2Run),
    "kd": (kd, kd.KdRun),
}
SHAPE = {"vocabulary": 400, "layers": 1, "positions": 64}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("inputs")
    inputs = make_inputs(root, dev=20, initializer_range=0.3, **SHAPE)
    teacher = make_model(root / "teacher", width=64, initializer_range=0.3, seed=5, **SHAPE)
    seal_folder(teacher)
    made = make_samples(root, inputs, teacher, prompts=40, held_out_prompts=6, per_prompt=2)
    return inputs | {"teacher": teacher, "samples": made["samples"]}


@pytest.fixture
def trainer(folders):
    def build(method="gkd", batch=4, micro_batch=4, learning_rate=1e-3, name="tried", seed=10, **keys):
        module, section = METHODS[method]
        training = {"steps": 12, "batch": batch, "micro_batch": micro_batch, "learning_rate": learning_rate}
        own = {"max_new_tokens": 8} if method != "kd" else {}

        def load(role):
            return PackedModel(load_model(folders[role]), 400)

        context = make_context(
            folders,
            section(training=training, **own | keys),
            name=name,
            seed=seed,
            inputs={name: [folders[name]] for name in ("samples", "plain_text")},
            load_teacher=lambda: load("teacher").eval(),
            load_frozen=lambda role: load(role).eval(),
        )
        runner = Trainer(module.build_task(context), load("start"), batch, micro_batch, learning_rate)
        return runner

    return build


GKD_CHANGES = {
    "divergence": ("skew_kl", {}),
    "weight": (0.1, {}),
    "responses": ("teacher", {}),
    "student_share": (1.0, {}),
    "max_new_tokens": (3, {}),
    "sampling_temperature": (0.5, {}),
    "loss_temperature": (2.0, {}),
    "replay": (True, {}),
    "capacity": (4, {"replay": True}),
    "samples_per_prompt": (1, {"responses": "teacher"}),
    "detach_mixture": (True, {"divergence": "skew_reverse_kl"}),
}
DISTILLM_CHANGES = {
    "threshold": (0.1, {}),
    "fresh_share": ("increasing", {"capacity": 4, "threshold": 1.0}),
    "plain_text_weight": (0.0, {}),
    "threshold_raise": (0.9, {"threshold": 0.0}),
    "tolerance": (5.0, {"threshold": 0.0, "threshold_raise": 0.9}),
}
DISTILLM2_CHANGES = {
    "samples_per_prompt": 1,
    "skew": 0.5,
    "student_weight": 0.5,
    "detach_mixture": False,
    "max_new_tokens": 3,
    "sampling_temperature": 0.5,
}


def test_every_option_changes_the_losses(trainer):
    assert {*GKD_CHANGES} == {*gkd.GkdRun.model_fields} - {*Run.model_fields, "rollout_engine"}
    assert {*GKD_CHANGES, *DISTILLM_CHANGES} - {"student_share", "replay"} == {*distillm.DistillmRun.model_fields} - {
        *Run.model_fields,
        "rollout_engine",
    }
    for key, (value, beside) in GKD_CHANGES.items():
        assert losses(trainer(**beside)) != losses(trainer(**beside | {key: value})), key
    for key, (value, beside) in DISTILLM_CHANGES.items():
        keys = {"threshold": 0.9, "tolerance": 0.1} | beside
        first, second = (losses(trainer("distillm", **own)) for own in (keys, keys | {key: value}))
        assert first != second, key
    assert {*DISTILLM2_CHANGES} == {*distillm2.Distillm2Run.model_fields} - {*Run.model_fields, "rollout_engine"}
    for key, value in DISTILLM2_CHANGES.items():
        assert losses(trainer("distillm2")) != losses(trainer("distillm2", **{key: value})), key
    assert losses(trainer()) == losses(trainer()) != losses(trainer(seed=11))


def losses(runner):
    """Six updates, with a dev loss that rises after the third."""
    runner.task.evaluated(0, 1.0)
    first = runner.run(range(3))
    runner.task.evaluated(3, 2.0)
    return first + runner.run(range(3, 6))


def test_without_student_text_it_is_distillation_on_the_data(trainer):
    """As KD with the teacher alone: the forward KL has the gradient of its cross entropy."""
    runners = [
        trainer("gkd", divergence="forward_kl", weight=None, student_share=0.0, learning_rate=3e-3),
        trainer("kd", kd_ratio=1.0, learning_rate=3e-3),
    ]
    for runner in runners:
        runner.run(range(3))
    assert not runners[0].shares
    for own, other in zip(*(runner.model.parameters() for runner in runners), strict=True):
        torch.testing.assert_close(own, other, atol=1e-5, rtol=1e-4)


def test_on_its_own_text_alone_it_is_the_one_step_part_of_minillm(trainer):
    runner = trainer("gkd", divergence="jsd", weight=1.0, student_share=1.0)
    runner.task.prepare(runner, 0, range(4))
    terms = runner.task.losses(runner.model.states, range(4), 0)["divergence"]
    (rollouts,) = runner.shares
    batch = pack_sequences([(own.prompt_ids, own.response_ids) for own in rollouts], "cpu", with_final_state=False)
    expected = reverse_kl(runner.model.states(batch), runner.task.teacher.states(batch)).sum()
    torch.testing.assert_close(terms.total, expected)
    assert terms.weight == len(batch.actions)
    assert [value.item() for value in terms.metrics["student_share"]] == [4, 4]
    assert [tuple(own.prompt_ids) for own in rollouts] == [runner.task.drawn(i, 0).prompt for i in range(4)]
    assert all(own.response_ids.count(EOS_ID) == (own.response_ids[-1] == EOS_ID) for own in rollouts)


def test_distillm2_contrasts_the_teachers_answer_with_the_starts(trainer):
    runner = trainer("distillm2", student_weight=0.5, skew=0.2, learning_rate=1e-2)
    first = runner.gradients(0)
    batch = batch_indices(0, runner.task.items, 4, "order")
    teacher, (start,) = [runner.task.train[index] for index in batch], runner.shares
    assert [text.prompt_ids for text in teacher] == [text.prompt_ids for text in start]
    expected = 0.0
    for texts, share, name in ((teacher, 1.5, "skew_kl"), (start, 0.5, "skew_reverse_kl")):
        for text in texts:
            one = pack_sequences([(text.prompt_ids, text.response_ids)], "cpu", with_final_state=False)
            states = runner.model.states(one), runner.task.teacher.states(one)
            expected += share * state_divergences(*states, name, 0.2).mean().item() / 4
    assert first == pytest.approx(expected, rel=1e-5)
    # The start's answers stay, whatever the student has become: the same items are not answered again.
    runner.optimizer.step()
    runner.task.prepare(runner, 0, batch)
    assert runner.shares == [start, []]


@pytest.mark.parametrize(
    ("method", "keys"),
    [
        ("gkd", {"student_share": 0.5}),
        ("gkd", {"student_share": 0.7, "replay": True, "capacity": 8}),
        ("distillm", {"threshold": 0.7, "capacity": 6}),
        ("distillm2", {}),
    ],
)
def test_a_saved_run_gives_the_same_next_updates(trainer, tmp_path, method, keys):
    runner = trainer(method, **keys)
    runner.task.evaluated(0, 1.0)
    runner.run(range(5))
    runner.task.evaluated(5, 1.2)
    runner.task.save(tmp_path)
    resumed = trainer(method, **keys)
    resumed.model.load_state_dict(runner.model.state_dict())
    resumed.optimizer.load_state_dict(deepcopy(runner.optimizer.state_dict()))
    resumed.task.load(tmp_path)
    rest = range(5, 12)
    assert resumed.run(rest) == runner.run(rest)
    if method != "distillm2":
        assert resumed.task.chosen == runner.task.chosen and len(runner.task.chosen) == 12
        assert len({*runner.task.chosen}) > 1, "the case tells nothing if all updates are alike"
    with torch.no_grad():
        assert resumed.task.evaluate(resumed.model) == runner.task.evaluate(runner.model)
    plan = TrainingPlan(10, "tried", runner.task.run.training, 12)
    assert data_seen(resumed.task, plan) == data_seen(runner.task, plan)


@pytest.mark.parametrize(
    ("method", "keys"),
    [
        ("gkd", {"student_share": 0.5}),
        ("gkd", {"student_share": 1.0, "divergence": "reverse_kl", "weight": None}),
        ("distillm", {"threshold": 0.5, "plain_text_weight": 0.0}),
        ("distillm", {"threshold": 0.5, "divergence": "skew_kl", "plain_text_weight": 0.0}),
        ("distillm2", {}),
    ],
)
def test_training_lowers_the_divergence_along_fixed_texts(trainer, method, keys):
    own = {"responses": "teacher"} if method != "distillm2" else {}
    runner = trainer(method, 32, 32, 1e-2, max_new_tokens=6, **own, **keys)
    with torch.no_grad():
        _, before = runner.task.evaluate(runner.model)
        runner.task.evaluated(0, 1.0)
        with torch.enable_grad():
            runner.run(range(12))
        _, after = runner.task.evaluate(runner.model)
    assert [row["id"] for row in before] == [row["id"] for row in after] and len(before) == 6
    for key in ("loss", "along_teacher", "along_start"):
        assert sum(row[key] for row in after) < 0.9 * sum(row[key] for row in before), key


def test_what_a_run_drew_is_told(trainer):
    data, own = trainer(student_share=0.0), trainer(student_share=1.0)
    for runner in (data, own):
        runner.run(range(3))
    plan = TrainingPlan(10, "order", data.task.run.training, 3)
    seen = [data_seen(runner.task, plan) for runner in (data, own)]
    assert [row["labelled_rows"] for row in seen] == [12, 0]
    assert [row["responses"] for row in seen] == [12, None]
    assert seen[0]["prompts_sha256"] == seen[1]["prompts_sha256"]


@pytest.mark.parametrize(
    ("method", "keys", "message"),
    [
        ("gkd", {"weight": None}, "weight: expected a number with jsd"),
        ("gkd", {"divergence": "forward_kl"}, "weight: expected null with forward_kl"),
        ("gkd", {"detach_mixture": True}, "detach_mixture: expected false with jsd"),
        ("gkd", {"samples_per_prompt": 2}, "samples_per_prompt: expected null since responses are labels"),
        ("distillm", {"capacity": 8}, "capacity: expected at least training.batch = 16"),
    ],
)
def test_what_makes_no_run_is_refused(method, keys, message):
    training = {"steps": 2, "batch": 16, "micro_batch": 16, "learning_rate": 1e-3}
    study = {"runs": {"tried": {"method": method, "training": training} | keys}, "judge": {"pairs": []}}
    with pytest.raises(ConfigError, match=f"runs.tried.{message}"):
        load_study(study)


def test_a_run_needs_held_out_samples(trainer, folders, monkeypatch):
    monkeypatch.setattr("distill.methods.gkd.watched.read_samples", lambda path: [])
    with pytest.raises(DataError, match="expected samples of held-out prompts, found none"):
        trainer()
