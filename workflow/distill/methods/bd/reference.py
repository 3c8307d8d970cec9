"""Bellman Distill written out densely on whole logits: the form that the fast one is held against."""

import torch
from torch import Tensor

from distill.errors import ConfigError
from distill.losses.candidate_sets import CandidateSets
from distill.losses.states import upcast
from distill.losses.terms import LossTerms
from distill.methods.bd.section import Bellman
from distill.methods.bd.trajectories import Trajectories
from distill.methods.bd.transitions import (
    ActionValues,
    ReleasedStates,
    Transitions,
    released_terms,
    sampled_terms,
    sampled_transitions,
)


def bellman_sampled(
    logits: Tensor, trajectories: Trajectories, candidates: CandidateSets | None, options: Bellman | None = None
) -> LossTerms:
    """Compute the published objective at the teacher's sampled actions (BD, arXiv eq. 16, with the sign turned).

    Objective `expected` takes the linear part in expectation: the cross entropy of PROJ_p(pi*), the teacher's
    probabilities renormalised on the set, against the projected student. It is the mean of `sampled` over actions of
    the teacher, given the states and which transitions leave their set. Those stay as in `sampled`, so `oos_action`
    keeps its meaning (drop: gone; include: -log of the student on the set with a; floor: V - q_min). With value_loss v0
    the mean replaces Q(s, a) alone, and V(s') remains that of the sampled successor.

    With a remainder, its action is one more column: Q_rest = log sum exp of the unfloored Q outside the set, teacher
    mass 1 - p_eff (`CandidateSets.rest`); a set of all tokens has none. `expected` is then the mean over all actions.

    `logits`: student, [N + B, vocab], any float type (computed in float32 at least). `candidates`: teacher sets of the
    N + B states; None means all tokens (p = 1), without probabilities, which `expected` and chi2 `centred` refuse.
    Parts and metrics: see `sampled_terms`.
    """
    options = options or Bellman()
    step = bellman_transitions(logits, trajectories, candidates, options)
    return sampled_terms(step, trajectories, candidates, logits.shape[-1], options)


def bellman_transitions(
    logits: Tensor, trajectories: Trajectories, candidates: CandidateSets | None, options: Bellman
) -> Transitions:
    """Compute every term of the sampled objective, transition by transition; arguments as in `bellman_sampled`."""
    trajectories.check(len(logits), candidates)
    state, actions, vocabulary = trajectories.state, trajectories.actions, logits.shape[-1]
    mask = torch.ones_like(logits, dtype=torch.bool) if candidates is None else candidates.to_mask(vocabulary)
    in_set = mask[state, actions]
    if options.oos_action == "include":
        mask[state, actions] = True

    q = _shift(upcast(logits), options.q_shift)
    outside = None
    if options.remainder and candidates is not None:
        rest = q.masked_fill(mask, -torch.inf).logsumexp(-1, keepdim=True)
        outside = (rest - q.logsumexp(-1, keepdim=True)).exp().squeeze(-1)
        has_rest = ~mask.all(-1, keepdim=True)
        q, mask = torch.cat([q, rest.masked_fill(~has_rest, 0.0)], -1), torch.cat([mask, has_rest], -1)
        actions = torch.where(in_set, actions, vocabulary)

    def values(q: Tensor) -> tuple[Tensor, ActionValues]:
        clipped = q if options.q_min is None else q.clamp(min=options.q_min)
        backup = clipped if options.clip_scope == "all" else q
        value = backup.masked_fill(~mask, -torch.inf).logsumexp(-1)
        return clipped, ActionValues(clipped[state, actions], value)

    clipped, student = values(q)
    mean = teacher = None
    if options.needs_teacher:
        if candidates is None:
            name, fit = ("objective", "sampled") if options.objective == "expected" else ("chi2", "none or printed")
            raise ConfigError(
                f"{name}: expected {fit} without candidate sets, found {getattr(options, name)}; set p below 1"
            )
        probs = _teacher(candidates, q, vocabulary)
        mean = (probs / probs.sum(-1, keepdim=True) * clipped).sum(-1)
        log_probs = probs.clamp(min=torch.finfo(probs.dtype).tiny).log()
        top = log_probs[:, :vocabulary].amax(-1, keepdim=True)
        _, teacher = values(log_probs - top if options.q_shift == "max" else log_probs)
    return sampled_transitions(student, teacher, mean, in_set, trajectories, options, outside)


def bellman_released(
    logits: Tensor, trajectories: Trajectories, candidates: CandidateSets | None, options: Bellman
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


def _teacher(candidates: CandidateSets, like: Tensor, vocabulary: int) -> Tensor:
    """The teacher's probabilities on its sets, and on the remainder where `like` [rows, actions] has one; else 0."""
    probs = torch.zeros_like(like)
    probs[candidates.rows, candidates.ids.long()] = candidates.probs.to(like.dtype)
    probs[:, vocabulary:] = candidates.rest(vocabulary).to(like.dtype)[:, None]
    return probs


def _shift(logits: Tensor, kind: str) -> Tensor:
    if kind == "max":
        return logits - logits.max(-1, keepdim=True).values  # max, not amax: a tie sends its gradient to one token
    return logits - logits.logsumexp(-1, keepdim=True) if kind == "lse" else logits
