"""TGPO, GRPO, RKL and KDRL at work: groups of answers, rewards, guidance of each form, and what they watch."""

from copy import deepcopy
from importlib import import_module

import pytest
import torch

from distill.config.runs import Run
from distill.errors import ConfigError
from distill.files import seal_folder
from distill.losses.states import States
from distill.methods.registry import method_section
from distill.methods.tgpo.task import draw_from
from distill.models.load import load_model
from distill.models.packed import PackedModel
from distill.models.packing import pack_sequences
from distill.records import read_examples
from distill.study.load import load_study
from plain_trainer import Trainer, make_context
from stage_process import make_inputs
from tiny_models import EOS_ID, make_model

SHAPE = {"vocabulary": 400, "layers": 1, "positions": 64}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("inputs")
    inputs = make_inputs(root, dev=10, initializer_range=0.3, **SHAPE)
    teacher = make_model(root / "teacher", width=64, initializer_range=0.3, seed=5, **SHAPE)
    seal_folder(teacher)
    return inputs | {"teacher": teacher}


def is_even(id_, ids):
    return float(ids[0] % 2 == 0)


@pytest.fixture
def trainer(folders):
    """`batch`: two updates a round of 4 prompts with 4 answers each. The reward: the first token's id is even."""

    def build(
        method="tgpo", batch=8, micro_batch=8, learning_rate=1e-3, teacher="teacher", seed=10, reward=is_even, **keys
    ):
        training = {"steps": 12, "batch": batch, "micro_batch": micro_batch, "learning_rate": learning_rate}
        sizes = {"prompts_per_round": 4, "group": 4, "max_new_tokens": 6}
        run = method_section(method).model_validate({"training": training} | sizes | keys)

        def load(role):
            return PackedModel(load_model(folders[role]), 400)

        context = make_context(folders, run, seed=seed, load_teacher=lambda: load(teacher).eval())
        task = import_module(f"distill.methods.{method}").build_task(context)
        if reward is not None:
            task.reward = reward
        return Trainer(task, load("start"), batch, micro_batch, learning_rate)

    return build


FAMILY = {
    "reward": None,  # what it changes is shown apart
    "prompts_per_round": (8, {}),
    "group": (2, {}),
    "clip": (1e-4, {}),
    "entropy_weight": (0.5, {}),
    "max_new_tokens": (3, {}),
}
CHANGES = {
    "tgpo": {
        "form": ("mc", {}),
        "guidance_weight": (0.3, {}),
        "guidance_decay": (0.01, {}),
        "guidance_floor": (0.09, {}),
        "top_k": (3, {"form": "fwd_topk"}),
        "use_std": (False, {}),
        "policy_gradient": (False, {}),
    },
    "grpo": {"use_std": (False, {})},
    "kdrl": {"use_std": (False, {}), "guidance_weight": (0.1, {})},
    "rkl": {"form": ("k2", {}), "top_k": (3, {"form": "dist"})},
}


@pytest.mark.parametrize("method", CHANGES)
def test_every_option_changes_the_losses(trainer, method):
    changes = FAMILY | CHANGES[method]
    assert {*changes} == {*method_section(method).model_fields} - {*Run.model_fields, "rollout_engine"}
    for key, change in changes.items():
        if change:
            value, beside = change
            found = [trainer(method, **own).run(range(4)) for own in (beside, beside | {key: value})]
            assert found[0] != found[1], key
    assert trainer(method).run(range(3)) == trainer(method).run(range(3)) != trainer(method, seed=11).run(range(3))


@pytest.mark.parametrize("form", ["reg", "mc", "fwd_topk", "adv"])
def test_each_form_guides_and_without_weight_is_grpo(trainer, form):
    grpo, without, guided = trainer("grpo"), trainer(form=form, guidance_weight=0), trainer(form=form)
    losses = [runner.run(range(4)) for runner in (grpo, without, guided)]
    assert losses[0] == losses[1] != losses[2]
    for own, other in zip(grpo.model.parameters(), without.model.parameters(), strict=True):
        assert torch.equal(own, other)


@pytest.mark.parametrize("form", ["sampled", "centred", "full", "k1", "k2", "k3", "dist"])
def test_each_form_of_the_reverse_kl_brings_the_student_to_the_teacher(trainer, form):
    runner = trainer("rkl", 64, 64, 1e-2, form=form, prompts_per_round=16, top_k=50, entropy_weight=0.0, seed=3)
    with torch.no_grad():
        before = mean(runner, "reverse_kl")
    runner.run(range(20))
    with torch.no_grad():
        assert mean(runner, "reverse_kl") < before - 0.2


def mean(runner, key):
    _, rows = runner.task.evaluate(runner.model.eval())
    runner.model.train()
    return sum(row[key] for row in rows) / len(rows)


@pytest.mark.parametrize("method", ["tgpo", "kdrl", "grpo"])
def test_rewards_are_learnt_from(trainer, method):
    runner = trainer(
        method, 64, 64, 1e-2, prompts_per_round=16, **({} if method == "grpo" else {"guidance_weight": 1e-3})
    )
    before = mean(runner, "loss")
    runner.run(range(15))
    assert before > -0.8 and mean(runner, "loss") < before - 0.15


def test_guidance_alone_and_reverse_kl_learn_from_no_reward(trainer):
    for method, keys in (("tgpo", {"policy_gradient": False}), ("rkl", {})):
        found = [trainer(method, reward=reward, **keys).run(range(3)) for reward in (is_even, lambda id_, ids: 1.0)]
        assert found[0] == found[1]


def test_two_updates_of_a_round_share_what_was_sampled(trainer):
    runner, seen = trainer(learning_rate=1e-2), []
    for step in range(3):
        runner.gradients(step)
        terms = runner.task.losses(runner.model.states, [0, 5], step)["policy"]
        ratio, count = terms.metrics["ratio"]
        seen.append((ratio / count).item())
        kept = [{name: own.clone() for name, own in rollout.scores.items()} for rollout in runner.task.rounds.rollouts]
        runner.optimizer.step()
        for before, rollout in zip(kept, runner.task.rounds.rollouts, strict=True):
            assert all(torch.equal(own, rollout.scores[name]) for name, own in before.items())
    assert len(runner.shares) == 2 and len(runner.shares[0]) == 16
    assert seen[0] == pytest.approx(1, abs=1e-5) and abs(seen[1] - 1) > 1e-4 and seen[2] == pytest.approx(1, abs=1e-5)


def test_advantages_are_those_of_the_group(trainer):
    rewards = iter([1.0, 0, 0, 0, 1, 1, 0, 1, 0, 0, 0, 0, 1, 1, 1, 1])
    runner = trainer("grpo", reward=lambda id_, ids: next(rewards))
    runner.task.prepare(runner, 0, range(8))
    expected = [1.5, -0.5, -0.5, -0.5, 0.5, 0.5, -1.5, 0.5, *[0.0] * 8]
    torch.testing.assert_close(runner.task._advantages, torch.tensor(expected), atol=1e-5, rtol=0)
    lengths = [len(rollout.response_ids) for rollout in runner.task.rounds.rollouts]
    terms = runner.task.losses(runner.model.states, range(8), 0)["policy"]
    weighted = sum(-own * length for own, length in zip(expected[:8], lengths[:8], strict=True))
    assert terms.parts["surrogate"].item() == pytest.approx(weighted, abs=1e-4)
    assert terms.weight == sum(lengths[:8])
    assert [value.item() for value in terms.metrics["reward"]] == [4, 8]


def test_where_the_teacher_is_the_student_nothing_pulls(trainer):
    for form in ("sampled", "k1", "k2", "k3"):
        runner = trainer("rkl", form=form, teacher="start", entropy_weight=0.0)
        runner.gradients(0)
        gradient = torch.cat([own.grad.flatten() for own in runner.model.parameters()])
        assert gradient.abs().max() < 1e-5, form
        assert mean(runner, "reverse_kl") == pytest.approx(0, abs=1e-5)


def test_the_reward_reads_the_text_as_evaluation_does(trainer, folders):
    """Exact match with the example's own answer, without the end token."""
    runner = trainer(reward=None)
    (example, *_) = read_examples(folders["dev"] / "examples.jsonl")
    (encoded, *_) = runner.task.dev
    assert encoded.id == example.id
    assert runner.task.reward(example.id, encoded.response_ids) == 1
    assert runner.task.reward(example.id, encoded.response_ids[:-2]) == 0


def test_draws_follow_the_distribution():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, generator=generator).repeat_interleave(4000, 0)
    states = States(logits, torch.eye(5), 5, chunk_logits=5 * 999)
    drawn = draw_from(states, torch.rand(12000, dtype=torch.float64, generator=generator)).view(3, 4000)
    shares = torch.stack([torch.bincount(own, minlength=5) / 4000 for own in drawn])
    torch.testing.assert_close(shares, logits[::4000].softmax(-1), atol=0.03, rtol=0)


@pytest.mark.parametrize("killed_after", [2, 3])
def test_a_run_saved_within_a_round_or_between_two_goes_on_alike(trainer, tmp_path, killed_after):
    runner = trainer(form="mc")
    runner.run(range(killed_after))
    runner.task.save(tmp_path)
    resumed = trainer(form="mc")
    resumed.model.load_state_dict(runner.model.state_dict())
    resumed.optimizer.load_state_dict(deepcopy(runner.optimizer.state_dict()))
    resumed.task.load(tmp_path)
    rest = range(killed_after, 7)
    assert resumed.run(rest) == runner.run(rest)


def test_what_it_watches_is_on_the_student_s_own_answers(trainer):
    runner = trainer()
    student, teacher = runner.model.eval(), runner.task.teacher
    with torch.no_grad():
        loss, rows = runner.task.evaluate(student)
        assert runner.task.evaluate(student) == (loss, rows)
    assert len(rows) == 10 and loss == pytest.approx(sum(row["loss"] for row in rows) / 10)
    prompts = [own.prompt_ids for own in runner.task.dev]
    from distill.seeds import stage_seed

    seeds = [stage_seed(10, "tried", "dev", own.id) for own in runner.task.dev]
    answers = runner.task.rounds.sampler.sample(student, prompts, seeds)
    for row, answer in zip(rows, answers, strict=True):
        batch = pack_sequences([(answer.prompt_ids, answer.response_ids)], "cpu", False)
        with torch.no_grad():
            q, p = (model.states(batch).logits().log_softmax(-1) for model in (student, teacher))
        at = batch.actions[:, None]
        assert row["reverse_kl"] == pytest.approx((q.gather(1, at) - p.gather(1, at)).mean().item(), abs=1e-4)
        assert row["mismatch"] == pytest.approx((p.argmax(-1) != batch.actions).float().mean().item())
        assert row["loss"] == -is_even("", answer.response_ids)
    assert any(answer.response_ids[-1] == EOS_ID for answer in answers)


@pytest.mark.parametrize(
    ("run", "training", "message"),
    [
        ({"method": "grpo"}, {"steps": 2, "batch": 100}, "training.batch: expected a divisor of prompts_per_round"),
        ({"method": "rkl"}, {"epochs": 2}, "training.epochs: expected null"),
        ({"method": "kdrl", "reward": "luck"}, {"steps": 2}, "reward: metric: expected one of "),
        ({"method": "tgpo", "form": "adv", "policy_gradient": False}, {"steps": 2}, "policy_gradient: expected true"),
    ],
)
def test_what_makes_no_run_is_refused(run, training, message):
    training = {"batch": 64, "micro_batch": 4, "learning_rate": 1e-3} | training
    study = {"runs": {"tried": {"training": training} | run}, "judge": {"pairs": []}}
    with pytest.raises(ConfigError, match=f"runs.tried.{message}"):
        load_study(study)
