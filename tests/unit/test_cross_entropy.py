"""Token NLL, and its mix with the teacher's distribution."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from distill.errors import ConfigError
from distill.losses.cross_entropy import distilled_nll, token_nll
from states import as_states, draw_world, with_gradients


@pytest.fixture
def text():
    """Student logits, targets, and teacher logits."""
    generator = torch.Generator().manual_seed(0)
    logits, teacher = 2 * torch.randn(2, 6, 9, generator=generator, dtype=torch.float64)
    return logits, torch.arange(6), teacher


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.5, 1.0])
def test_it_is_torch_s_cross_entropy_and_so_are_both_gradients(ratio):
    """With the tokens, and with the teacher's probabilities; the weight has rows that no token names."""
    world = draw_world(0.8)
    terms, *gradients = with_gradients(
        lambda states: distilled_nll(states, world.tokens, world.teacher, ratio), world.student
    )
    hidden, weight = (own.clone().requires_grad_() for own in (world.student.hidden, world.student.weight))
    logits = hidden @ weight[: world.student.vocabulary].T
    ce = cross_entropy(logits, world.tokens, reduction="sum")
    kd = cross_entropy(logits, world.teacher.logits().softmax(-1), reduction="sum")
    total = (1 - ratio) * ce + ratio * kd
    close((terms.total.detach(), *gradients), (total.detach(), *torch.autograd.grad(total, (hidden, weight))))
    parts = {"ce": (1 - ratio) * ce.detach()} | ({"kd": ratio * kd.detach()} if ratio else {})
    close(terms.parts, parts)
    assert terms.weight == 26


def test_token_nll_sums_and_counts(text):
    logits, targets, _ = text
    terms = token_nll(as_states(logits), targets)
    close(terms.total, -logits.log_softmax(-1)[range(6), targets].sum())
    assert terms.weight == 6
    halves = [token_nll(as_states(logits[own]), targets[own]) for own in (slice(0, 2), slice(2, 6))]
    close(sum(h.total for h in halves) / sum(h.weight for h in halves), terms.mean)


def loss_and_gradient(loss, logits, *arguments):
    """Returns the mean and its gradient on the logits."""
    terms, gradient, _ = with_gradients(lambda states: loss(states, *arguments), as_states(logits))
    return terms.mean.detach(), gradient / terms.weight


def test_without_the_teacher_s_share_it_is_sft(text):
    logits, targets, teacher = text
    sft = loss_and_gradient(token_nll, logits, targets)
    for arguments in ((as_states(teacher), 0.0), ()):
        found = loss_and_gradient(distilled_nll, logits, targets, *arguments)
        assert all(map(torch.equal, found, sft))


def test_the_teacher_s_share_alone_is_forward_kl_and_the_teacher_s_entropy(text):
    """Gradient (q - p) / positions, at temperature 1, whatever the tokens are; none at all where q = p."""
    logits, targets, teacher = text
    p, q = teacher.softmax(-1), logits.softmax(-1)
    entropy, kl = -(p * p.log()).sum(-1).mean(), (p * (p / q).log()).sum(-1).mean()
    loss, gradient = loss_and_gradient(distilled_nll, logits, targets, as_states(teacher), 1.0)
    close(loss - entropy, kl)
    close(gradient, (q - p) / 6)
    assert loss - entropy > 0.1
    # A constant changes no q.
    same, nothing = loss_and_gradient(distilled_nll, teacher + 3, targets, as_states(teacher), 1.0)
    close(same, entropy)
    assert nothing.abs().max() < 1e-15


def test_teacher_gets_no_gradient(text):
    logits, targets, teacher = text
    teacher.requires_grad_()
    distilled_nll(as_states(logits.requires_grad_()), targets, as_states(teacher), 0.5).total.backward()
    assert teacher.grad is None and logits.grad is not None


def test_half_precision_is_computed_in_float32(text):
    logits, targets, teacher = (x.bfloat16() if x.is_floating_point() else x for x in text)
    half, single = (
        distilled_nll(as_states(f(logits)), targets, as_states(f(teacher)), 0.5).total
        for f in (lambda x: x, torch.Tensor.float)
    )
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, single)


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e30])
def test_no_logit_is_too_large(text, scale):
    logits, targets, _ = text
    states = as_states((scale * logits).float())
    terms, *gradients = with_gradients(lambda own: token_nll(own, targets), states)
    expected = cross_entropy(states.logits(), targets, reduction="sum")
    torch.testing.assert_close(terms.total.detach(), expected)
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("arguments", [{"kd_ratio": 1.5}, {"kd_ratio": -0.1}, {"kd_ratio": 0.5}])
def test_misuse_is_refused(text, arguments):
    logits, targets, _ = text
    with pytest.raises(ConfigError, match="kd_ratio"):
        distilled_nll(as_states(logits), targets, **arguments)
