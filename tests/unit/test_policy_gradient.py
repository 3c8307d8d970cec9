"""The pieces of MiniLLM's objective, by hand and against plain autograd."""

import math

import pytest
import torch

from distill.losses.log_probs import token_log_probs
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
