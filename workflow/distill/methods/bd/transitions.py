"""The Bellman Distill objectives on transitions: what is left once Q and V of every state are known."""

from dataclasses import dataclass

import torch
from torch import Tensor

from distill.losses.candidate_sets import CandidateSets
from distill.losses.terms import LossTerms, add_up
from distill.methods.bd.section import Bellman
from distill.methods.bd.trajectories import Trajectories, counted, transition_weights


@dataclass(frozen=True)
class ActionValues:
    """A model's Q(s, a) of sampled actions, or of the remainder in their place, [N], and V of all states, [N + B]."""

    q: Tensor
    value: Tensor


@dataclass(frozen=True)
class Transitions:
    """The sampled objective before reduction, all [N] but `value` [N + B].

    `q`: Q(s, a). `value`: V of every state. `next_value`: V(s'), 0 at the end. `residual`: x = Q(s, a) - gamma V(s').
    `linear` and `chi2`: the two parts of the loss of each transition. `in_set`: whether a is in the teacher's set.
    `valid`: transitions that exist for the objective (EOS and truncation options). `kept`: those that enter the sums.
    `outside`: the student's mass outside the set of s, before any floor; None unless there is a remainder.
    """

    q: Tensor
    value: Tensor
    next_value: Tensor
    residual: Tensor
    linear: Tensor
    chi2: Tensor
    in_set: Tensor
    valid: Tensor
    kept: Tensor
    outside: Tensor | None


def sampled_transitions(
    student: ActionValues,
    teacher: ActionValues | None,
    teacher_mean: Tensor | None,
    in_set: Tensor,
    trajectories: Trajectories,
    options: Bellman,
    outside: Tensor | None = None,
) -> Transitions:
    """Compute every term of the published objective (BD, arXiv eq. 16, with the sign turned).

    `teacher`: formed from its log-probabilities as `student` is from its logits; only chi2 `centred` needs it.
    `teacher_mean`: mean of the student's Q(s, .) under the teacher projected on its sets, or on sets and remainder,
    [N + B]; only objective `expected` needs it. `in_set`: bool [N]. `outside`: the student's mass there, [N + B].
    """
    state, end, value = trajectories.state, trajectories.end, student.value

    def residual_of(model: ActionValues) -> tuple[Tensor, Tensor, Tensor]:
        q = torch.where(in_set, model.q, options.floor) if options.oos_action == "floor" else model.q
        following = model.value[state + 1].masked_fill(end, 0.0)
        following = following.detach() if options.detach_next_value else following
        return q, following, q - options.gamma * following

    q, next_value, residual = residual_of(student)
    if options.value_loss == "telescoped":
        value_term = value[state] - options.gamma * next_value
    else:
        value_term = (1 - options.gamma) * value[state - trajectories.position]
    chi2 = torch.zeros_like(residual)
    if options.chi2 != "none":
        deviation = residual
        if options.chi2 == "centred":
            assert teacher is not None
            deviation = residual - residual_of(teacher)[2]
        chi2 = deviation.square() / (4 * options.alpha)
    imitated = q
    if options.objective == "expected":
        assert teacher_mean is not None
        imitated = teacher_mean[state] if options.remainder else torch.where(in_set, teacher_mean[state], q)
    linear = value_term - (imitated - options.gamma * next_value)
    valid, kept = counted(trajectories, in_set, options)
    outside = None if outside is None else outside[state].detach()
    return Transitions(q, value, next_value, residual, linear, chi2, in_set, valid, kept, outside)


def sampled_terms(
    step: Transitions, trajectories: Trajectories, candidates: CandidateSets | None, vocabulary: int, options: Bellman
) -> LossTerms:
    """Sum the terms of the published objective.

    Parts: linear (= -log of the projected student at a, unless value_loss is v0) and chi2. Metrics: nll (at the sampled
    actions) and residual over the kept transitions; with a remainder student_outside, the student's mass outside the
    sets, over the valid ones; see also `_set_metrics`.
    """
    count = step.kept.sum()
    metrics = _set_metrics(trajectories, candidates, vocabulary, step.in_set, step.valid) | {
        "nll": (((step.value[trajectories.state] - step.q) * step.kept).sum().detach(), count),
        "residual": ((step.residual * step.kept).sum().detach(), count),
    }
    if step.outside is not None:
        metrics["student_outside"] = (step.outside * step.valid).sum(), step.valid.sum()
    return _reduce({"linear": step.linear, "chi2": step.chi2}, step.kept, trajectories, options, metrics)


@dataclass(frozen=True)
class ReleasedStates:
    """What the released objective needs of each state, all [N + B].

    `value`: V. `mean_q` and `mean_q_square`: vocabulary means of Q and Q^2 where the teacher's set masks Q with 0.
    """

    value: Tensor
    mean_q: Tensor
    mean_q_square: Tensor


def released_terms(
    states: ReleasedStates,
    trajectories: Trajectories,
    candidates: CandidateSets | None,
    vocabulary: int,
    options: Bellman,
) -> LossTerms:
    """Sum the objective of the released code: vocabulary means, the sampled action enters through masks only.

    The last transition of every response leaves the sum: an EOS equals the pad id there and is masked, and the last
    column of a cut response is dropped. Parts: linear and chi2.
    """
    state, gamma = trajectories.state, options.gamma
    valid, kept = counted(trajectories, trajectories.end, options)
    value = states.value[state].masked_fill(trajectories.end, 0.0)
    next_value = value.roll(-1).masked_fill(~kept, 0.0)  # the wrapped entries are all last transitions
    linear = value - gamma * next_value - (states.mean_q[state] - gamma * next_value)
    chi2 = torch.zeros_like(linear)
    if options.chi2 == "printed":
        shifted = states.mean_q_square[state] - 2 * gamma * next_value * states.mean_q[state]
        chi2 = (shifted + (gamma * next_value).square()) / (4 * options.alpha)
    metrics = _set_metrics(trajectories, candidates, vocabulary, trajectories.inside(candidates), valid)
    return _reduce({"linear": linear, "chi2": chi2}, kept, trajectories, options, metrics)


def _reduce(
    parts: dict[str, Tensor],
    kept: Tensor,
    trajectories: Trajectories,
    options: Bellman,
    metrics: dict[str, tuple[Tensor, Tensor]],
) -> LossTerms:
    weights, weight = transition_weights(kept, trajectories, options, parts["linear"].dtype)
    sums = {name: (values * weights).sum() for name, values in parts.items()}
    return LossTerms(add_up(sums.values()), weight, {name: value.detach() for name, value in sums.items()}, metrics)


@torch.no_grad()
def _set_metrics(
    trajectories: Trajectories, candidates: CandidateSets | None, vocabulary: int, in_set: Tensor, valid: Tensor
) -> dict[str, tuple[Tensor, Tensor]]:
    """Sums over the valid transitions: oos_fraction, set_size, p_eff (teacher's mass of the set)."""
    rows, count = trajectories.state[valid], valid.sum()
    if candidates is None:
        sizes, mass = count * vocabulary, count.double()
    else:
        sizes, mass = candidates.sizes[rows].sum(), candidates.mass[rows].sum()
    sums = {"oos_fraction": (valid & ~in_set).sum(), "set_size": sizes, "p_eff": mass}
    return {name: (value, count) for name, value in sums.items()}
