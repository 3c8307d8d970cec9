"""Bellman Distill written out densely, term by term: the form that every faster one is held against.

States are flat: sequence b with L_b actions contributes the L_b + 1 rows s_0 .. s_L, one sequence after another.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from distill.errors import ConfigError, DataError
from distill.losses.bellman_options import BellmanOptions, ReleasedOptions
from distill.losses.candidate_sets import CandidateSets
from distill.losses.terms import LossTerms, softmax_entropy, upcast


@dataclass(frozen=True)
class Trajectories:
    """Teacher responses laid end to end: N transitions of B sequences over N + B states.

    `actions`: int64 [N], EOS included where it was produced. `lengths`: int64 [B], actions of each sequence.
    `done`: bool [B], true where the response ends with EOS, false where it was cut.
    """

    actions: Tensor
    lengths: Tensor
    done: Tensor

    @cached_property
    def sequence(self) -> Tensor:
        """Sequence of each transition, int64 [N]."""
        return torch.repeat_interleave(self.lengths)

    @cached_property
    def position(self) -> Tensor:
        """Time t of each transition within its sequence, int64 [N]."""
        starts = self.lengths.cumsum(0) - self.lengths
        return torch.arange(len(self.actions), device=self.actions.device) - starts[self.sequence]

    @cached_property
    def state(self) -> Tensor:
        """Row of s_t for each transition, int64 [N]; s_{t+1} is the row after, as each sequence adds one state more."""
        return torch.arange(len(self.actions), device=self.actions.device) + self.sequence

    @cached_property
    def last(self) -> Tensor:
        """Whether a transition is the last of its sequence, bool [N]."""
        return self.position == self.lengths[self.sequence] - 1

    @cached_property
    def end(self) -> Tensor:
        """Whether a transition is an EOS that ends its sequence, bool [N]."""
        return self.last & self.done[self.sequence]

    def check(self, logits: Tensor, candidates: CandidateSets | None) -> None:
        """Raise DataError unless actions, lengths, logits and candidate sets describe the same states."""
        transitions, states = int(self.lengths.sum()), len(self.actions) + len(self.lengths)
        found = (len(self.actions), len(logits), states if candidates is None else len(candidates))
        if found != (transitions, states, states):
            raise DataError(
                f"trajectories: expected {transitions} actions, {states} rows of logits and {states} candidate sets "
                f"(one more state than actions a sequence), found {found}; lay out s_0..s_L of every sequence"
            )


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


def bellman_sampled(
    logits: Tensor, trajectories: Trajectories, candidates: CandidateSets | None, options: BellmanOptions | None = None
) -> LossTerms:
    """Compute the published objective at the teacher's sampled actions (BD, arXiv eq. 16, with the sign turned).

    Objective `expected` takes the linear part in expectation: the cross entropy of PROJ_p(pi*), the teacher's
    probabilities renormalised on the set, against the projected student. It is the mean of `sampled` over actions of
    the teacher, given the states and which transitions leave their set. Those stay as in `sampled`, so `oos_action`
    keeps its meaning (drop: gone; include: -log of the student on the set with a; floor: V - q_min). With value_loss v0
    the mean replaces Q(s, a) alone, and V(s') remains that of the sampled successor.

    `logits`: student, [N + B, vocab], any float type (computed in float32 at least). `candidates`: teacher sets of the
    N + B states; None means all tokens (p = 1), which `expected` refuses. Parts: linear (= -log of the projected
    student at a, unless value_loss is v0) and chi2. Metrics: nll (at the sampled actions) and residual over the kept
    transitions; see also `_set_metrics`.
    """
    options = options or BellmanOptions()
    step = bellman_transitions(logits, trajectories, candidates, options)
    weights = step.kept.to(step.q.dtype)
    if options.occupancy_weights:
        weights = weights * options.gamma ** trajectories.position.to(weights.dtype)
    state, count = trajectories.state, step.kept.sum()
    metrics = _set_metrics(logits, state, candidates, step.in_set, step.valid) | {
        "nll": (((step.value[state] - step.q) * step.kept).sum().detach(), count),
        "residual": ((step.residual * step.kept).sum().detach(), count),
    }
    return _reduce({"linear": step.linear, "chi2": step.chi2}, weights, trajectories, options.reduction, metrics)


def bellman_transitions(
    logits: Tensor, trajectories: Trajectories, candidates: CandidateSets | None, options: BellmanOptions
) -> Transitions:
    """Compute every term of the sampled objective, transition by transition; arguments as in `bellman_sampled`."""
    trajectories.check(logits, candidates)
    if options.objective == "expected" and candidates is None:
        raise ConfigError("objective: expected sampled without candidate sets, found expected; set p below 1")
    state, actions, end = trajectories.state, trajectories.actions, trajectories.end
    mask = None if candidates is None else candidates.to_mask(logits.shape[-1])
    in_set = torch.ones_like(end) if mask is None else mask[state, actions]
    if mask is not None and options.oos_action == "include":
        mask[state, actions] = True

    unclipped = _shift(upcast(logits) / options.temperature, options.q_shift)
    clipped = unclipped if options.q_min is None else unclipped.clamp(min=options.q_min)
    backup = clipped if options.clip_scope == "all" else unclipped
    value = torch.logsumexp(backup if mask is None else backup.masked_fill(~mask, -torch.inf), dim=-1)

    q = clipped[state, actions]
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
    imitated = q
    if options.objective == "expected":
        imitated = torch.where(in_set, _teacher_mean(clipped, candidates)[state], q)
    linear = value_term - (imitated - options.gamma * next_value)

    valid, kept = _kept(trajectories, in_set, options)
    return Transitions(q, value, next_value, residual, linear, chi2, in_set, valid, kept)


def bellman_released(
    logits: Tensor, trajectories: Trajectories, candidates: CandidateSets | None, options: ReleasedOptions
) -> LossTerms:
    """Compute the objective of the released code (vocabulary means; the sampled action enters through masks only).

    Arguments and shapes as in `bellman_sampled`. The last transition of every response leaves the sum: an EOS equals
    the pad id there and is masked, and the last column of a cut response is dropped. Parts: linear and chi2.
    """
    trajectories.check(logits, candidates)
    state, vocab = trajectories.state, logits.shape[-1]
    mask = torch.ones_like(logits, dtype=torch.bool) if candidates is None else candidates.to_mask(vocab)

    q = _shift(upcast(logits), "max").clamp(min=options.q_min)
    policy = q.softmax(-1) * mask / options.p + options.epsilon
    policy = policy / policy.sum(-1, keepdim=True)
    value = (policy * (q - policy.log())).sum(-1)[state].masked_fill(trajectories.end, 0.0)

    kept, _ = _kept(trajectories, trajectories.end, options)
    next_value = value.roll(-1).masked_fill(~kept, 0.0)  # the wrapped entries are all last transitions
    td = (q * mask)[state] - options.gamma * next_value[:, None]
    linear = value - options.gamma * next_value - td.mean(-1)
    chi2 = td.square().mean(-1) / (4 * options.alpha) if options.chi2 else torch.zeros_like(linear)
    metrics = _set_metrics(logits, state, candidates, mask[state, trajectories.actions], kept)
    return _reduce({"linear": linear, "chi2": chi2}, kept.to(q.dtype), trajectories, options.reduction, metrics)


def loss_weight(
    trajectories: Trajectories, candidates: CandidateSets | None, options: BellmanOptions | ReleasedOptions
) -> Tensor:
    """Compute the weight that either objective will return, from the data alone.

    A trainer needs it before the first forward pass, to divide each micro-batch by the weight of the global batch.
    """
    acting = torch.ones(len(trajectories.actions) + len(trajectories.lengths), dtype=torch.bool)
    acting[trajectories.lengths.cumsum(0) + torch.arange(len(trajectories.lengths))] = False
    in_set = torch.ones_like(trajectories.end)
    if candidates is not None:
        actions = torch.full(acting.shape, -1)
        actions[acting] = trajectories.actions
        in_set = candidates.contains(actions)[acting]
    _, kept = _kept(trajectories, in_set, options)
    weights = _weights(kept, trajectories, options)
    if options.reduction == "token":
        return weights.sum()
    return (torch.zeros(len(trajectories.lengths)).index_add(0, trajectories.sequence, weights) > 0).sum().float()


def _kept(
    trajectories: Trajectories, in_set: Tensor, options: BellmanOptions | ReleasedOptions
) -> tuple[Tensor, Tensor]:
    """Tell which transitions exist for the objective, and which of them enter its sums."""
    if isinstance(options, ReleasedOptions):
        return ~trajectories.last, ~trajectories.last
    valid = torch.ones_like(trajectories.end)
    if options.eos_action == "exclude":
        valid = valid & ~trajectories.end
    if options.truncation == "drop_last":
        valid = valid & (trajectories.end | ~trajectories.last)
    return valid, valid & in_set if options.oos_action == "drop" else valid


def _weights(kept: Tensor, trajectories: Trajectories, options: BellmanOptions | ReleasedOptions) -> Tensor:
    if isinstance(options, BellmanOptions) and options.occupancy_weights:
        return kept * options.gamma**trajectories.position
    return kept.float()


def _teacher_mean(q: Tensor, candidates: CandidateSets) -> Tensor:
    """Mean of q [rows, vocab] by row under the teacher's probabilities, renormalised on its sets."""
    rows = candidates.rows
    shares = (candidates.probs / candidates.mass[rows]).to(q.dtype)
    return q.new_zeros(len(q)).index_add(0, rows, shares * q[rows, candidates.ids.long()])


def _shift(scaled: Tensor, kind: str) -> Tensor:
    if kind == "max":
        return scaled - scaled.max(-1, keepdim=True).values  # max, not amax: a tie sends its gradient to one token
    return scaled - scaled.logsumexp(-1, keepdim=True) if kind == "lse" else scaled


def _reduce(
    parts: dict[str, Tensor], weights: Tensor, trajectories: Trajectories, reduction: str, metrics: dict
) -> LossTerms:
    """Sum each part over weighted transitions, or over per-sequence weighted means (empty sequences left out)."""
    weight = weights.sum()
    if reduction == "sequence":
        zero = torch.zeros(len(trajectories.lengths), dtype=weights.dtype, device=weights.device)
        mass = zero.index_add(0, trajectories.sequence, weights)
        weights = weights / mass.clamp(min=torch.finfo(mass.dtype).tiny)[trajectories.sequence]
        weight = (mass > 0).sum().to(weights.dtype)
    sums = {name: (values * weights).sum() for name, values in parts.items()}
    return LossTerms(sum(sums.values()), weight, {name: value.detach() for name, value in sums.items()}, metrics)


@torch.no_grad()
def _set_metrics(
    logits: Tensor, state: Tensor, candidates: CandidateSets | None, in_set: Tensor, valid: Tensor
) -> dict[str, tuple[Tensor, Tensor]]:
    """Sums over the valid transitions: oos_fraction, set_size, p_eff (teacher), entropy (student softmax, nats)."""
    rows, count = state[valid], valid.sum()
    if candidates is None:
        sizes, mass = count * logits.shape[-1], count.double()
    else:
        sizes, mass = candidates.sizes[rows].sum(), candidates.mass[rows].sum()
    sums = {
        "oos_fraction": (valid & ~in_set).sum(),
        "set_size": sizes,
        "p_eff": mass,
        "entropy": softmax_entropy(logits)[rows].sum(),
    }
    return {name: (value, count) for name, value in sums.items()}
