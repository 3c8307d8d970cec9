"""Log-probabilities, entropy and likeliest tokens against plain autograd on dense logits."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from distill.losses.log_probs import softmax_log_probs, token_log_probs, token_scores, top_log_probs
from distill.losses.states import States
from states import VOCABULARY, as_states, draw_world

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}


@pytest.fixture(params=TOLERANCE, ids=str)
def world(request):
    return draw_world(0.8, dtype=request.param)


def with_leaves(states: States) -> tuple[States, tuple[torch.Tensor, torch.Tensor]]:
    leaves = states.hidden.clone().requires_grad_(), states.weight.clone().requires_grad_()
    return replace(states, hidden=leaves[0], weight=leaves[1]), leaves


def check(world, scores, dense, chunk_states):
    """Compares values and gradients; each value has a weight of its own, so that no gradient is hidden in a sum."""
    tolerance = TOLERANCE[world.student.hidden.dtype]
    exact = States(world.student.hidden.double(), world.student.weight.double(), VOCABULARY)
    results = []
    for states, function in ((replace(world.student, chunk_logits=chunk_states * VOCABULARY), scores), (exact, dense)):
        own, leaves = with_leaves(states)
        values = function(own)
        total = sum((value * (1 + torch.arange(value.numel()).view(value.shape).sin())).sum() for value in values)
        results.append([*(own.detach() for own in values), *torch.autograd.grad(total, leaves)])
    for found, expected in zip(*results, strict=True):
        assert found.dtype == world.student.hidden.dtype
        assert (found.double() - expected).norm() <= tolerance * expected.norm().clamp(min=1)


@pytest.mark.parametrize("chunk_states", [1, 7, 26, 1000])
def test_log_probabilities_of_one_token_a_state(world, chunk_states):
    check(
        world,
        lambda states: [token_log_probs(states, world.tokens)],
        lambda states: [-cross_entropy(states.logits(), world.tokens, reduction="none")],
        chunk_states,
    )


@pytest.mark.parametrize("chunk_states", [1, 7, 26])
def test_log_probabilities_of_several_tokens_a_state_and_entropy(world, chunk_states):
    """One token is named twice."""
    tokens = torch.stack([world.tokens, world.tokens.roll(3), world.tokens], 1)

    def dense(states):
        log_q = states.logits().log_softmax(-1)
        return [log_q.gather(1, tokens), -(log_q.exp() * log_q).sum(-1)]

    check(world, lambda states: token_scores(states, tokens)[:2], dense, chunk_states)


def test_the_gradient_is_right_where_only_one_side_wants_it():
    """And after a loss in which all states meet; a frozen output matrix gets none."""
    world = draw_world(0.8)
    hidden = world.student.hidden.clone().requires_grad_()
    states = replace(world.student, hidden=hidden, chunk_logits=5 * VOCABULARY)
    token_log_probs(states, world.tokens).sum().square().backward()
    (expected,) = torch.autograd.grad(
        cross_entropy(states.logits(), world.tokens, reduction="sum").square(), hidden, retain_graph=True
    )
    torch.testing.assert_close(hidden.grad, expected)
    assert states.weight.grad is None


def test_the_backward_pass_may_run_twice():
    world = draw_world(0.8)
    states, leaves = with_leaves(world.student)
    log_probs = token_log_probs(states, world.tokens)
    once = torch.autograd.grad(log_probs.sum(), leaves, retain_graph=True)
    again = torch.autograd.grad(3 * log_probs.sum(), leaves)
    for one, three in zip(once, again, strict=True):
        torch.testing.assert_close(3 * one, three)


def test_likeliest_tokens_carry_no_gradient(world):
    states, _ = with_leaves(world.student)
    scores = token_scores(states, world.tokens)
    assert torch.equal(scores.top, states.logits().argmax(-1)) and not scores.top.requires_grad
    assert scores.log_probs.requires_grad and scores.entropy.requires_grad
    with torch.no_grad():
        assert not any(own.requires_grad for own in token_scores(states, world.tokens))


@pytest.mark.parametrize("k", [1, 5, VOCABULARY, 1000])
def test_top_log_probs_are_the_largest_in_order(world, k):
    states, _ = with_leaves(replace(world.student, chunk_logits=4 * VOCABULARY))
    log_probs, ids = top_log_probs(states, k)
    expected = states.logits().log_softmax(-1).sort(-1, descending=True)
    torch.testing.assert_close(log_probs, expected.values[:, :k].detach())
    assert torch.equal(ids, expected.indices[:, :k]) and not log_probs.requires_grad


def test_a_certain_token_has_no_entropy_and_no_slope():
    logits = torch.tensor([[0.0, 1e30, -5.0], [0.0, -2e3, 0.0]]).requires_grad_()
    scores = token_scores(as_states(logits), torch.tensor([1, 1]))
    assert scores.log_probs.tolist() == pytest.approx([0, -2e3 - 0.6931472], rel=1e-6, abs=1e-6)
    assert scores.entropy.tolist() == pytest.approx([0, 0.6931472], abs=1e-6)
    (gradient,) = torch.autograd.grad(scores.log_probs.sum() + scores.entropy.sum(), logits)
    torch.testing.assert_close(gradient, torch.tensor([[0.0, 0.0, 0.0], [-0.5, 1.0, -0.5]]))


def test_bf16_states_are_scored_in_float32():
    half = draw_world(0.8, dtype=torch.bfloat16)
    single = replace(half.student, hidden=half.student.hidden.float(), weight=half.student.weight.float())
    scores, expected = token_scores(half.student, half.tokens), token_scores(single, half.tokens)
    assert scores.log_probs.dtype == scores.entropy.dtype == torch.float32
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-5)
    states, leaves = with_leaves(half.student)
    dense, exact = with_leaves(single)
    gradients = torch.autograd.grad(token_log_probs(states, half.tokens).sum(), leaves)
    for own, other in zip(
        gradients, torch.autograd.grad(token_log_probs(dense, half.tokens).sum(), exact), strict=True
    ):
        assert own.dtype == torch.bfloat16
        assert (own.float() - other).norm() < 2**-8 * other.norm()


def test_softmax_takes_the_place_of_the_logits():
    logits = torch.randn(6, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for tokens in (torch.arange(6), torch.arange(12).view(6, 2) % 9):
        own = logits.clone()
        log_probs, share = softmax_log_probs(own, tokens)
        expected = logits.log_softmax(-1).gather(1, tokens.view(6, -1)).view(tokens.shape)
        torch.testing.assert_close((log_probs, share), (expected, logits.softmax(-1)), rtol=1e-11, atol=1e-11)
        assert share.data_ptr() == own.data_ptr()
