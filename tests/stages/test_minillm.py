"""MiniLLM: sampling from the mixture of student and teacher, rounds of rollouts, and what its options do."""

from copy import deepcopy

import pytest
import torch

from distill.config.runs import Run
from distill.errors import ConfigError
from distill.methods.minillm import MiniLlmRun, build_task
from distill.methods.minillm.objective import reverse_kl
from distill.models.load import load_model
from distill.models.packed import PackedModel
from distill.models.packing import pack_sequences
from distill.rollouts.mixed_sampling import sample_mixture
from distill.sampling.transformers_engine import decode, sample_sequences
from distill.study.load import load_study
from plain_trainer import Trainer, make_context
from stage_process import make_inputs
from tiny_models import EOS_ID, make_model

FAMILIES = ("qwen2", "gpt2", "opt")
PROMPTS = [[5 + (7 * i + 11 * j) % 290 for j in range(3 + 5 * (i % 5))] for i in range(12)]
SEEDS = list(range(100, 112))
TOKENS = 20


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A student and a wider teacher of each family; their distributions are peaked enough to differ and to end."""
    root = tmp_path_factory.mktemp("models")
    shapes = {"student": {"width": 32, "seed": 0}, "teacher": {"width": 64, "seed": 1}}
    return {
        (family, role): load_model(make_model(root / f"{family}-{role}", family, initializer_range=0.3, **shape))
        for family in FAMILIES
        for role, shape in shapes.items()
    }


def pair_of(models, family="qwen2", vocabulary=300):
    return [PackedModel(models[family, role], vocabulary) for role in ("student", "teacher")]


@pytest.mark.parametrize("family", FAMILIES)
def test_without_a_share_of_the_other_a_model_samples_as_if_alone(models, family):
    student, teacher = pair_of(models, family)
    mixed = {mix: sample_mixture(student, teacher, mix, PROMPTS, SEEDS, EOS_ID, TOKENS) for mix in (0.0, 0.2, 1.0)}
    for mix, model in ((0.0, student), (1.0, teacher)):
        assert mixed[mix] == sample_sequences(model, PROMPTS, SEEDS, EOS_ID, 1.0, 1.0, TOKENS)
    assert mixed[0.0] != mixed[0.2] != mixed[1.0]


def test_tokens_follow_the_mixture_over_the_shared_vocabulary(models):
    samples, mix, prompt = 8000, 0.2, PROMPTS[0]
    student, teacher = pair_of(models, vocabulary=40)
    with torch.no_grad():
        q, p = (
            model.model(torch.tensor([prompt])).logits[0, -1, :40].double().softmax(-1) for model in (student, teacher)
        )
    drawn = sample_mixture(student, teacher, mix, [prompt] * samples, range(samples), EOS_ID, 1)
    counts = torch.bincount(torch.tensor(drawn).flatten(), minlength=40).double()

    def statistic(probabilities):
        wanted = probabilities * samples
        large = wanted >= 5
        pooled = [torch.cat([x[large], x[~large].sum()[None]]) for x in (counts, wanted)]
        return ((pooled[0] - pooled[1]) ** 2 / pooled[1].clamp(min=1)).sum().item(), int(large.sum())

    found, freedom = statistic((1 - mix) * q + mix * p)
    assert freedom > 10
    assert found < freedom + 4 * (2 * freedom) ** 0.5
    for other in (0.1, 0.3):
        assert statistic((1 - other) * q + other * p)[0] > 2 * freedom


@pytest.mark.parametrize("family", FAMILIES)
def test_a_response_does_not_depend_on_its_neighbours(models, family):
    def sample(prompts, seeds):
        return sample_mixture(*pair_of(models, family), 0.5, prompts, seeds, EOS_ID, TOKENS)

    together = sample(PROMPTS, SEEDS)
    assert sample(PROMPTS[::-1], SEEDS[::-1]) == together[::-1]
    assert [sample([prompt], [seed])[0] for prompt, seed in zip(PROMPTS, SEEDS, strict=True)] == together
    assert 0 < sum(len(response) < TOKENS for response in together) < 12


@pytest.mark.parametrize("family", FAMILIES)
def test_left_padding_and_caches_give_the_logits_of_each_sequence_alone(models, family):
    wrapped = deepcopy(pair_of(models, family))
    pair = [model.double() for model in wrapped]
    responses = sample_mixture(*wrapped, 0.5, PROMPTS, SEEDS, EOS_ID, TOKENS)
    running = [list(range(len(PROMPTS)))]
    seen = [{row: [] for row in running[0]} for _ in pair]

    def replay(logits, uniforms):
        rows = running.pop()
        for found, own in zip(seen, logits, strict=True):
            for row, values in zip(rows, own, strict=True):
                found[row].append(values)
        step = len(seen[0][rows[0]]) - 1
        chosen = [responses[row][step] for row in rows]
        running.append([row for row, token in zip(rows, chosen, strict=True) if token != EOS_ID])
        return torch.tensor(chosen)

    assert decode(pair, PROMPTS, SEEDS, EOS_ID, TOKENS, replay) == responses
    for model, found in zip(pair, seen, strict=True):
        for row, (prompt, response) in enumerate(zip(PROMPTS, responses, strict=True)):
            with torch.no_grad():
                alone = model.model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
            torch.testing.assert_close(torch.stack(found[row]), alone, atol=1e-9, rtol=1e-9)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("inputs")
    shape = {"vocabulary": 400, "layers": 1, "positions": 64, "initializer_range": 0.3, "seed": 5}
    return make_inputs(root, dev=20) | {"teacher": make_model(root / "teacher", width=64, **shape)}


SMALL = {"prompts_per_round": 8, "max_new_tokens": 8, "inner_epochs": 1}


@pytest.fixture
def trainer(folders):
    def build(batch=4, micro_batch=4, learning_rate=1e-3, name="minillm", seed=10, dtype=torch.float32, **keys):
        training = {"steps": 1, "batch": batch, "micro_batch": micro_batch, "learning_rate": learning_rate}
        run = MiniLlmRun(training=training, **SMALL | keys)

        def load(role):
            return PackedModel(load_model(folders[role]).to(dtype), 400)

        context = make_context(
            folders,
            run,
            name=name,
            seed=seed,
            inputs={"plain_text": [folders["plain_text"]]},
            load_teacher=lambda: load("teacher"),
        )
        return Trainer(build_task(context), load("start"), batch, micro_batch, learning_rate)

    return build


CHANGES = {
    "variant": "minillm_paper",
    "current_token": False,
    "discount": 0.5,
    "whitening": False,
    "reward_scaling": 1.0,
    "plain_text_kd_ratio": 0.0,
    "teacher_mix": 0.5,
    "prompts_per_round": 4,
    "inner_epochs": 2,
    "clip": 0.01,
    "reward_clip": 0.5,
    "single_step": False,
    "plain_text_weight": 0.5,
    "max_new_tokens": 7,
}


def test_every_option_changes_the_losses(trainer):
    assert {*CHANGES} == {*MiniLlmRun.model_fields} - {*Run.model_fields, "rollout_engine"}
    usual = trainer().run(range(3))
    assert trainer().run(range(3)) == usual
    for keys in ({key: value} for key, value in CHANGES.items()):
        # What is whitened has no scale.
        assert (trainer(**keys).run(range(3)) != usual) == ("reward_scaling" not in keys), keys
    for keys in ({"name": "other"}, {"seed": 11}):
        assert trainer(**keys).run(range(3)) != usual
    plain = {"whitening": False}
    assert trainer(**plain, reward_scaling=1.0).run(range(3)) != trainer(**plain).run(range(3))


def test_a_variant_is_its_keys_and_a_key_that_is_set_wins(trainer):
    paper = {"current_token": False, "discount": 1.0, "whitening": False, "reward_scaling": 1.0}
    paper["plain_text_kd_ratio"] = 0.0
    run = MiniLlmRun(variant="minillm_paper", training={"steps": 1, "learning_rate": 1})
    assert run.settled.model_dump() == run.model_dump() | paper
    expected = trainer(variant="minillm_paper").run(range(2))
    assert trainer(**paper).run(range(2)) == expected
    code = {"current_token": True, "discount": 0.95, "whitening": True, "reward_scaling": 0.5}
    code["plain_text_kd_ratio"] = 0.5
    assert trainer(variant="minillm_paper", **code).run(range(2)) == trainer().run(range(2)) != expected


def test_a_run_needs_the_teacher_and_plain_text_only_with_a_weight():
    training = {"steps": 1, "learning_rate": 1}
    assert MiniLlmRun(training=training).needs == {"prompts", "teacher_logits", "plain_text"}
    assert MiniLlmRun(training=training, plain_text_weight=0).needs == {"prompts", "teacher_logits"}
    assert MiniLlmRun.is_control and MiniLlmRun(training=training).start == "phase1"


@pytest.mark.parametrize(
    ("run", "training", "message"),
    [
        ({"prompts_per_round": 100}, {"steps": 1}, "runs.m.prompts_per_round: expected a multiple of training.batch"),
        ({}, {"epochs": 2}, "runs.m.training.epochs: expected null"),
    ],
)
def test_what_makes_no_run_is_refused(run, training, message):
    training = {"batch": 64, "micro_batch": 64, "learning_rate": 1e-3} | training
    study = {"runs": {"m": {"method": "minillm", "training": training} | run}, "judge": {"pairs": []}}
    with pytest.raises(ConfigError, match=message):
        load_study(study)


@pytest.mark.parametrize("variant", ["minillm_code", "minillm_paper"])
def test_the_gradient_does_not_depend_on_the_micro_batch(trainer, variant):
    whole, split = (trainer(8, size, variant=variant, dtype=torch.float64) for size in (8, 2))
    assert split.gradients(0) == pytest.approx(whole.gradients(0), rel=1e-9)
    for own, other in zip(whole.model.parameters(), split.model.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad)


def test_ranks_share_the_sampling(trainer, tmp_path):
    alone = trainer()
    alone.gradients(0)
    shares = []
    for rank in range(2):
        other = trainer()
        other.rank, other.world = rank, 2
        other.task.prepare(other, 0, [0])
        shares += other.shares[0]
    (rollouts,) = alone.shares
    assert len(shares) == 8
    for one, same in zip(rollouts, shares, strict=True):
        assert (one.prompt_ids, one.response_ids) == (same.prompt_ids, same.response_ids)
        torch.testing.assert_close(one.scores, same.scores)


def test_each_round_answers_the_next_prompts_anew(trainer):
    runner = trainer(plain_text_weight=0, prompts_per_round=8, inner_epochs=2)
    runner.task.rounds.prompts = runner.task.rounds.prompts[:12]
    runner.run(range(12))  # 2 batches a pass, 2 passes a round
    assert [len(round_) for round_ in runner.shares] == [8, 8, 8]
    drawn = [rollout for round_ in runner.shares for rollout in round_]
    prompts = [rollout.prompt_ids for rollout in drawn]
    assert prompts[:12] == prompts[12:] == [example.prompt_ids for example in runner.task.rounds.prompts]
    assert all(one.response_ids != two.response_ids for one, two in zip(drawn[:12], drawn[12:], strict=True))
    # A prompt that comes twice in one round has two answers.
    twice = trainer()
    twice.task.rounds.prompts = twice.task.rounds.prompts[:4]
    twice.task.prepare(twice, 0, range(4))
    (rollouts,) = twice.shares
    assert [one.prompt_ids for one in rollouts[:4]] == [one.prompt_ids for one in rollouts[4:]]
    assert [one.response_ids for one in rollouts[:4]] != [one.response_ids for one in rollouts[4:]]


def test_rollouts_are_scored_by_the_models_that_drew_them(trainer):
    runner, modes = trainer(), set()
    runner.model.model.base_model.register_forward_pre_hook(lambda model, _: modes.add(model.training))
    runner.task.prepare(runner, 0, range(4))
    assert modes == {False} and runner.model.training
    runner.run(range(2))
    student = trainer().model.eval()
    for rollout in runner.shares[0]:
        batch = pack_sequences([(rollout.prompt_ids, rollout.response_ids)], "cpu", with_final_state=False)
        for model, found in ((student, rollout.scores["student"]), (runner.task.teacher, rollout.scores["teacher"])):
            with torch.no_grad():
                log_probs = model.states(batch).logits().log_softmax(-1)
            torch.testing.assert_close(found, log_probs.gather(1, batch.actions[:, None])[:, 0], atol=1e-5, rtol=1e-5)


def test_the_policy_term_is_made_of_its_pieces(trainer, monkeypatch):
    """Whitening pads to the longest response allowed, though none is longer than 5 here."""
    short = [1, 5, 3, 2, 5, 4, 2, 1]
    monkeypatch.setattr(
        "distill.rollouts.sampler.sample_mixture",
        lambda *_: [[7 + row + t for t in range(length)] for row, length in enumerate(short)],
    )
    runner = trainer(8, 8, max_new_tokens=6)
    runner.task.prepare(runner, 0, range(8))
    terms = runner.task.losses(runner.model.states, range(8), 0)["policy"]
    rewards, weights = torch.zeros(2, 8, 6)
    for row, rollout in enumerate(runner.shares[0]):
        rewards[row, : short[row]] = 2 * (rollout.scores["teacher"] - rollout.scores["student"])
        weights[row, : short[row]] = 1 / (0.8 + 0.2 * (rollout.scores["teacher"] - rollout.scores["student"]).exp())
    values = torch.zeros(8, 6)
    for row, length in enumerate(short):
        for t in range(length):
            future = sum(0.95 ** (later - t) * rewards[row, later] for later in range(t, length))
            values[row, t] = future / (length - t)
    advantages = (values - values.mean()) / values.var(correction=0).sqrt()
    expected = -torch.minimum(advantages * weights, advantages * weights.clamp(0.8, 1.2))
    mask = torch.arange(6) < torch.tensor(short)[:, None]
    assert terms.parts["surrogate"].item() == pytest.approx(expected[mask].sum().item(), rel=1e-4)
    pairs = [(rollout.prompt_ids, rollout.response_ids) for rollout in runner.shares[0]]
    batch = pack_sequences(pairs, "cpu", with_final_state=False)
    divergence = reverse_kl(runner.model.states(batch), runner.task.teacher.states(batch)).sum().item()
    assert terms.parts["reverse_kl"].item() == pytest.approx(divergence, rel=1e-4)
    assert terms.total.item() == pytest.approx(sum(terms.parts.values()).item())
    assert terms.weight == sum(short)


def test_the_metrics_describe_the_rollouts(trainer):
    runner = trainer(8, 8)
    runner.task.prepare(runner, 0, range(8))
    metrics = runner.task.losses(runner.model.states, range(8), 0)["policy"].metrics
    tokens = sum(len(rollout.response_ids) for rollout in runner.shares[0])
    assert [value.item() for value in metrics["response_length"]] == [tokens, 8]
    difference = sum((rollout.scores["teacher"] - rollout.scores["student"]).sum() for rollout in runner.shares[0])
    torch.testing.assert_close(metrics["reward"], (difference, torch.tensor(float(tokens))))


@pytest.mark.parametrize("killed_after", [3, 4, 5])
def test_a_saved_round_gives_the_same_next_updates(trainer, tmp_path, killed_after):
    runner = trainer(inner_epochs=2)  # a round ends with update 4
    runner.run(range(killed_after))
    runner.task.save(tmp_path)
    resumed = trainer(inner_epochs=2)
    resumed.model.load_state_dict(runner.model.state_dict())
    resumed.optimizer.load_state_dict(deepcopy(runner.optimizer.state_dict()))
    resumed.task.load(tmp_path)
    rest = range(killed_after, 6)
    assert resumed.run(rest) == runner.run(rest)
    assert len(resumed.shares) == (killed_after < 5), "only the next round is sampled"
    for own, other in zip(runner.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(own, other)


def test_the_held_out_objective_is_the_reverse_kl_along_human_responses(trainer):
    runner = trainer(micro_batch=2)
    task, student, teacher = runner.task, runner.model, runner.task.teacher
    with torch.no_grad():
        loss, rows = task.evaluate(student)
        assert task.evaluate(student) == (loss, rows)
        assert [row["id"] for row in rows] == [example.id for example in task.dev]
        assert loss == pytest.approx(sum(row["loss"] for row in rows) / 20)
        batch = pack_sequences([(task.dev[7].prompt_ids, task.dev[7].response_ids)], "cpu", with_final_state=False)
        own, other = (model.states(batch).logits().log_softmax(-1) for model in (student, teacher))
        assert rows[7]["loss"] == pytest.approx((own.exp() * (own - other)).sum(-1).mean().item(), rel=1e-5)
        assert task.evaluate(teacher)[0] == 0


def reverse_kl_along_own_responses(task, student):
    """The mean over the states that the student itself comes to."""
    prompts = [example.prompt_ids for example in task.dev] * 8
    responses = sample_sequences(student, prompts, range(len(prompts)), EOS_ID, 1.0, 1.0, 8)
    batch = pack_sequences(list(zip(prompts, responses, strict=True)), "cpu", with_final_state=False)
    with torch.no_grad():
        return reverse_kl(student.states(batch), task.teacher.states(batch)).mean().item()


@pytest.mark.parametrize(
    ("keys", "steps"),
    [
        ({"variant": "minillm_code"}, 30),
        ({"variant": "minillm_paper"}, 30),
        ({"variant": "minillm_code", "single_step": False}, 60),  # by policy gradient alone
    ],
)
def test_training_brings_the_student_closer_to_the_teacher(trainer, keys, steps):
    runner = trainer(64, 64, 5e-3, prompts_per_round=64, max_new_tokens=4, plain_text_weight=0, **keys)
    task, student = runner.task, runner.model
    before = reverse_kl_along_own_responses(task, student), task.evaluate(student)[0]
    runner.run(range(steps))
    after = reverse_kl_along_own_responses(task, student), task.evaluate(student)[0]
    assert after[0] < before[0] - 0.1 and after[1] < before[1] - 0.1, (before, after)
