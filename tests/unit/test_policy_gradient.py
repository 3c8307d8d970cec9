"""The pieces of MiniLLM's objective, by hand and against plain autograd."""

import pytest
import torch

from distill.losses.policy_gradient import (
    future_rewards,
    importance_weights,
    policy_loss,
    reverse_kl,
    single_step_loss,
    token_log_probs,
    token_rewards,
    whiten,
)

DOUBLE = torch.float64


def tensor(*values):
    return torch.tensor(values, dtype=DOUBLE)


@pytest.fixture
def states():
    """Student and teacher logits at 300 states, more than are taken at once, and a token of each."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = 2 * torch.randn(2, 300, 7, generator=generator, dtype=DOUBLE)
    return student.requires_grad_(), teacher, torch.randint(7, (300,), generator=generator)


def test_log_probs_are_those_of_the_tokens(states):
    student, _, tokens = states
    torch.testing.assert_close(token_log_probs(student, tokens), student.log_softmax(-1)[range(300), tokens])


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


def test_equal_models_are_not_rewarded(states):
    student, _, tokens = states
    log_probs = token_log_probs(student, tokens)
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


def test_the_first_update_is_the_plain_policy_gradient(states):
    student, _, tokens = states
    advantages = torch.randn(300, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    log_probs = token_log_probs(student, tokens)
    terms = policy_loss(log_probs, log_probs.detach(), advantages, torch.ones(300, dtype=DOUBLE), 0.2)
    (found,) = torch.autograd.grad(terms.mean, student, retain_graph=True)
    (expected,) = torch.autograd.grad(-(advantages * log_probs).mean(), student)
    torch.testing.assert_close(found, expected)
    assert terms.weight == 300
    assert {name: (value / count).item() for name, (value, count) in terms.metrics.items()} == {
        "clipped": 0,
        "ratio": 1,
        "importance_weight": 1,
    }


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
    log_probs = tensor(-1.0).requires_grad_()
    old, weight = (tensor(-1.0), tensor(ratio)) if as_weight else (-1 - tensor(ratio).log(), tensor(1.0))
    terms = policy_loss(log_probs, old, tensor(advantage), weight, 0.2)
    terms.total.backward()
    torch.testing.assert_close((terms.total.detach(), log_probs.grad[0]), (tensor(loss)[0], tensor(slope)[0]))
    assert terms.metrics["clipped"][0] == (slope == 0)


def test_reverse_kl_and_its_gradient(states):
    student, teacher, _ = states
    log_q, log_p = student.log_softmax(-1), teacher.log_softmax(-1)
    expected, found = (log_q.exp() * (log_q - log_p)).sum(-1), reverse_kl(student, teacher.requires_grad_())
    torch.testing.assert_close(found, expected)
    outer = torch.linspace(-1, 1, 300, dtype=DOUBLE)
    (slope,) = torch.autograd.grad((outer * found).sum(), student, retain_graph=True)
    torch.testing.assert_close(slope, torch.autograd.grad((outer * expected).sum(), student)[0])
    single_step_loss(student, teacher).total.backward()
    assert teacher.grad is None


def test_the_single_step_term_is_the_expected_policy_gradient_of_one_token(states):
    student, teacher, _ = states
    q = student.detach().softmax(-1)
    rewards = token_rewards(student.detach().log_softmax(-1), teacher.log_softmax(-1), 1.0, 1e9)
    (found,) = torch.autograd.grad(single_step_loss(student, teacher).mean, student)
    (expected,) = torch.autograd.grad(-(q * rewards * student.log_softmax(-1)).sum(-1).mean(), student)
    torch.testing.assert_close(found, expected)


def test_equal_models_have_no_single_step_loss_and_no_gradient(states):
    student = states[0]
    terms = single_step_loss(student, student.detach().clone())
    terms.total.backward()
    assert terms.total == 0 and student.grad.abs().max() == 0


def test_parts_of_a_batch_add_up(states):
    student, teacher, tokens = states
    old, advantages = token_log_probs(teacher, tokens), token_log_probs(teacher, tokens) + 1
    weights = importance_weights(old, token_log_probs(student.detach(), tokens), 0.2)

    def losses(part):
        log_probs = token_log_probs(student[part], tokens[part])
        yield policy_loss(log_probs, old[part], advantages[part], weights[part], 0.2)
        yield single_step_loss(student[part], teacher[part])

    parts = (slice(0, 11), slice(11, 120), slice(120, 300))
    for whole, *pieces in zip(losses(slice(None)), *map(losses, parts), strict=True):
        torch.testing.assert_close(sum(p.total for p in pieces) / sum(p.weight for p in pieces), whole.mean)
        torch.testing.assert_close(sum(whole.parts.values()), whole.total.detach())
        for name, (value, count) in whole.metrics.items():
            torch.testing.assert_close(sum(p.metrics[name][0] for p in pieces), value)
            assert sum(p.metrics[name][1] for p in pieces) == count


def test_half_precision_is_computed_in_float32(states):
    student, teacher, tokens = (x.detach().bfloat16() if x.is_floating_point() else x for x in states)
    assert torch.equal(token_log_probs(student, tokens), token_log_probs(student.float(), tokens))
    assert torch.equal(reverse_kl(student, teacher), reverse_kl(student.float(), teacher.float()))
