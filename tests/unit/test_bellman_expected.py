"""Objective `expected`: the mean of the sampled one over the teacher's actions, with chi-square as sampled."""

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from distill.errors import ConfigError
from distill.losses.candidate_sets import CandidateSets, top_p_sets
from distill.methods.bd.reference import bellman_sampled, bellman_transitions
from distill.methods.bd.section import Bellman
from distill.methods.bd.trajectories import Trajectories
from states import vary

VOCAB, LENGTHS = 8, torch.tensor([5, 4, 2])
DONE = torch.tensor([True, False, True])
STATES = int(LENGTHS.sum()) + len(LENGTHS)
EXPECTED = Bellman(objective="expected")
LINEAR = vary(EXPECTED, chi2="none")


@pytest.fixture
def world() -> tuple[torch.Tensor, torch.Tensor, Trajectories, CandidateSets]:
    """Student logits, teacher probabilities, and responses of which some tokens leave the sets; Q reaches its floor."""
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(STATES, VOCAB, generator=generator, dtype=torch.float64)
    probs = (2 * torch.randn(STATES, VOCAB, generator=generator, dtype=torch.float64)).softmax(-1)
    batch = Trajectories(torch.zeros(int(LENGTHS.sum()), dtype=torch.long), LENGTHS, DONE)
    actions = torch.multinomial(probs, 1, generator=generator)[batch.state, 0]
    sets, batch = top_p_sets(probs, 0.8), replace(batch, actions=actions)
    inside = sets.to_mask(VOCAB)[batch.state, batch.actions]
    assert 0 < inside.sum() < len(inside) and (logits - logits.max(-1, keepdim=True).values).min() < -10
    return logits, probs, batch, sets


def projected(probs: torch.Tensor, sets: CandidateSets) -> torch.Tensor:
    inside = probs * sets.to_mask(VOCAB)
    return inside / inside.sum(-1, keepdim=True)


def linear(logits, batch, sets, options) -> torch.Tensor:
    return bellman_transitions(logits, batch, sets, options).linear


def everywhere(batch: Trajectories, action: int) -> Trajectories:
    return replace(batch, actions=torch.full_like(batch.actions, action))


def close(actual, expected, tolerance=1e-12):
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=actual.dtype), atol=tolerance, rtol=0)


SETTINGS = [
    LINEAR,
    vary(LINEAR, q_min=-2.0),
    vary(LINEAR, q_min=-2.0, clip_scope="selected"),
    vary(LINEAR, q_shift="lse"),
    vary(LINEAR, value_loss="v0", gamma=0.7),
]


@pytest.mark.parametrize("options", SETTINGS)
def test_it_is_the_mean_of_sampled_over_actions_of_the_projected_teacher(world, options):
    """By enumeration: every in-set token in turn at all states at once, weighed by its probability."""
    logits, probs, batch, sets = world
    weights = projected(probs, sets)[batch.state]
    inside = replace(batch, actions=weights.argmax(-1))
    logits.requires_grad_()
    found = linear(logits, inside, sets, options)
    sampled = vary(options, objective="sampled")
    each = [linear(logits, everywhere(batch, a), sets, sampled) for a in range(VOCAB)]
    enumerated = (weights * torch.stack(each, -1)).sum(-1)
    close(found, enumerated)
    slopes = torch.linspace(0.5, 2, len(found), dtype=torch.float64)  # tells the transitions apart
    gradients = [torch.autograd.grad((slopes * values).sum(), logits)[0] for values in (found, enumerated)]
    close(*gradients)
    assert gradients[0].abs().max() > 0.1


@pytest.mark.parametrize("oos_action", ["drop", "include", "floor"])
def test_out_of_set_actions_keep_their_meaning(world, oos_action):
    """The mean over actions of the unrestricted teacher is that of `sampled`, dropped transitions counting nothing."""
    logits, probs, batch, sets = world
    options = vary(LINEAR, oos_action=oos_action)
    totals = {}
    for objective in ("expected", "sampled"):
        logits = logits.detach().requires_grad_()
        mean = 0.0
        for a in range(VOCAB):
            step = bellman_transitions(logits, everywhere(batch, a), sets, vary(options, objective=objective))
            mean = mean + (probs[batch.state, a] * step.linear * step.kept).sum()
        mean.backward()
        totals[objective] = mean.detach(), logits.grad
    for expected, sampled in zip(totals["expected"], totals["sampled"], strict=True):
        close(expected, sampled)


def test_the_loss_is_the_cross_entropy_of_the_two_projections(world):
    logits, probs, batch, sets = world
    terms = bellman_sampled(logits, batch, sets, vary(LINEAR, q_min=None))
    student = logits.masked_fill(~sets.to_mask(VOCAB), -torch.inf).log_softmax(-1)
    rows = -(projected(probs, sets) * student.clamp(min=-1e300)).sum(-1)[batch.state]
    kept = sets.to_mask(VOCAB)[batch.state, batch.actions]
    close(terms.total, rows[kept].sum())
    assert terms.weight == kept.sum() < len(kept)


def test_no_gradient_where_the_projected_student_is_the_projected_teacher(world):
    logits, probs, batch, sets = world
    # Any row constant and any logits below the set's will do outside the set.
    student = probs.log() - 2 * (~sets.to_mask(VOCAB)) + torch.linspace(-3, 3, STATES, dtype=torch.float64)[:, None]
    options = vary(LINEAR, q_min=None)
    gradients = []
    for own in (student, student + 0.1 * logits):
        own = own.detach().requires_grad_()
        bellman_sampled(own, batch, sets, options).mean.backward()
        gradients.append(own.grad.abs().max().item())
    assert gradients[0] < 1e-15 and gradients[1] > 1e-2


@pytest.mark.parametrize("oos_action", ["drop", "include", "floor"])
def test_everything_but_the_linear_part_is_that_of_sampled(world, oos_action):
    logits, _, batch, sets = world
    options = vary(EXPECTED, oos_action=oos_action, gamma=0.9, alpha=0.3)
    expected = bellman_sampled(logits, batch, sets, options)
    sampled = bellman_sampled(logits, batch, sets, vary(options, objective="sampled"))
    assert torch.equal(expected.parts["chi2"], sampled.parts["chi2"]) and torch.equal(expected.weight, sampled.weight)
    assert expected.metrics == sampled.metrics
    assert {*expected.metrics} == {"nll", "residual", "oos_fraction", "set_size", "p_eff"}
    assert abs(expected.parts["linear"] - sampled.parts["linear"]) > 0.1
    close(expected.parts["linear"] + expected.parts["chi2"], expected.total)


def test_it_varies_less_between_responses_than_sampled(world):
    logits, probs, batch, sets = world
    generator, totals = torch.Generator().manual_seed(1), {"expected": [], "sampled": []}
    weights = projected(probs, sets)[batch.state]
    for _ in range(50):
        drawn = replace(batch, actions=torch.multinomial(weights, 1, generator=generator)[:, 0])
        for objective, found in totals.items():
            found.append(bellman_sampled(logits, drawn, sets, vary(LINEAR, objective=objective)).mean)
    assert torch.stack(totals["expected"]).std() < 1e-12
    assert torch.stack(totals["sampled"]).std() > 0.1


def test_gradcheck_with_chi2_and_out_of_set_actions(world):
    logits, _, batch, sets = world
    options = vary(EXPECTED, oos_action="include", q_min=-2.5, value_loss="v0", reduction="sequence")
    assert torch.autograd.gradcheck(
        lambda z: bellman_sampled(z, batch, sets, options).mean, logits.clone().requires_grad_()
    )


def test_half_precision_is_computed_in_float32(world):
    logits, _, batch, sets = world
    stored = replace(sets, probs=sets.probs.float())  # as the candidate-set file holds them
    half = logits.bfloat16()
    low, single = (bellman_sampled(given, batch, stored, EXPECTED).total for given in (half, half.float()))
    assert torch.equal(low, single) and low.dtype == torch.float32
    exact = bellman_sampled(logits, batch, sets, EXPECTED).mean
    close(bellman_sampled(logits.float(), batch, stored, EXPECTED).mean.double() / exact, 1.0, 1e-5)


def test_it_needs_candidate_sets(world):
    logits, _, batch, _ = world
    with pytest.raises(ConfigError, match="objective: .*found expected; set p below 1") as caught:
        bellman_sampled(logits, batch, None, EXPECTED)
    assert "\n" not in str(caught.value)


def test_unknown_objectives_are_refused():
    with pytest.raises(ValidationError, match="objective\n.*'sampled', 'released' or 'expected'"):
        Bellman(objective="mean")
