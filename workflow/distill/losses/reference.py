"""Bellman Distill written out densely on whole logits: the form that the fast one is held against."""

import torch
from torch import Tensor

from distill.errors import ConfigError
from distill.losses.bellman_options import BellmanOptions, ReleasedOptions
from distill.losses.candidate_sets import CandidateSets
from distill.losses.states import upcast
from distill.losses.terms import LossTerms
from distill.losses.trajectories import Trajectories
from distill.losses.transitions import (
    ReleasedStates,
    Transitions,
    released_terms,
    sampled_terms,
    sampled_transitions,
)


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
    N + B states; None means all tokens (p = 1), which `expected` refuses. Parts and metrics: see `sampled_terms`.
    """
    options = options or BellmanOptions()
    step = bellman_transitions(logits, trajectories, candidates, options)
    return sampled_terms(step, trajectories, candidates, logits.shape[-1], options)


def bellman_transitions(
    logits: Tensor, trajectories: Trajectories, candidates: CandidateSets | None, options: BellmanOptions
) -> Transitions:
    """Compute every term of the sampled objective, transition by transition; arguments as in `bellman_sampled`."""
    trajectories.check(len(logits), candidates)
    if options.objective == "expected" and candidates is None:
        raise ConfigError("objective: expected sampled without candidate sets, found expected; set p below 1")
    state, actions = trajectories.state, trajectories.actions
    mask = None if candidates is None else candidates.to_mask(logits.shape[-1])
    in_set = torch.ones_like(trajectories.end) if mask is None else mask[state, actions]
    if mask is not None and options.oos_action == "include":
        mask[state, actions] = True

    unclipped = _shift(upcast(logits) / options.temperature, options.q_shift)
    clipped = unclipped if options.q_min is None else unclipped.clamp(min=options.q_min)
    backup = clipped if options.clip_scope == "all" else unclipped
    value = torch.logsumexp(backup if mask is None else backup.masked_fill(~mask, -torch.inf), dim=-1)
    mean = _teacher_mean(clipped, candidates) if options.objective == "expected" else None
    return sampled_transitions(clipped[state, actions], value, mean, in_set, trajectories, options)


def bellman_released(
    logits: Tensor, trajectories: Trajectories, candidates: CandidateSets | None, options: ReleasedOptions
) -> LossTerms:
    """Compute the objective of the released code (vocabulary means; the sampled action enters through masks only).

    Arguments and shapes as in `bellman_sampled`; parts: see `released_terms`.
    """
    trajectories.check(len(logits), candidates)
    mask = torch.ones_like(logits, dtype=torch.bool) if candidates is None else candidates.to_mask(logits.shape[-1])

    q = _shift(upcast(logits), "max").clamp(min=options.q_min)
    policy = q.softmax(-1) * mask / options.p + options.epsilon
    policy = policy / policy.sum(-1, keepdim=True)
    value = (policy * (q - policy.log())).sum(-1)
    states = ReleasedStates(value, (q * mask).mean(-1), (q * mask).square().mean(-1))
    return released_terms(states, trajectories, candidates, logits.shape[-1], options)


def _teacher_mean(q: Tensor, candidates: CandidateSets) -> Tensor:
    """Mean of q [rows, vocab] by row under the teacher's probabilities, renormalised on its sets."""
    rows = candidates.rows
    shares = (candidates.probs / candidates.mass[rows]).to(q.dtype)
    return q.new_zeros(len(q)).index_add(0, rows, shares * q[rows, candidates.ids.long()])


def _shift(scaled: Tensor, kind: str) -> Tensor:
    if kind == "max":
        return scaled - scaled.max(-1, keepdim=True).values  # max, not amax: a tie sends its gradient to one token
    return scaled - scaled.logsumexp(-1, keepdim=True) if kind == "lse" else scaled
