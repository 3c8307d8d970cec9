"""Bellman Distill at the speed of its data: equal to the dense form, on states instead of logits.

The published objective needs few logits of a state: those of the candidate set, of the sampled action, and the largest.
Only the last one asks for the whole vocabulary, without a gradient of that size. With a remainder the logsumexp of the
logits outside the set comes in as well, and the released objective needs two sums over the vocabulary. At p = 1 either
form is computed densely, a few sequences at a time.
"""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from distill.losses.candidate_sets import CandidateSets
from distill.losses.states import (
    ChunkLogits,
    States,
    argmax,
    autograd_loss,
    chunked_loss,
    gather_logits,
    softmax_,
    top_tokens,
)
from distill.losses.terms import LossTerms, join_terms
from distill.methods.bd.reference import bellman_released, bellman_sampled
from distill.methods.bd.section import Bellman
from distill.methods.bd.trajectories import Trajectories
from distill.methods.bd.transitions import (
    ActionValues,
    ReleasedStates,
    released_terms,
    sampled_terms,
    sampled_transitions,
)

_ROUNDING = 1 + 1e-6  # of the exponential of a floored Q
_CACHED = 2**18  # elements that stay in a core's cache between two operations


def bellman(
    states: States, trajectories: Trajectories, candidates: CandidateSets | None, options: Bellman
) -> LossTerms:
    """Compute any of the three objectives; see `bellman_sampled` and `bellman_released` of the reference.

    `states`: the N + B states s_0 .. s_L of B sequences, one sequence after another. `candidates`: the teacher's sets
    there, on the same device; None means all tokens (p = 1).
    """
    trajectories.check(len(states), candidates)
    if candidates is None:
        return _dense(states, trajectories, options)
    if options.objective == "released":
        compute = _released
    else:
        compute = _on_vocabulary if options.remainder or options.q_shift == "lse" else _on_candidates
    return compute(states, trajectories, candidates, options)


@dataclass(frozen=True)
class _Actions:
    """The actions of all states in one list: the tokens of the sets, then sampled tokens that join, or remainders.

    `rows`: state of each action. `ids`: its token; remainders have none. `chosen`: place of each sampled action, [N];
    where it stands for nothing, that of another. `in_set`: bool [N]. `with_rest`: states with tokens outside their set.
    """

    rows: Tensor
    ids: Tensor
    chosen: Tensor
    in_set: Tensor
    with_rest: Tensor

    @classmethod
    def of(cls, trajectories: Trajectories, candidates: CandidateSets, vocabulary: int, options: Bellman) -> "_Actions":
        rows, ids, state = candidates.rows, candidates.ids.long(), trajectories.state
        place = trajectories.place_in(candidates)
        in_set, has_rest = place >= 0, candidates.sizes < vocabulary
        with_rest = has_rest.nonzero().squeeze(1)
        if options.remainder:
            rows, outside = torch.cat([rows, with_rest]), (len(ids) - 1 + has_rest.cumsum(0))[state]
        elif options.oos_action == "include":
            joining, outside = ~in_set, len(ids) - 1 + (~in_set).cumsum(0)
            rows, ids = torch.cat([rows, state[joining]]), torch.cat([ids, trajectories.actions[joining]])
        else:
            outside = candidates.indptr[state]
        return cls(rows, ids, torch.where(in_set, place, outside), in_set, with_rest)


@torch.no_grad()
def mass_outside(states: States, candidates: CandidateSets) -> Tensor:
    """Return the probability that each state's own softmax gives to all tokens outside the teacher's set, [states]."""
    logits, found = ChunkLogits(states), []
    for chunk in states.chunks():
        probs, sets = softmax_(logits[chunk]), candidates[chunk]
        probs[sets.rows, sets.ids.long()] = 0.0
        found.append(probs.sum(-1))
    return torch.cat(found)


def _on_candidates(
    states: States, trajectories: Trajectories, candidates: CandidateSets, options: Bellman
) -> LossTerms:
    """The published objective on the logits of candidates, sampled actions and each state's largest."""
    actions = _Actions.of(trajectories, candidates, states.vocabulary, options)
    top = top_tokens(states) if options.q_shift == "max" else actions.ids[:0]
    rows = torch.cat([actions.rows, torch.arange(len(top), device=top.device)])
    logits = gather_logits(states, rows, torch.cat([actions.ids, top]))
    of_tokens, of_top = logits.split([len(actions.ids), len(top)])
    return _terms(of_tokens, of_top[:0], of_top, actions, trajectories, candidates, states.vocabulary, options)


def _on_vocabulary(
    states: States, trajectories: Trajectories, candidates: CandidateSets, options: Bellman
) -> LossTerms:
    """The published objective where the logsumexp of all logits outside the sets counts too.

    Its gradient is spread by the softmax of these logits, which they have turned into by then.
    """
    parts, collected = _WholeSequences(states, trajectories), list[LossTerms]()

    def objective(logits: Tensor, rows: slice, differentiate: bool) -> Tensor:
        own, sets = parts[rows], candidates[rows]
        actions = _Actions.of(own, sets, states.vocabulary, options)
        tokens = actions.rows[: len(actions.ids)], actions.ids
        top = argmax(logits)[:, None]
        of_tokens, of_top = logits[tokens], logits.gather(1, top).squeeze(1)
        logits[sets.rows, sets.ids.long()] = -torch.inf
        logits[sets.sizes == states.vocabulary] = 0.0  # nothing is outside, and nothing reads what stands for it
        rest = _softmax_and_logsumexp_(logits)
        leaves = [leaf.requires_grad_(differentiate) for leaf in (of_tokens, rest, of_top)]
        with torch.set_grad_enabled(differentiate):
            terms = _terms(of_tokens, rest, of_top, actions, own, sets, states.vocabulary, options)
        collected.append(terms)
        if differentiate:
            to_tokens, to_rest, to_top = torch.autograd.grad(terms.total, leaves, materialize_grads=True)
            logits.mul_(to_rest[:, None])
            logits[tokens] += to_tokens
            logits.scatter_add_(1, top, to_top[:, None])
        return terms.total.detach()

    return join_terms(chunked_loss(states, objective, parts.chunks), collected)


def _softmax_and_logsumexp_(logits: Tensor) -> Tensor:
    """Replaces logits [rows, vocabulary] by their softmax and returns their logsumexp, [rows]."""
    top = argmax(logits)[:, None]
    largest = logits.gather(1, top)
    return (largest - softmax_(logits).gather(1, top).log()).squeeze(1)


def _terms(
    of_tokens: Tensor,
    rest: Tensor,
    of_top: Tensor,
    actions: _Actions,
    trajectories: Trajectories,
    candidates: CandidateSets,
    vocabulary: int,
    options: Bellman,
) -> LossTerms:
    """The published objective on logits; empty for what the options do not ask for.

    `of_tokens`: of `actions.ids`. `rest`: logsumexp of those outside the set, [N + B]. `of_top`: the largest, [N + B].
    """
    count, own = len(candidates), len(candidates.ids)

    def values(logits: Tensor, shift: Tensor) -> tuple[Tensor, ActionValues]:
        unclipped = logits - shift[actions.rows]
        q = unclipped if options.q_min is None else unclipped.clamp(min=options.q_min)
        value = _logsumexp_by_row(q if options.clip_scope == "all" else unclipped, actions.rows, count)
        return q, ActionValues(q[actions.chosen], value)

    logits = torch.cat([of_tokens, rest[actions.with_rest]]) if options.remainder else of_tokens
    if options.q_shift == "max":
        shift = of_top
    elif options.q_shift == "lse":
        everything = torch.cat([of_tokens[:own], rest[actions.with_rest]])
        shift = _logsumexp_by_row(everything, torch.cat([candidates.rows, actions.with_rest]), count)
    else:
        shift = logits.new_zeros(count)
    q, student = values(logits, shift)

    mean = teacher = outside = None
    if options.needs_teacher:
        probs, places = candidates.probs, actions.rows[:own]
        if options.remainder:
            probs, places = torch.cat([probs, candidates.rest(vocabulary)[actions.with_rest]]), actions.rows
        shares = (probs / probs.new_zeros(count).index_add(0, places, probs)[places]).to(q.dtype)
        mean = q.new_zeros(count).index_add(0, places, shares * q[: len(places)])
    if options.chi2 == "centred":
        log_probs = probs.log().to(q.dtype)
        largest = log_probs[candidates.indptr[:-1]]
        _, teacher = values(log_probs, largest if options.q_shift == "max" else torch.zeros_like(largest))
    if options.remainder:
        within = _logsumexp_by_row(of_tokens.detach(), candidates.rows, count)
        outside = torch.sigmoid(rest.detach() - within).masked_fill(candidates.sizes == vocabulary, 0.0)
    step = sampled_transitions(student, teacher, mean, actions.in_set, trajectories, options, outside)
    return sampled_terms(step, trajectories, candidates, vocabulary, options)


def _logsumexp_by_row(values: Tensor, rows: Tensor, count: int) -> Tensor:
    """Log of the summed exponentials of each row's entries, [count]; every row has one at least."""
    top = values.new_full((count,), -torch.inf).scatter_reduce(0, rows, values.detach(), "amax")
    return values.new_zeros(count).index_add(0, rows, (values - top[rows]).exp()).log() + top


class _WholeSequences:
    """Chunks of states that hold whole sequences, since V(s') couples neighbours, and the sequences of each."""

    def __init__(self, states: States, trajectories: Trajectories):
        self.trajectories = trajectories
        sizes = (trajectories.lengths + 1).tolist()
        self.chunks = states.chunks(sizes)
        self._sequence_at = {row: index for index, row in enumerate(itertools.accumulate(sizes, initial=0))}

    def __getitem__(self, rows: slice) -> Trajectories:
        return self.trajectories[self._sequence_at[rows.start] : self._sequence_at[rows.stop]]


def _dense(states: States, trajectories: Trajectories, options: Bellman) -> LossTerms:
    """The reference on the logits of a few sequences at a time, with sets of all tokens."""
    reference = bellman_released if options.objective == "released" else bellman_sampled
    parts, collected = _WholeSequences(states, trajectories), list[LossTerms]()

    def total(logits: Tensor, rows: slice) -> Tensor:
        collected.append(reference(logits, parts[rows], None, options))
        return collected[-1].total

    return join_terms(autograd_loss(states, total, parts.chunks), collected)


def _released(states: States, trajectories: Trajectories, candidates: CandidateSets, options: Bellman) -> LossTerms:
    """The released objective on the logits of a few sequences at a time.

    Outside the set the projected policy is the constant epsilon / Y, so that of a row only Z = sum exp Q, S = sum Q and
    the Q of the candidates count. Their gradients are spread over the row in place.
    """
    parts, collected = _WholeSequences(states, trajectories), list[LossTerms]()

    def objective(logits: Tensor, rows: slice, differentiate: bool) -> Tensor:
        own, sets = parts[rows], candidates[rows]
        entry, ids = sets.rows, sets.ids.long()
        top = argmax(logits)[:, None]
        q = logits.sub_(logits.gather(1, top)).clamp_(min=options.floor)
        set_q, total = q[entry, ids], q.sum(-1)
        exp_q = q.exp_()  # not softmax, whose own sum of many small terms is a few parts in 100,000 off in float32
        z = exp_q.sum(-1)
        log_z = z.log()
        leaves = [leaf.requires_grad_(differentiate) for leaf in (set_q, total, log_z)]
        with torch.set_grad_enabled(differentiate):
            values = _released_states(set_q, total, log_z, sets, states.vocabulary, options)
            terms = released_terms(values, own, sets, states.vocabulary, options)
        collected.append(terms)
        if differentiate:
            to_set_q, to_total, to_log_z = torch.autograd.grad(terms.total, leaves)
            gradient = _above_floor(exp_q, math.exp(options.floor) * _ROUNDING, to_log_z / z, to_total)
            gradient[entry, ids] += to_set_q * (set_q.detach() > options.floor)
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
    q: Tensor, total: Tensor, log_z: Tensor, candidates: CandidateSets, vocabulary: int, options: Bellman
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
