"""The Bellman Distill objectives on transitions: what is left once Q and V of every state are known."""

from dataclasses import dataclass

import torch
from torch import Tensor

from distill.losses.bellman_options import BellmanOptions, ReleasedOptions
from distill.losses.candidate_sets import CandidateSets
from distill.losses.terms import LossTerms
from distill.losses.trajectories import Trajectories, counted, transition_weights


@dataclass(frozen=True)
class Transitions:
    """The sampled objective before reduction, all [N] but `value` [N + B].

    `q`: Q(s, a). `value`: V of every state. `next_value`: V(s'), 0 at the end. `residual`: x = Q(s, a) - gamma V(s').
    `linear` and `chi2`: the two parts of the loss of each transition. `in_set`: whether a is in the teacher's set.
    `valid`: transitions that exist for the objective (EOS and truncation options). `kept`: those that enter the sums.
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


def sampled_transitions(
    q: Tensor,
    value: Tensor,
    teacher_mean: Tensor | None,
    in_set: Tensor,
    trajectories: Trajectories,
    options: BellmanOptions,
) -> Transitions:
    """Compute every term of the published objective (BD, arXiv eq. 16, with the sign turned).

    `q`: Q(s, a) of the sampled actions, [N]. `value`: V of every state, [N + B]. `teacher_mean`: mean of Q(s, .) under
    the teacher projected on its sets, [N + B]; only objective `expected` needs it. `in_set`: bool [N].
    """
    state, end = trajectories.state, trajectories.end
    if options.oos_action == "floor":
        q = torch.where(in_set, q, options.q_min)
    next_value = value[state + 1].masked_fill(end, 0.0)
    if options.detach_next_value:
        next_value = next_value.detach()
    residual = q - options.gamma * next_value
    if options.value_loss == "telescoped":
        value_term = value[state] - options.gamma * next_value
    else:
        value_term = (1 - options.gamma) * value[state - trajectories.position]
    chi2 = residual.square() / (4 * options.alpha) if options.chi2 else torch.zeros_like(residual)
    imitated = torch.where(in_set, teacher_mean[state], q) if options.objective == "expected" else q
    linear = value_term - (imitated - options.gamma * next_value)
    valid, kept = counted(trajectories, in_set, options)
    return Transitions(q, value, next_value, residual, linear, chi2, in_set, valid, kept)


def sampled_terms(
    step: Transitions, trajectories: Trajectories, candidates: CandidateSets | None, vocabulary: int, options
) -> LossTerms:
    """Sum the terms of the published objective.

    Parts: linear (= -log of the projected student at a, unless value_loss is v0) and chi2. Metrics: nll (at the sampled
    actions) and residual over the kept transitions; see also `_set_metrics`.
    """
    count = step.kept.sum()
    metrics = _set_metrics(trajectories, candidates, vocabulary, step.in_set, step.valid) | {
        "nll": (((step.value[trajectories.state] - step.q) * step.kept).sum().detach(), count),
        "residual": ((step.residual * step.kept).sum().detach(), count),
    }
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
    options: ReleasedOptions,
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
    if options.chi2:
        shifted = states.mean_q_square[state] - 2 * gamma * next_value * states.mean_q[state]
        chi2 = (shifted + (gamma * next_value).square()) / (4 * options.alpha)
    metrics = _set_metrics(trajectories, candidates, vocabulary, trajectories.inside(candidates), valid)
    return _reduce({"linear": linear, "chi2": chi2}, kept, trajectories, options, metrics)


def _reduce(
    parts: dict[str, Tensor],
    kept: Tensor,
    trajectories: Trajectories,
    options: BellmanOptions | ReleasedOptions,
    metrics: dict[str, tuple[Tensor, Tensor]],
) -> LossTerms:
    weights, weight = transition_weights(kept, trajectories, options, parts["linear"].dtype)
    sums = {name: (values * weights).sum() for name, values in parts.items()}
    return LossTerms(sum(sums.values()), weight, {name: value.detach() for name, value in sums.items()}, metrics)


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
