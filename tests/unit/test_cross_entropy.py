"""Token NLL and the plain-text loss with its teacher mix."""

import pytest
import torch

from distill.errors import ConfigError
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
def test_plain_text_mix(text, ratio):
    logits, targets, teacher = text
    log_q = logits.log_softmax(-1)
    ce, kd = -log_q[range(6), targets].sum(), -(teacher.softmax(-1) * log_q).sum()
    terms = distilled_nll(logits, targets, teacher, ratio)
    torch.testing.assert_close(terms.total, (1 - ratio) * ce + ratio * kd)
    torch.testing.assert_close(sum(terms.parts.values()), terms.total)


def test_teacher_gets_no_gradient(text):
    logits, targets, teacher = text
    teacher.requires_grad_()
    distilled_nll(logits.requires_grad_(), targets, teacher, 0.5).total.backward()
    assert teacher.grad is None and logits.grad is not None


def test_half_precision_is_computed_in_float32(text):
    logits, targets, teacher = (x.bfloat16() if x.is_floating_point() else x for x in text)
    half, single = (
        distilled_nll(f(logits), targets, f(teacher), 0.5).total for f in (lambda x: x, torch.Tensor.float)
    )
    assert torch.equal(half, single) and half.dtype == torch.float32


@pytest.mark.parametrize("arguments", [{"kd_ratio": 1.5}, {"kd_ratio": -0.1}, {"kd_ratio": 0.5}])
def test_misuse_is_refused(text, arguments):
    logits, targets, _ = text
    with pytest.raises(ConfigError, match="kd_ratio"):
        distilled_nll(logits, targets, **arguments)
