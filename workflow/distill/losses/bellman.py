"""Bellman Distill at the speed of its data: equal to the dense form, on states instead of logits.

The published objective needs few logits of a state: those of the candidate set, of the sampled action, and the largest.
Only the last one asks for the whole vocabulary, without a gradient of that size. The released objective needs two sums
over the vocabulary as well. Whatever else the options allow is computed densely, a few sequences at a time.
"""

import itertools
import math

import torch
from torch import Tensor

from distill.losses.bellman_options import BellmanOptions, ReleasedOptions
from distill.losses.candidate_sets import CandidateSets
from distill.losses.reference import bellman_released, bellman_sampled
from distill.losses.states import States, argmax, autograd_loss, chunked_loss, gather_logits, top_tokens
from distill.losses.terms import LossTerms, join_terms
from distill.losses.trajectories import Trajectories
from distill.losses.transitions import ActionValues, ReleasedStates, released_terms, sampled_terms, sampled_transitions

_ROUNDING = 1 + 1e-6  # of the exponential of a floored Q
_CACHED = 2**18  # elements that stay in a core's cache between two operations


def bellman(
    states: States,
    trajectories: Trajectories,
    candidates: CandidateSets | None,
    options: BellmanOptions | ReleasedOptions,
) -> LossTerms:
    """Compute any of the three objectives; see `bellman_sampled` and `bellman_released` of the reference.

    `states`: the N + B states s_0 .. s_L of B sequences, one sequence after another. `candidates`: the teacher's sets
    there, on the same device; None means all tokens (p = 1).
    """
    trajectories.check(len(states), candidates)
    if isinstance(options, ReleasedOptions):
        compute = _dense if candidates is None else _released
    else:
        compute = _on_candidates
        if candidates is None or options.q_shift == "lse" or options.remainder or options.chi2 == "centred":
            compute = _dense
    return compute(states, trajectories, candidates, options)


def _on_candidates(
    states: States, trajectories: Trajectories, candidates: CandidateSets, options: BellmanOptions
) -> LossTerms:
    """The published objective on the logits of candidates, sampled actions and each state's largest."""
    state, actions, in_set = trajectories.state, trajectories.actions, trajectories.inside(candidates)
    rows, ids = candidates.rows, candidates.ids.long()
    teacher_entries = len(ids)
    if options.oos_action == "include":
        rows, ids = torch.cat([rows, state[~in_set]]), torch.cat([ids, actions[~in_set]])
    entries = len(ids)
    wanted_rows, wanted_ids = [rows, state], [ids, actions]
    if options.q_shift == "max":
        everywhere = torch.arange(len(states), device=rows.device)
        wanted_rows, wanted_ids = [*wanted_rows, everywhere], [*wanted_ids, top_tokens(states)]
    wanted = torch.cat(wanted_rows)
    logits = gather_logits(states, wanted, torch.cat(wanted_ids)) / options.temperature
    unclipped = logits - logits[-len(states) :][wanted] if options.q_shift == "max" else logits
    clipped = unclipped if options.q_min is None else unclipped.clamp(min=options.q_min)
    backup = clipped if options.clip_scope == "all" else unclipped

    value = _logsumexp_by_row(backup[:entries], rows, len(states))
    mean = None
    if options.objective == "expected":
        own = rows[:teacher_entries]
        shares = (candidates.probs / candidates.mass[own]).to(clipped.dtype)
        mean = clipped.new_zeros(len(states)).index_add(0, own, shares * clipped[:teacher_entries])
    q = clipped[entries : entries + len(actions)]
    step = sampled_transitions(ActionValues(q, value), None, mean, in_set, trajectories, options)
    return sampled_terms(step, trajectories, candidates, states.vocabulary, options)


def _logsumexp_by_row(values: Tensor, rows: Tensor, count: int) -> Tensor:
    """Log of the summed exponentials of each row's entries, [count]; every row has one at least."""
    top = values.new_full((count,), -torch.inf).scatter_reduce(0, rows, values.detach(), "amax")
    return values.new_zeros(count).index_add(0, rows, (values - top[rows]).exp()).log() + top


class _WholeSequences:
    """Chunks of states that hold whole sequences, since V(s') couples neighbours, and what belongs to each."""

    def __init__(self, states: States, trajectories: Trajectories, candidates: CandidateSets | None):
        self.trajectories, self.candidates = trajectories, candidates
        sizes = (trajectories.lengths + 1).tolist()
        self.chunks = states.chunks(sizes)
        self._sequence_at = {row: index for index, row in enumerate(itertools.accumulate(sizes, initial=0))}

    def __getitem__(self, rows: slice) -> tuple[Trajectories, CandidateSets | None]:
        sequences = slice(self._sequence_at[rows.start], self._sequence_at[rows.stop])
        return self.trajectories[sequences], None if self.candidates is None else self.candidates[rows]


def _dense(
    states: States,
    trajectories: Trajectories,
    candidates: CandidateSets | None,
    options: BellmanOptions | ReleasedOptions,
) -> LossTerms:
    """The reference on the logits of a few sequences at a time."""
    reference = bellman_released if isinstance(options, ReleasedOptions) else bellman_sampled
    parts, collected = _WholeSequences(states, trajectories, candidates), []

    def total(logits: Tensor, rows: slice) -> Tensor:
        collected.append(reference(logits, *parts[rows], options))
        return collected[-1].total

    return join_terms(autograd_loss(states, total, parts.chunks), collected)


def _released(
    states: States, trajectories: Trajectories, candidates: CandidateSets, options: ReleasedOptions
) -> LossTerms:
    """The released objective on the logits of a few sequences at a time.

    Outside the set the projected policy is the constant epsilon / Y, so that of a row only Z = sum exp Q, S = sum Q and
    the Q of the candidates count. Their gradients are spread over the row in place.
    """
    parts, collected = _WholeSequences(states, trajectories, candidates), []

    def objective(logits: Tensor, rows: slice, differentiate: bool) -> Tensor:
        own, sets = parts[rows]
        entry, ids = sets.rows, sets.ids.long()
        top = argmax(logits)[:, None]
        q = logits.sub_(logits.gather(1, top)).clamp_(min=options.q_min)
        set_q, total = q[entry, ids], q.sum(-1)
        exp_q = q.exp_()  # not softmax, whose own sum of many small terms is a few parts in 100,000 off in float32
        z = exp_q.sum(-1)
        leaves = [leaf.requires_grad_(differentiate) for leaf in (set_q, total, z.log())]
        with torch.set_grad_enabled(differentiate):
            values = _released_states(*leaves, sets, states.vocabulary, options)
            terms = released_terms(values, own, sets, states.vocabulary, options)
        collected.append(terms)
        if differentiate:
            to_set_q, to_total, to_log_z = torch.autograd.grad(terms.total, leaves)
            gradient = _above_floor(exp_q, math.exp(options.q_min) * _ROUNDING, to_log_z / z, to_total)
            gradient[entry, ids] += to_set_q * (set_q.detach() > options.q_min)
            gradient.scatter_add_(1, top, -gradient.sum(-1, keepdim=True))  # the shift by the largest logit
        return terms.total.detach()

    return join_terms(chunked_loss(states, objective, parts.chunks), collected)


def _above_floor(values: Tensor, floor: float, slope: Tensor, offset: Tensor) -> Tensor:
    """Replaces values [rows, vocabulary] by slope x value + offset (both by row) above the floor, else by 0."""
    step = max(1, _CACHED // values.shape[1]) if values.device.type == "cpu" else len(values)
    for part, a, b in zip(*(tensor.split(step) for tensor in (values, slope[:, None], offset[:, None])), strict=True):
        torch.ops.aten.threshold_backward.grad_input(torch.addcmul(b, part, a), part, floor, grad_input=part)
    return values


def _released_states(
    q: Tensor, total: Tensor, log_z: Tensor, candidates: CandidateSets, vocabulary: int, options: ReleasedOptions
) -> ReleasedStates:
    """`q`: of the candidates, [entries]. `total`, `log_z`: S and log Z of each state."""
    rows, others = candidates.rows, (vocabulary - candidates.sizes).to(q.dtype)

    def by_row(values: Tensor) -> Tensor:
        return values.new_zeros(len(candidates)).index_add(0, rows, values)

    smoothed = (q - log_z[rows]).exp() / options.p + options.epsilon
    norm = by_row(smoothed) + options.epsilon * others
    policy, outside = smoothed / norm[rows], options.epsilon / norm
    value = by_row(policy * (q - policy.log())) + outside * (total - by_row(q) - others * outside.log())
    return ReleasedStates(value, by_row(q) / vocabulary, by_row(q.square()) / vocabulary)
