"""Token NLL, and its mix with the teacher's distribution."""

import pytest
import torch

from distill.errors import ConfigError, DataError
from distill.losses.cross_entropy import distilled_nll, token_nll


@pytest.fixture
def text():
    generator = torch.Generator().manual_seed(0)
    logits, teacher = 2 * torch.randn(2, 6, 9, generator=generator, dtype=torch.float64)
    return logits, torch.arange(6), teacher


def test_token_nll_sums_and_counts(text):
    logits, targets, _ = text
    terms = token_nll(logits, targets)
    torch.testing.assert_close(terms.total, -logits.log_softmax(-1)[range(6), targets].sum())
    assert terms.weight == 6
    halves = [token_nll(logits[:2], targets[:2]), token_nll(logits[2:], targets[2:])]
    torch.testing.assert_close(sum(h.total for h in halves) / sum(h.weight for h in halves), terms.mean)


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.5, 1.0])
def test_teacher_mix(text, ratio):
    logits, targets, teacher = text
    log_q = logits.log_softmax(-1)
    ce, kd = -log_q[range(6), targets].sum(), -(teacher.softmax(-1) * log_q).sum()
    terms = distilled_nll(logits, targets, teacher, ratio)
    torch.testing.assert_close(terms.total, (1 - ratio) * ce + ratio * kd)
    torch.testing.assert_close(sum(terms.parts.values()), terms.total)


def loss_and_gradient(loss, logits, *arguments):
    logits = logits.clone().requires_grad_()
    terms = loss(logits, *arguments)
    terms.mean.backward()
    return terms.mean.detach(), logits.grad


def test_without_the_teacher_s_share_it_is_sft(text):
    logits, targets, teacher = text
    sft = loss_and_gradient(token_nll, logits, targets)
    for arguments in ((teacher, 0.0), ()):
        found = loss_and_gradient(distilled_nll, logits, targets, *arguments)
        assert all(map(torch.equal, found, sft))


def test_the_teacher_s_share_alone_is_forward_kl_and_the_teacher_s_entropy(text):
    """Gradient (q - p) / positions, at temperature 1, whatever the tokens are; none at all where q = p."""
    logits, targets, teacher = text
    p, q = teacher.softmax(-1), logits.softmax(-1)
    entropy, kl = -(p * p.log()).sum(-1).mean(), (p * (p / q).log()).sum(-1).mean()
    loss, gradient = loss_and_gradient(distilled_nll, logits, targets, teacher, 1.0)
    torch.testing.assert_close(loss - entropy, kl)
    torch.testing.assert_close(gradient, (q - p) / 6)
    assert loss - entropy > 0.1
    same, nothing = loss_and_gradient(distilled_nll, teacher + 3, targets, teacher, 1.0)  # a constant changes no q
    torch.testing.assert_close(same, entropy)
    assert nothing.abs().max() < 1e-15


def test_teacher_gets_no_gradient(text):
    logits, targets, teacher = text
    teacher.requires_grad_()
    distilled_nll(logits.requires_grad_(), targets, teacher, 0.5).total.backward()
    assert teacher.grad is None and logits.grad is not None


def test_half_precision_is_computed_in_float32(text):
    logits, targets, teacher = (x.bfloat16() if x.is_floating_point() else x for x in text)
    half, single = (distilled_nll(f(logits), targets, f(teacher), 0.5).total for f in (lambda x: x, torch.Tensor.float))
    assert torch.equal(half, single) and half.dtype == torch.float32


@pytest.mark.parametrize("arguments", [{"kd_ratio": 1.5}, {"kd_ratio": -0.1}, {"kd_ratio": 0.5}])
def test_misuse_is_refused(text, arguments):
    logits, targets, _ = text
    with pytest.raises(ConfigError, match="kd_ratio"):
        distilled_nll(logits, targets, **arguments)


@pytest.mark.parametrize("shape", [(6, 8), (5, 9)])
def test_logits_of_another_shape_are_refused(text, shape):
    logits, targets, _ = text
    with pytest.raises(DataError, match=r"expected .* \[6, 9\], found \[\d, \d\]; cut both .* vocabulary") as caught:
        distilled_nll(logits, targets, torch.zeros(shape), 0.5)
    assert "\n" not in str(caught.value)
