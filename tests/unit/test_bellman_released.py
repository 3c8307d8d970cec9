"""The objective of the released code: number oracles and its known blind spots."""

import json
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from distill.losses.candidate_sets import top_p_sets
from distill.methods.bd.reference import bellman_released
from distill.methods.bd.section import Bellman
from distill.methods.bd.trajectories import Trajectories
from states import vary

ORACLE = json.loads((Path(__file__).parents[1] / "golden" / "bd_oracles.json").read_text())
TEACHER = torch.tensor(ORACLE["teacher_probs"], dtype=torch.float64)
STUDENT = torch.tensor(ORACLE["student_logits"], dtype=torch.float64)


def released(logits, actions, done, options, teacher=TEACHER):
    batch = Trajectories(torch.tensor(actions), torch.tensor([len(actions)]), torch.tensor([done]))
    return bellman_released(logits, batch, None if options.p == 1 else top_p_sets(teacher, options.p), options)


@pytest.mark.parametrize("case", ORACLE["released"], ids=lambda case: case["name"])
def test_oracle(case):
    logits = STUDENT.clone().requires_grad_()
    chi2 = "printed" if case["chi2"] else "none"
    options = Bellman(objective="released", p=case["p"], epsilon=case["epsilon"], chi2=chi2)
    terms = released(logits, case["response"], case["response"][-1] == case["pad_id"], options)
    terms.mean.backward()
    found = [terms.mean.item(), terms.parts["linear"] / terms.weight, terms.parts["chi2"] / terms.weight]
    assert found == pytest.approx([case["loss"], case["linear_part"] * 1.0, case["chi2_part"]], abs=1e-6)
    expected = torch.tensor([*case["grad"], [0, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(logits.grad, expected, atol=1e-6, rtol=0)


def test_literal_formula_on_a_padded_batch():
    """Transcribe the padded form, with pad = EOS = 0, and compare with the flat one."""
    generator = torch.Generator().manual_seed(0)
    vocab, p, gamma, alpha, eps = 7, 0.8, 0.9, 0.2, 1e-3
    responses = torch.tensor([[3, 1, 0, 0, 0], [2, 5, 6, 1, 4], [4, 4, 1, 2, 0]])
    lengths, done = torch.tensor([3, 5, 5]), torch.tensor([True, False, True])
    logits = 4 * torch.randn(3, 6, vocab, generator=generator, dtype=torch.float64)
    probs = (2 * torch.randn(3, 6, vocab, generator=generator, dtype=torch.float64)).softmax(-1)

    mask = top_p_sets(probs.flatten(0, 1), p).to_mask(vocab).view(3, 6, vocab).double()
    m = (responses != 0).double()
    q = (logits - logits.max(-1, keepdim=True).values).clamp(min=-10)
    policy = q.softmax(-1) * mask / p + eps
    policy = policy / policy.sum(-1, keepdim=True)
    value = m * (policy * (q - policy.log())).sum(-1)[:, :5]
    now, after = value[:, :4], value[:, 1:]
    g = (m[..., None] * mask[:, :5] * q[:, :5])[:, :4] - gamma * after[..., None]
    columns = -g.mean(-1) + now - gamma * after + (g**2).mean(-1) / (4 * alpha)
    # The release also sums padded columns: they are 0, as V and V' are masked there.
    per_sequence, counts = columns.sum(-1), m[:, :4].sum(-1)

    states = torch.cat([torch.arange(n + 1) + 6 * b for b, n in enumerate(lengths.tolist())])
    batch = Trajectories(torch.cat([row[:n] for row, n in zip(responses, lengths, strict=True)]), lengths, done)
    options = Bellman(objective="released", p=p, gamma=gamma, alpha=alpha, epsilon=eps)
    args = logits.flatten(0, 1)[states], batch, top_p_sets(probs.flatten(0, 1)[states], p)
    torch.testing.assert_close(bellman_released(*args, options).mean, (per_sequence / counts).mean())
    tokens = bellman_released(*args, vary(options, reduction="token"))
    torch.testing.assert_close(tokens.mean, per_sequence.sum() / counts.sum())
    assert tokens.weight == counts.sum()


def test_the_sampled_action_does_not_matter():
    options = Bellman(objective="released", p=0.8)
    assert released(STUDENT, [1, 2, 1], False, options).total == released(STUDENT, [0, 1, 2], False, options).total


@pytest.mark.parametrize("epsilon", [1e-8, 1e-6, 1e-2])
def test_finite_in_float32(epsilon):
    logits = (30 * STUDENT.float()).requires_grad_()
    terms = released(logits, [1, 2, 0], True, Bellman(objective="released", p=0.5, epsilon=epsilon))
    terms.mean.backward()
    assert terms.total.isfinite() and logits.grad.isfinite().all() and terms.total.dtype == torch.float32


@pytest.mark.parametrize(
    "changed", [{"alpha": 1.0}, {"gamma": 0.5}, {"chi2": "none"}, {"q_min": -1.2}, {"epsilon": 0.1}]
)
def test_every_option_changes_the_loss(changed):
    options = Bellman(objective="released", p=0.8)
    base = released(STUDENT, [1, 2, 1], False, options).mean
    assert abs(base - released(STUDENT, [1, 2, 1], False, vary(options, **changed)).mean) > 1e-4


def test_eos_only_response_has_no_weight():
    terms = released(STUDENT[:2], [0], True, Bellman(objective="released", p=0.8), TEACHER[:2])
    assert terms.weight == 0 and terms.mean == 0


@pytest.mark.parametrize("wrong", [{"p": 0.0}, {"epsilon": 0.0}, {"alpha": -1.0}, {"reduction": "batch"}])
def test_options_are_validated(wrong):
    with pytest.raises(ValidationError, match="|".join(wrong)):
        Bellman(objective="released", **{"p": 0.8} | wrong)
