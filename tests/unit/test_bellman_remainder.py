"""The remainder action and the centred chi-square: what they are, what they must not change, and where they rest."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from distill.losses.candidate_sets import CandidateSets, top_p_sets
from distill.losses.divergences import state_divergences
from distill.methods.bd.objective import bellman
from distill.methods.bd.reference import bellman_sampled, bellman_transitions
from distill.methods.bd.section import Bellman
from distill.methods.bd.trajectories import Trajectories
from states import as_states, vary

VOCAB, LENGTHS, DONE = 8, torch.tensor([5, 4, 2]), torch.tensor([True, False, True])
STATES = int(LENGTHS.sum()) + len(LENGTHS)
SHIFTS = ("max", "lse", "none")
REST = Bellman(objective="expected", remainder=True, chi2="none", q_min=None)
World = tuple[torch.Tensor, torch.Tensor, Trajectories, CandidateSets]


def draw(p: float = 0.8, seed: int = 0) -> World:
    """Student logits, teacher log-probabilities, responses of which some tokens leave the sets, and the sets."""
    generator = torch.Generator().manual_seed(seed)
    logits, teacher = (2 * torch.randn(2, STATES, VOCAB, generator=generator, dtype=torch.float64)).unbind()
    log_probs = teacher.log_softmax(-1)
    batch = Trajectories(torch.zeros(int(LENGTHS.sum()), dtype=torch.long), LENGTHS, DONE)
    batch = replace(batch, actions=torch.multinomial(log_probs.exp(), 1, generator=generator)[batch.state, 0])
    return logits, log_probs, batch, top_p_sets(log_probs.exp(), p)


def close(actual, expected, tolerance=1e-12):
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


def with_gradient(logits, batch, sets, options) -> tuple[torch.Tensor, torch.Tensor]:
    logits = logits.detach().clone().requires_grad_()
    total = bellman_sampled(logits, batch, sets, options).total
    return total.detach(), torch.autograd.grad(total, logits)[0]


def lumped(log_probs: torch.Tensor, sets: CandidateSets) -> torch.Tensor:
    """Log-probabilities [rows, VOCAB + 1]: -inf outside the set, and all that is outside in one column more."""
    mask = sets.to_mask(VOCAB)
    rest = log_probs.masked_fill(mask, -torch.inf).logsumexp(-1, keepdim=True)
    return torch.cat([log_probs.masked_fill(~mask, -torch.inf), rest], -1)


def lumped_kl(logits: torch.Tensor, log_probs: torch.Tensor, sets: CandidateSets) -> torch.Tensor:
    """KL(teacher || student) of each state on the set and the remainder."""
    teacher, student = (lumped(own, sets).clamp(min=-1e3) for own in (log_probs, logits.log_softmax(-1)))
    return (teacher.exp() * (teacher - student)).sum(-1)


# --- what it is


@pytest.mark.parametrize("q_shift", SHIFTS)
def test_sampled_is_the_nll_of_the_lumped_student_and_expected_its_kl_plus_an_entropy(q_shift):
    logits, log_probs, batch, sets = draw()
    options = vary(REST, q_shift=q_shift)
    step = bellman_transitions(logits, batch, sets, vary(options, objective="sampled"))
    actions = torch.where(sets.to_mask(VOCAB)[batch.state, batch.actions], batch.actions, VOCAB)
    assert 0 < (actions == VOCAB).sum() < len(actions) and step.kept.all()
    close(step.linear, -lumped(logits.log_softmax(-1), sets)[batch.state, actions])
    expected = bellman_transitions(logits, batch, sets, options)
    entropy = torch.special.entr(lumped(log_probs, sets).exp()).sum(-1)
    close(expected.linear, (lumped_kl(logits, log_probs, sets) + entropy)[batch.state])


@pytest.mark.parametrize("options", [REST, vary(REST, q_min=-1.5), vary(REST, value_loss="v0", gamma=0.7)])
def test_expected_is_the_mean_of_sampled_over_all_actions_of_the_teacher(options):
    """By enumeration: every token in turn at all states at once, weighed by its probability, outside the set too."""
    logits, log_probs, batch, sets = draw()
    probs = log_probs.exp()[batch.state]
    logits.requires_grad_()
    found = bellman_transitions(logits, batch, sets, options).linear
    each = [
        bellman_transitions(
            logits,
            replace(batch, actions=torch.full_like(batch.actions, a)),
            sets,
            vary(options, objective="sampled"),
        ).linear
        for a in range(VOCAB)
    ]
    enumerated = (probs * torch.stack(each, -1)).sum(-1)
    close(found, enumerated)
    slopes = torch.linspace(0.5, 2, len(found), dtype=torch.float64)  # tells the transitions apart
    gradients = [torch.autograd.grad((slopes * values).sum(), logits)[0] for values in (found, enumerated)]
    close(*gradients)
    assert gradients[0].abs().max() > 0.1


def test_the_mean_over_drawn_actions_is_expected():
    logits, log_probs, batch, sets = draw()
    generator, found = torch.Generator().manual_seed(1), []
    for _ in range(300):
        actions = torch.multinomial(log_probs.exp(), 1, generator=generator)[batch.state, 0]
        options = vary(REST, objective="sampled")
        found.append(bellman_sampled(logits, replace(batch, actions=actions), sets, options).mean)
    found = torch.stack(found)
    error = found.std() / len(found) ** 0.5
    assert abs(found.mean() - bellman_sampled(logits, batch, sets, REST).mean) < 4 * error < 0.3


@pytest.mark.parametrize("q_shift", SHIFTS)
@pytest.mark.parametrize("chi2", ["none", "printed", "centred"])
@pytest.mark.parametrize("objective", ["sampled", "expected"])
def test_gradient_closed_form(objective, chi2, q_shift):
    """As docs/methods.md has it, transition by transition."""
    alpha, gamma = 0.3, 0.9
    logits, log_probs, batch, sets = draw()
    options = vary(REST, objective=objective, chi2=chi2, q_shift=q_shift, alpha=alpha, gamma=gamma)
    _, found = with_gradient(logits, batch, sets, options)
    policy, mask, one_hot = logits.softmax(-1), sets.to_mask(VOCAB), torch.eye(VOCAB, dtype=torch.float64)
    outside = logits.masked_fill(mask, -torch.inf).softmax(-1)  # u of the remainder
    constant = {"max": one_hot[logits.argmax(-1)], "lse": policy, "none": torch.zeros_like(logits)}[q_shift]
    inside = log_probs.exp() * mask
    mean = inside + (1 - inside.sum(-1, keepdim=True)) * outside
    x = bellman_transitions(logits, batch, sets, options).residual
    if chi2 == "centred":
        x = x - bellman_transitions(log_probs, batch, sets, options).residual
    slope = torch.zeros_like(x) if chi2 == "none" else x / (2 * alpha)
    expected = torch.zeros_like(logits)
    for n, (t, action) in enumerate(zip(batch.state.tolist(), batch.actions.tolist(), strict=True)):
        chosen = one_hot[action] if mask[t, action] else outside[t]
        expected[t] += policy[t] - (chosen if objective == "sampled" else mean[t]) + slope[n] * (chosen - constant[t])
        if not batch.end[n]:
            expected[t + 1] -= gamma * slope[n] * (policy[t + 1] - constant[t + 1])
    close(found, expected)


# --- where it rests


@pytest.mark.parametrize("p", [0.3, 0.8, 0.95])
@pytest.mark.parametrize("q_shift", SHIFTS)
@pytest.mark.parametrize("chi2", ["none", "centred"])
def test_no_gradient_at_the_teacher(chi2, q_shift, p):
    _, log_probs, batch, sets = draw(p)
    options = vary(REST, chi2=chi2, q_shift=q_shift)
    offsets = 0 if q_shift == "none" else torch.linspace(-3, 3, STATES, dtype=torch.float64)[:, None]
    _, gradient = with_gradient(log_probs + offsets, batch, sets, options)
    close(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("q_shift", ["lse", "none"])
@pytest.mark.parametrize("chi2", ["none", "centred"])
def test_how_the_tokens_outside_share_their_mass_is_not_taught(chi2, q_shift):
    _, log_probs, batch, sets = draw()
    outside = ~sets.to_mask(VOCAB)
    shares = torch.linspace(-2, 2, VOCAB, dtype=torch.float64).expand_as(log_probs)
    shares = shares.masked_fill(~outside, -torch.inf).log_softmax(-1)
    mass = log_probs.masked_fill(~outside, -torch.inf).logsumexp(-1, keepdim=True)
    mixed = torch.where(outside, mass + shares, log_probs)
    assert (mixed - log_probs).abs().max() > 1
    _, gradient = with_gradient(mixed, batch, sets, vary(REST, chi2=chi2, q_shift=q_shift))
    close(gradient, torch.zeros_like(gradient))


def test_as_printed_it_does_not_rest_at_the_teacher():
    _, log_probs, batch, sets = draw()
    _, gradient = with_gradient(log_probs, batch, sets, vary(REST, chi2="printed"))
    assert gradient.abs().max() > 0.1


@pytest.mark.parametrize("q_shift", SHIFTS)
@pytest.mark.parametrize("oos_action", ["drop", "floor"])
def test_without_a_remainder_the_centred_residual_is_zero_at_the_teacher_too(oos_action, q_shift):
    """There V* = log p_eff less the log of the largest probability, under the shift by the maximum."""
    _, log_probs, batch, sets = draw()
    options = Bellman(chi2="centred", oos_action=oos_action, q_shift=q_shift, q_min=-10.0)
    step = bellman_transitions(log_probs, batch, sets, options)
    close(step.chi2[step.kept], torch.zeros(int(step.kept.sum()), dtype=torch.float64))
    if q_shift == "max":
        close(step.value, sets.mass.log() - log_probs.amax(-1))
    far = bellman_transitions(log_probs / 2, batch, sets, options)
    assert far.chi2[far.kept].max() > 0.1


def test_the_teachers_value_is_minus_the_log_of_its_largest_probability():
    _, log_probs, batch, sets = draw()
    step = bellman_transitions(log_probs, batch, sets, vary(REST, chi2="centred"))
    close(step.value, -log_probs.amax(-1))


@pytest.mark.parametrize("clip_scope", ["all", "selected"])
def test_the_teachers_residual_has_the_same_floor(clip_scope):
    """Else its own logits would be penalised wherever one of its Q lies below the floor."""
    _, log_probs, batch, sets = draw()
    options = vary(REST, chi2="centred", q_min=-0.5, clip_scope=clip_scope)
    step = bellman_transitions(log_probs, batch, sets, options)
    assert ((step.q == -0.5) & step.kept).any() and step.residual.abs().max() > 0.1
    close(step.chi2, torch.zeros_like(step.chi2))


# --- the floor


def test_the_floor_acts_once_on_the_remainder():
    """Not on each of its tokens, whose sum would be above the floor; where it acts, nothing is learnt outside."""
    logits, _, batch, sets = draw()
    mask = sets.to_mask(VOCAB)
    low = logits.where(mask, logits - 30)
    options = vary(REST, q_min=-10.0)
    step = bellman_transitions(low, batch, sets, options)
    q = (low - low.amax(-1, keepdim=True)).clamp(min=-10.0)
    close(step.value, torch.cat([q.masked_fill(~mask, -torch.inf), torch.full((STATES, 1), -10.0)], -1).logsumexp(-1))
    _, gradient = with_gradient(low, batch, sets, options)
    assert (gradient[~mask] == 0).all() and gradient[mask].abs().max() > 0.1
    # Many small ones above it together, each of them below it.
    small = logits.where(mask, logits.amax(-1, keepdim=True) - 10.5)
    several = (~mask).sum(-1) >= 2
    rest = bellman_transitions(small, batch, sets, vary(options, q_min=-10.0)).value
    free = bellman_transitions(small, batch, sets, vary(options, q_min=None)).value
    inside = (logits - logits.amax(-1, keepdim=True) >= -10).where(mask, True).all(-1)
    assert (several & inside).any()
    close(rest[several & inside], free[several & inside])


# --- nesting in p


@pytest.mark.parametrize("chi2", ["none", "printed"])
def test_sets_of_all_tokens_give_the_full_form(chi2):
    logits, log_probs, batch, _ = draw()
    everything = top_p_sets(log_probs.exp(), 1.0)
    options = Bellman(remainder=True, chi2=chi2)
    found = with_gradient(logits, batch, everything, options)
    for full in (with_gradient(logits, batch, None, vary(options, remainder=own)) for own in (False, True)):
        for own, other in zip(found, full, strict=True):
            close(own, other)
    expected, _ = with_gradient(logits, batch, everything, vary(REST, chi2="none"))
    close(expected, -(log_probs.exp() * logits.log_softmax(-1)).sum(-1)[batch.state].sum())


def test_larger_sets_see_more_of_the_divergence_up_to_all_of_it():
    """A coarser alphabet has a smaller KL; the last token's set is all tokens."""
    logits, log_probs, batch, _ = draw()
    found = []
    for p in (0.1, 0.3, 0.5, 0.8, 0.95, 0.999999, 1.0):
        sets = top_p_sets(log_probs.exp(), p)
        entropy = torch.special.entr(lumped(log_probs, sets).exp()).sum(-1)[batch.state]
        found.append(bellman_transitions(logits, batch, sets, REST).linear - entropy)
    assert all((low <= high + 1e-12).all() for low, high in pairwise(found))
    full = (log_probs.exp() * (log_probs - logits.log_softmax(-1))).sum(-1)[batch.state]
    close(found[-1], full)
    assert (found[0] < full - 0.01).any()


# --- what must not matter


CASES = [
    REST,
    vary(REST, chi2="centred", q_min=-10.0),
    Bellman(remainder=True, chi2="printed", gamma=0.7),
    Bellman(chi2="centred"),
]


@pytest.mark.parametrize("q_shift", SHIFTS)
@pytest.mark.parametrize("options", CASES)
def test_row_constants(options, q_shift):
    """Only the unshifted form with a chi-square (or a floor) sees them."""
    logits, _, batch, sets = draw()
    options = vary(options, q_shift=q_shift)
    moved = logits + torch.linspace(-3, 5, STATES, dtype=torch.float64)[:, None]
    (loss, gradient), (other, _) = (with_gradient(own, batch, sets, options) for own in (logits, moved))
    seen = q_shift == "none" and options.chi2 != "none"
    assert (abs(loss - other) > 1e-3) == seen
    if not seen:
        close(gradient.sum(-1), torch.zeros(STATES, dtype=torch.float64))


@pytest.mark.parametrize("options", CASES)
def test_the_order_of_the_vocabulary(options):
    logits, log_probs, batch, sets = draw()
    order = torch.randperm(VOCAB, generator=torch.Generator().manual_seed(1))
    moved = replace(batch, actions=order.argsort()[batch.actions])
    loss, gradient = with_gradient(logits, batch, sets, options)
    found, own = with_gradient(logits[:, order], moved, top_p_sets(log_probs[:, order].exp(), 0.8), options)
    close(found, loss)
    close(own, gradient[:, order])


@pytest.mark.parametrize("options", CASES)
def test_micro_batches_and_chunks(options):
    """On states: whole, sequence by sequence, and in chunks of one sequence."""
    logits, _, batch, sets = draw()
    whole = bellman(as_states(logits), batch, sets, options)
    chunked = bellman(replace(as_states(logits), chunk_logits=VOCAB), batch, sets, options)
    rows = [slice(0, 6), slice(6, 11), slice(11, 14)]
    parts = [bellman(as_states(logits[own]), batch[i : i + 1], sets[own], options) for i, own in enumerate(rows)]
    for total, weight in ((chunked.total, chunked.weight), (sum(p.total for p in parts), sum(p.weight for p in parts))):
        close(total, whole.total)
        assert weight == whole.weight
    for name, (total, count) in whole.metrics.items():
        close(sum(part.metrics[name][0] for part in parts), total)
        assert sum(part.metrics[name][1] for part in parts) == count


@pytest.mark.parametrize("options", CASES)
def test_gradcheck(options):
    """Of the dense form, which the fast one is held against."""
    logits, _, batch, sets = draw()
    options = vary(options, q_min=None)
    assert torch.autograd.gradcheck(lambda z: bellman_sampled(z, batch, sets, options).mean, logits.requires_grad_())


# --- the teacher's mass


def test_mass_outside_the_sets():
    _, log_probs, _, sets = draw()
    close(sets.rest(VOCAB), 1 - sets.mass)
    assert (top_p_sets(log_probs.exp(), 1.0).rest(VOCAB) == 0).all()
    # Rounded to float32, the first two of these three add up to 1: something is outside, if not how much.
    probs = torch.tensor([[1 - 2**-26, 2**-27, 2**-27]], dtype=torch.float64)
    rounded = top_p_sets(probs, 0.9)
    rounded = replace(rounded, probs=rounded.probs.float())
    assert len(rounded.ids) == 1 and rounded.mass == 1 and rounded.rest(3) == 2**-24
    options = vary(REST, chi2="centred")
    one = Trajectories(torch.tensor([1]), torch.tensor([1]), torch.tensor([False]))
    terms = bellman_sampled(torch.zeros(2, 3), one, CandidateSets.cat([rounded, rounded]), options)
    assert terms.total.isfinite() and terms.metrics["student_outside"][0] == pytest.approx(2 / 3)


def test_only_a_remainder_reports_the_mass_outside():
    logits, _, batch, sets = draw()
    both = {own: Bellman(remainder=own, chi2="printed") for own in (False, True)}
    found = {own: bellman_sampled(logits, batch, sets, options).metrics for own, options in both.items()}
    assert found[True].keys() - found[False].keys() == {"student_outside"} and found[False].keys() < found[True].keys()
    total, count = found[True]["student_outside"]
    close(total / count, (logits.softmax(-1) * ~sets.to_mask(VOCAB)).sum(-1)[batch.state].mean())


def test_in_expectation_it_is_the_divergence_of_that_name():
    """As `gkd` has it, along any text; up to the teacher's entropy, a constant."""
    logits, log_probs, batch, sets = draw()
    student, teacher = as_states(logits).detach(), as_states(log_probs)
    acting = batch.state
    found = bellman(as_states(logits), batch, sets, REST)
    values = state_divergences(student, teacher, "remainder_kl", 0.8)[acting]
    probs = log_probs.exp().where(sets.to_mask(VOCAB), 0)
    lumped = torch.cat([probs, (1 - probs.sum(-1, keepdim=True)).clamp(min=0)], -1)[acting]
    close(found.total, values.sum() + torch.special.entr(lumped).sum(), 1e-6)
