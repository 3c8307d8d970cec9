"""Policy gradients: MiniLLM's pieces and the family of TGPO, by hand, against oracles and against plain autograd."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from distill.errors import ConfigError, DataError
from distill.losses.guidance import (
    Guidance,
    annealed_weight,
    guided_advantages,
    reverse_kl_advantages,
    top_reverse_kl,
)
from distill.losses.log_probs import token_log_probs, top_log_probs
from distill.losses.policy_gradient import Surrogate, group_advantages, on_policy_loss
from distill.methods.minillm.objective import (
    future_rewards,
    importance_weights,
    policy_loss,
    reverse_kl,
    token_rewards,
    whiten,
)
from states import as_states, with_gradients

DOUBLE = torch.float64


def tensor(*values):
    return torch.tensor(values, dtype=DOUBLE)


@pytest.fixture
def models():
    """Student and teacher logits at 300 states, and a token of each."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = 2 * torch.randn(2, 300, 7, generator=generator, dtype=DOUBLE)
    return student, teacher, torch.randint(7, (300,), generator=generator)


def log_probs_of(logits, tokens):
    return logits.log_softmax(-1)[range(len(tokens)), tokens]


def reverse_kl_of(student, teacher):
    log_q, log_p = student.log_softmax(-1), teacher.log_softmax(-1)
    return (log_q.exp() * (log_q - log_p)).sum(-1)


def test_reverse_kl_is_a_value_without_gradient(models):
    student, teacher, _ = models
    found = reverse_kl(as_states(student.requires_grad_()), as_states(teacher))
    torch.testing.assert_close(found, reverse_kl_of(student, teacher).detach())
    assert not found.requires_grad


def test_importance_weights():
    student, teacher = tensor(0.5, 0.5, 0.2).log(), tensor(0.1, 0.5, 0.0).log()
    torch.testing.assert_close(importance_weights(student, teacher, 0.2), tensor(0.5 / 0.42, 1, 1.25))
    assert round(importance_weights(student, teacher, 0.2)[0].item(), 6) == 1.190476
    assert importance_weights(student, teacher, 0.0).tolist() == [1, 1, 1]
    torch.testing.assert_close(importance_weights(student[:2], teacher[:2], 1.0), tensor(5, 1))
    unlikely = torch.tensor([-400.0, -1.0, -400.0]), torch.tensor([-1.0, -400.0, -400.0])
    torch.testing.assert_close(importance_weights(*unlikely, 0.2), torch.tensor([0.0, 1.25, 1.0]))


def test_rewards_are_scaled_then_clipped():
    student, teacher = tensor(-1, -1, -1, -80), tensor(-1, -2, -61, -1)
    assert token_rewards(student, teacher, 1.0, 100.0).tolist() == [0, -1, -60, 79]
    assert token_rewards(student, teacher, 0.5, 100.0).tolist() == [0, -2, -100, 100]
    assert token_rewards(student, teacher, 0.5, 1.5).tolist() == [0, -1.5, -1.5, 1.5]


def test_equal_models_are_not_rewarded(models):
    log_probs = token_log_probs(as_states(models[0]), models[2])
    assert token_rewards(log_probs, log_probs.clone(), 0.5, 100.0).abs().max() == 0


REWARDS, LENGTHS = torch.tensor([[1.0, 2, 3, 0], [4, 0, 0, 0]], dtype=DOUBLE), torch.tensor([3, 1])


@pytest.mark.parametrize(
    ("discount", "current_token", "first", "second"),
    [
        (0.95, True, [(1 + 1.9 + 2.7075) / 3, (2 + 2.85) / 2, 3, 0], [4, 0, 0, 0]),
        (1.0, True, [2, 2.5, 3, 0], [4, 0, 0, 0]),
        (1.0, False, [2.5, 3, 0, 0], [0, 0, 0, 0]),  # paper
        (0.95, False, [(2 + 2.85) / 2, 3, 0, 0], [0, 0, 0, 0]),
        (0.0, True, [1 / 3, 1, 3, 0], [4, 0, 0, 0]),
    ],
)
def test_future_rewards(discount, current_token, first, second):
    found = future_rewards(REWARDS, LENGTHS, discount, current_token)
    torch.testing.assert_close(found, tensor(first, second))


def test_whitening_counts_the_zeros_of_padding():
    found = whiten(tensor([3.0, 1.0], [4.0, 0.0]))  # mean 2, variance 10 / 4
    torch.testing.assert_close(found, tensor([1.0, -1.0], [2.0, -2.0]) / 2.5**0.5)
    wider = whiten(tensor([3.0, 1.0, 0.0, 0.0], [4.0, 0.0, 0.0, 0.0]))  # mean 1, variance 18 / 8
    torch.testing.assert_close(wider[:, :2], tensor([2.0, 0.0], [3.0, -1.0]) / 1.5)
    assert whiten(torch.zeros(2, 3)).abs().max() == 0


ADVANTAGES = torch.randn(300, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)


def gradient_of(loss, logits):
    """Returns a loss on states with the gradient of its total on their logits."""
    terms, gradient, _ = with_gradients(loss, as_states(logits))
    return terms, gradient


def test_the_first_update_is_the_plain_policy_gradient(models):
    student, _, tokens = models
    old = log_probs_of(student, tokens)
    ones = torch.ones(300, dtype=DOUBLE)
    terms, found = gradient_of(lambda states: policy_loss(states, tokens, old, ADVANTAGES, ones, 0.2), student)
    student.requires_grad_()
    (expected,) = torch.autograd.grad(-(ADVANTAGES * log_probs_of(student, tokens)).sum(), student)
    torch.testing.assert_close(found, expected)
    assert terms.weight == 300
    assert {name: (value / count).item() for name, (value, count) in terms.metrics.items()} == {
        "clipped": 0,
        "ratio": pytest.approx(1),
        "importance_weight": 1,
    }


@pytest.mark.parametrize("with_teacher", [False, True])
def test_value_and_gradient_are_those_of_the_objective_written_out(models, with_teacher):
    student, teacher, tokens = models
    old, weights = log_probs_of(student, tokens) + ADVANTAGES.roll(1) / 4, 1 + ADVANTAGES.roll(2).sin() / 4
    terms, found = gradient_of(
        lambda states: policy_loss(
            states, tokens, old, ADVANTAGES, weights, 0.2, as_states(teacher) if with_teacher else None
        ),
        student,
    )
    student.requires_grad_()
    ratio = weights * (log_probs_of(student, tokens) - old).exp()
    free, clipped = -ADVANTAGES * ratio, -ADVANTAGES * ratio.clamp(0.8, 1.2)
    parts = {"surrogate": torch.maximum(free, clipped).sum()}
    if with_teacher:
        parts["reverse_kl"] = reverse_kl_of(student, teacher).sum()
    torch.testing.assert_close(found, torch.autograd.grad(sum(parts.values()), student)[0])
    torch.testing.assert_close(terms.parts, {name: value.detach() for name, value in parts.items()})
    torch.testing.assert_close(terms.total.detach(), sum(terms.parts.values()))
    assert terms.weight == 300
    assert 0 < terms.metrics["clipped"][0] == (clipped > free).sum() < 300
    torch.testing.assert_close(terms.metrics["ratio"][0], ratio.sum().detach())
    torch.testing.assert_close(terms.metrics["importance_weight"][0], weights.sum())


@pytest.mark.parametrize("as_weight", [False, True])
@pytest.mark.parametrize(
    ("advantage", "ratio", "loss", "slope"),
    [
        (2.0, 1.1, -2.2, -2.2),
        (2.0, 1.5, -2.4, 0.0),
        (2.0, 0.5, -1.0, -1.0),
        (-2.0, 1.5, 3.0, 3.0),
        (-2.0, 0.5, 1.6, 0.0),
    ],
)
def test_the_ratio_with_its_importance_weight_is_clipped_on_the_pessimistic_side(
    advantage, ratio, loss, slope, as_weight
):
    """Of two tokens of which the second has probability 1/4, so that d log q / d logit = 3/4."""
    logits, old = tensor([0.0, -math.log(3)]), tensor(math.log(1 / 4))
    old, weight = (old, tensor(ratio)) if as_weight else (old - math.log(ratio), tensor(1.0))
    terms, gradient = gradient_of(
        lambda states: policy_loss(states, torch.tensor([1]), old, tensor(advantage), weight, 0.2), logits
    )
    torch.testing.assert_close(terms.total.detach(), tensor(loss)[0])
    torch.testing.assert_close(gradient, tensor([-0.75 * slope, 0.75 * slope]))
    assert terms.metrics["clipped"][0] == (slope == 0)


def one_step(student, teacher, tokens):
    """Returns the one-step part, and its gradient on the student's logits: no advantage, no surrogate."""
    none = torch.zeros(len(tokens), dtype=DOUBLE)
    terms, gradient = gradient_of(
        lambda states: policy_loss(states, tokens, none, none, none, 0.2, as_states(teacher)), student
    )
    assert terms.parts["surrogate"] == 0
    return terms, gradient


def test_the_one_step_part_is_the_expected_policy_gradient_of_one_token(models):
    student, teacher, tokens = models
    terms, found = one_step(student, teacher.requires_grad_(), tokens)
    rewards = token_rewards(student.log_softmax(-1), teacher.log_softmax(-1), 1.0, 1e9).detach()
    q = student.softmax(-1)
    student.requires_grad_()
    (expected,) = torch.autograd.grad(-(q * rewards * student.log_softmax(-1)).sum(), student)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(terms.total.detach(), -(q * rewards).sum())
    assert teacher.grad is None


def test_equal_models_have_no_one_step_part_and_no_gradient(models):
    terms, gradient = one_step(models[0], models[0].clone(), models[2])
    assert terms.total == 0 and gradient.abs().max() == 0


def test_half_precision_is_computed_in_float32(models):
    student, teacher = (own.bfloat16() for own in models[:2])
    half, single = ([as_states(f(own)) for own in (student, teacher)] for f in (lambda x: x, torch.Tensor.float))
    torch.testing.assert_close(reverse_kl(*half), reverse_kl(*single))


ORACLES = json.loads((Path(__file__).parents[1] / "golden" / "further_oracles.json").read_text())
CASES = {case["id"]: case for case in ORACLES["cases"] if case["batch"] == "groups"}
FIRST_KDRL = "kdrl first release (k1, sign reversed)"
TOLERANCE = {DOUBLE: 1e-9, torch.float32: 1e-5}


class Groups:
    """The oracle's rollouts end to end: states of three models, tokens, and the rewards by group."""

    def __init__(self, dtype=DOUBLE, chunk_states=1000):
        batch = ORACLES["batches"]["groups"]
        rollouts = batch["rollouts"]
        self.lengths = [len(own["tokens"]) for own in rollouts]

        def join(name, dtype=torch.long):
            return torch.cat([torch.tensor(own[name], dtype=dtype) for own in rollouts])

        self.tokens, self.drawn = join("tokens"), join("teacher_tokens")
        logits = (as_states(join(name, dtype)) for name in ("student", "old", "teacher"))
        self.student, self.old, self.teacher = (replace(own, chunk_logits=chunk_states * 5) for own in logits)
        self.rewards, self.groups = torch.tensor(batch["rewards"], dtype=dtype), torch.tensor(batch["groups"])
        self.old_log_probs = token_log_probs(self.old, self.tokens)
        self.log_p = token_log_probs(self.teacher, self.tokens)

    def advantages(self, options):
        """Returns the advantages of a case, one a token."""
        by_token = group_advantages(self.rewards, self.groups, options.get("use_std", True)).repeat_interleave(
            torch.tensor(self.lengths)
        )
        if options["loss"] == "tgpo_adv":
            likeliest = top_log_probs(self.teacher, 1)[1]
            return guided_advantages(by_token, token_log_probs(self.old, likeliest[:, 0]), options["weight"])
        if options["loss"] == "rkl":
            return reverse_kl_advantages(self.old_log_probs, self.log_p)
        if options["loss"] == "rkl_centred":
            divergence = top_reverse_kl(self.old, self.teacher, options["top_k"])
            return reverse_kl_advantages(self.old_log_probs, self.log_p, divergence)
        return by_token

    def guidance(self, options):
        """Returns the guidance of a case, None where it has none."""
        guide, weight = options.get("guide"), options.get("weight")
        log_p, tokens = self.log_p[:, None], self.tokens[:, None]
        return {
            None: lambda: None,
            "argmax": lambda: Guidance.towards(top_log_probs(self.teacher, 1)[1][:, 0], weight),
            "sampled": lambda: Guidance.towards(self.drawn, weight),
            "forward_top_k": lambda: Guidance("forward", *top_log_probs(self.teacher, options["top_k"])[::-1], weight),
            "reverse_top_k": lambda: self.reverse(options),
            "k1_score": lambda: Guidance("k1", tokens, log_p, weight),
            "k2": lambda: Guidance("k2", tokens, log_p, weight),
            "k3": lambda: Guidance("k3", tokens, log_p, weight),
        }[guide]()

    def reverse(self, options):
        ids = top_log_probs(self.teacher if options["support"] == "teacher" else self.old, options["top_k"])[1]
        return Guidance("reverse", ids, token_log_probs(self.teacher, ids), options["weight"])


@pytest.mark.parametrize("chunk_states", [1, 4, 1000])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("case", [name for name in CASES if name != FIRST_KDRL])
def test_values_and_gradients_are_those_of_the_oracle(case, dtype, chunk_states):
    groups, options, outputs = Groups(dtype, chunk_states), CASES[case]["options"], CASES[case]["outputs"]
    advantages, guidance = groups.advantages(options), groups.guidance(options)
    surrogate = Surrogate(groups.old_log_probs, advantages, options["clip"])
    with_surrogate = options.get("policy_weight", 1.0) == 1
    terms, gradient, _ = with_gradients(
        lambda states: on_policy_loss(
            states, groups.tokens, surrogate if with_surrogate else None, guidance, options["entropy_weight"]
        ),
        groups.student,
    )

    def check(found, expected):
        expected = torch.as_tensor(expected, dtype=DOUBLE)
        scale = expected.abs().max().clamp(min=1) if dtype == torch.float32 else 1  # k3 has gradients of 15
        torch.testing.assert_close(found.double() / scale, expected / scale, rtol=0, atol=TOLERANCE[dtype])

    check(terms.mean.detach(), CASES[case]["loss"])
    check(gradient / terms.weight, [row for rollout in CASES[case]["gradients"] for row in rollout])
    check(advantages, [value for rollout in outputs["advantages"] for value in rollout])
    if with_surrogate:
        check(terms.parts["surrogate"] / terms.weight, outputs["policy"])
    for name, expected in (("entropy", outputs["entropy"]), ("guidance_value", outputs["guide"])):
        if expected:
            check(terms.metrics[name][0] / terms.metrics[name][1], expected)
    assert terms.weight == len(groups.tokens) and not terms.parts.keys() & terms.metrics.keys()


def test_the_first_release_of_kdrl_turned_its_term_round():
    """Of the older snapshot of the released code, for reference: L_pg - 0.002 mean(log q - log p)."""
    groups, case = Groups(), CASES[FIRST_KDRL]
    surrogate = Surrogate(groups.old_log_probs, groups.advantages(case["options"]), 0.2)
    grpo = on_policy_loss(groups.student, groups.tokens, surrogate, None, 0.001)
    k1 = (token_log_probs(groups.student, groups.tokens) - groups.log_p).mean()
    assert (grpo.mean - 0.002 * k1).item() == pytest.approx(case["loss"], abs=1e-9)
    assert abs(case["loss"] - CASES["kdrl k2 w=0.002"]["loss"]) > 1e-3


def test_group_advantages_by_hand():
    rewards = torch.tensor([1.0, 1, 1, 0, 0, 1, 0, 0, 0, 1, 7, 0.3], dtype=DOUBLE)
    groups = torch.tensor([4, 0, 0, 4, 4, 0, 4, 0, 9, 9, 2, 7])  # 1000, 1101 in any order, 01, and two alone
    expected = torch.tensor([1.5, 0.5, 0.5, -0.5, -0.5, 0.5, -0.5, -1.5, -(0.5**0.5), 0.5**0.5, 7, 0.3], dtype=DOUBLE)
    torch.testing.assert_close(group_advantages(rewards, groups), expected, rtol=0, atol=1e-5)
    unscaled = torch.tensor([0.75, 0.25, 0.25, -0.25, -0.25, 0.25, -0.25, -0.75, -0.5, 0.5, 7, 0.3], dtype=DOUBLE)
    torch.testing.assert_close(group_advantages(rewards, groups, use_std=False), unscaled)
    for equal in (0.0, 1.0):
        assert group_advantages(torch.full((8,), equal), torch.arange(8) // 4).tolist() == [0] * 8


def drawn_rollout(models):
    """Returns old log-probabilities of the models' tokens, near those of the student."""
    student, _, tokens = models
    return log_probs_of(student, tokens).detach() + ADVANTAGES.roll(1) / 4


def test_guidance_of_weight_0_is_grpo_bit_for_bit(models):
    student, teacher, tokens = models
    surrogate = Surrogate(drawn_rollout(models), ADVANTAGES, 0.2)
    log_p, ids = top_log_probs(as_states(teacher), 3)
    results = [
        gradient_of(lambda states, own=own: on_policy_loss(states, tokens, surrogate, own, 0.001), student)
        for own in (None, Guidance("forward", ids, log_p, 0.0))
    ]
    assert torch.equal(results[0][0].total, results[1][0].total) and torch.equal(results[0][1], results[1][1])


def test_without_advantage_and_entropy_guidance_alone_acts(models):
    student, teacher, tokens = models
    likeliest = teacher.argmax(-1)
    surrogate = Surrogate(drawn_rollout(models), torch.zeros(300, dtype=DOUBLE), 0.2)
    terms, gradient = gradient_of(
        lambda states: on_policy_loss(states, tokens, surrogate, Guidance.towards(likeliest, 0.3)), student
    )
    torch.testing.assert_close(terms.total.detach(), -0.3 * log_probs_of(student, likeliest).sum())
    torch.testing.assert_close(gradient, 0.3 * (student.softmax(-1) - torch.nn.functional.one_hot(likeliest, 7)))


@pytest.mark.parametrize(("advantage", "ratio", "acts"), [(2, 1.19, 1), (2, 1.21, 0), (-2, 0.79, 0), (-2, 0.81, 1)])
def test_beyond_the_clip_there_is_no_gradient(advantage, ratio, acts):
    logits = tensor(0.3, -0.2, 0.5)[None]
    old = log_probs_of(logits, torch.tensor([1])) - math.log(ratio)
    surrogate = Surrogate(old, tensor(advantage), 0.2)
    _, gradient = gradient_of(lambda states: on_policy_loss(states, torch.tensor([1]), surrogate), logits)
    expected = -advantage * ratio * (tensor(0.0, 1.0, 0.0) - logits.softmax(-1))
    torch.testing.assert_close(gradient, acts * expected)


def guide_alone(student, guidance):
    """Returns value by state and gradient on the logits of a guidance of weight 1."""
    tokens = torch.zeros(len(student), dtype=torch.long)
    terms, gradient = gradient_of(lambda states: on_policy_loss(states, tokens, None, guidance), student)
    return terms.total.detach(), gradient


def test_forward_guidance_on_all_tokens_is_forward_kl_and_on_one_is_the_cross_entropy(models):
    student, teacher, _ = models
    p, q = teacher.softmax(-1), student.softmax(-1)
    log_p, ids = top_log_probs(as_states(teacher), 7)
    value, gradient = guide_alone(student, Guidance("forward", ids, log_p, 1.0))
    torch.testing.assert_close((value, gradient), ((p * (p / q).log()).sum(), q - p))
    first = guide_alone(student, Guidance("forward", ids[:, :1], log_p[:, :1], 1.0))
    torch.testing.assert_close(first, guide_alone(student, Guidance.towards(ids[:, 0], 1.0)), rtol=0, atol=0)
    averaged = sum(
        (p[:, v] * guide_alone(student[row : row + 1], Guidance.towards(torch.tensor([v]), 1.0))[0])[row]
        for row in range(4)
        for v in range(7)
    )
    torch.testing.assert_close(averaged, (p * (p / q).log() - p * p.log())[:4].sum())


def test_reverse_guidance_on_all_tokens_is_the_reverse_kl(models):
    student, teacher, tokens = models
    ids = torch.arange(7).expand(300, 7)
    value, gradient = guide_alone(student, Guidance("reverse", ids, teacher, 1.0))  # of any scale
    terms, exact = gradient_of(lambda states: on_policy_loss(states, tokens, None, teacher=as_states(teacher)), student)
    torch.testing.assert_close((value, gradient), (terms.total.detach(), exact))


def test_equal_models_have_no_advantage_and_no_penalty(models):
    student, _, tokens = models
    states, log_probs = as_states(student), log_probs_of(student, tokens)
    assert reverse_kl_advantages(token_log_probs(states, tokens), token_log_probs(states, tokens)).abs().max() == 0
    for form in ("k2", "k3"):
        value, gradient = gradient_of(
            lambda states, form=form: on_policy_loss(
                states, tokens, None, Guidance(form, tokens[:, None], log_probs[:, None], 1.0)
            ),
            student,
        )
        assert value.total.abs() < 1e-13 and gradient.abs().max() < 1e-13


def test_centred_advantages_have_mean_0_under_the_student(models):
    student, teacher, _ = map(torch.clone, models)
    states, divergence = as_states(student), top_reverse_kl(as_states(student), as_states(teacher), 7)
    torch.testing.assert_close(divergence, reverse_kl_of(student, teacher))
    log_q, log_p = (own.log_softmax(-1) for own in (student, teacher))
    means = sum(log_q[:, v].exp() * reverse_kl_advantages(log_q[:, v], log_p[:, v], divergence) for v in range(7))
    assert means.abs().max() < 1e-12
    q, top = log_q.exp(), log_q.topk(2).indices
    expected = (q * (log_q - log_p)).gather(1, top).sum(-1)
    torch.testing.assert_close(top_reverse_kl(states, as_states(teacher), 2), expected)


def test_k1_has_in_expectation_the_gradient_of_the_reverse_kl():
    """Over three tokens at one state, enumerated; the value it reports is not the divergence."""
    student, teacher = tensor(0.3, -0.6, 0.2)[None], tensor(1.0, 0.1, -0.4)[None]
    log_p, q = teacher.log_softmax(-1), student.softmax(-1)
    expected = sum(
        q[0, v] * guide_alone(student, Guidance("k1", torch.tensor([[v]]), log_p[:, v : v + 1], 1.0))[1]
        for v in range(3)
    )
    (gradient,) = torch.autograd.grad(reverse_kl_of(student.requires_grad_(), teacher).sum(), student)
    torch.testing.assert_close(expected, gradient)


def test_the_weight_of_guidance_falls_to_its_floor():
    for case in ORACLES["schedules"]["tgpo_weights"]:
        found = [annealed_weight(step, case["start"], case["decay"], case["floor"]) for step in case["steps"]]
        assert found == pytest.approx(case["weights"], abs=1e-9)
    assert [annealed_weight(step, 0.002, 1e-5) for step in (1, 101, 201, 300)] == pytest.approx([0.002, 0.001, 0, 0])


def test_misuse_of_guidance_is_refused(models):
    ids = torch.zeros(300, 2, dtype=torch.long)
    with pytest.raises(ConfigError, match="guidance: expected one of forward, reverse, k1, k2, k3, found 'argmax'"):
        Guidance("argmax", ids, models[0][:, :2], 1.0)
    for form, log_probs in (("k2", models[0][:, :2]), ("forward", models[0][:, :1])):
        with pytest.raises(DataError, match=r"guidance: expected tokens and log_probs as \[N, .\] with"):
            Guidance(form, ids, log_probs, 1.0)
