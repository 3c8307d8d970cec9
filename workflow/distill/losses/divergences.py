"""Divergences between student q and teacher p at each state, over the whole vocabulary, with closed-form gradients.

    jsd               JSD_b  = b KL(p || m) + (1 - b) KL(q || m), m = b p + (1 - b) q; JSD_0 = KL(p || q) and
                      JSD_1 = KL(q || p) by definition (GKD eq. 1)
    skew_kl           SKL_a  = KL(p || a p + (1 - a) q) (DistiLLM)
    skew_reverse_kl   SRKL_a = KL(q || (1 - a) p + a q) (DistiLLM, as its code has it)
    forward_kl        KL(p || q)
    reverse_kl        KL(q || p)
    total_variation   sum |p - q| / 2
    remainder_kl      KL(p || q) on p's top-m set and one remainder that holds all other tokens (ours: what BD in
                      expectation with a remainder and without chi-square minimises)

In nats; b, a and m are called weight. All are 0 where p = q, so the teacher's entropy, which the released code of
DistiLLM leaves out of its forward divergences, is in.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from distill.errors import ConfigError, DataError
from distill.losses.candidate_sets import CandidateSets, top_p_sets
from distill.losses.states import (
    ChunkLogits,
    States,
    check_sets,
    check_shared_vocabulary,
    chunked_loss,
    log_softmax_,
    row_products,
)
from distill.losses.terms import LossTerms

Divergence = Callable[[Tensor, Tensor], tuple[Tensor, Callable[[], Tensor]]]
"""(log q, log p), [rows, vocabulary] each -> values [rows], and what forms the gradient on the student's logits in the
memory of log q. Both tensors are used up."""


def divergence_loss(
    states: States,
    teacher: States | CandidateSets,
    divergence: str,
    weight: float | None = None,
    detach_mixture: bool = False,
    temperature: float = 1.0,
    state_weights: Tensor | None = None,
) -> LossTerms:
    """Sum a divergence over states; no gradient to the teacher, no logits beyond a chunk of either model.

    A live teacher allows all of them. Its stored candidate sets allow none exactly, since each needs p at every token,
    but for the teacher cut to its sets and renormalised, as in `set_nll`, all are exact that stay finite where p is 0:
    forward_kl, skew_kl, total_variation, jsd below weight 1, skew_reverse_kl above weight 0. The others, reverse_kl
    among them, are refused unless the sets hold all tokens.

    Args:
        states: the student's, [N].
        teacher: the teacher's states at the same tokens, or its sets there.
        divergence: a name of the table above.
        weight: b, a or m in [0, 1] where the name has one, else None.
        detach_mixture: no gradient through q inside the mixture, as DistiLLM-2's code has it; skew_reverse_kl only.
        temperature: divides the logits of both; the loss is not multiplied by its square.
        state_weights: factor of each state, [N], for example 1 / length for means by sequence, as in DistiLLM-2; the
            weight of the terms is their sum. None: 1 each.

    Raises:
        ConfigError: an unknown name; a weight, a temperature, detach_mixture or sets that do not fit it.
        DataError: states of the two models, sets, or weights, differ in number or vocabulary.
    """
    function = named_divergence(divergence, weight, detach_mixture)
    logits_pair = _Logits(states, teacher, temperature, (divergence, weight))
    if state_weights is None:
        state_weights = states.hidden.new_ones(len(states), dtype=logits_pair.dtype)
    elif state_weights.shape != (len(states),):
        raise DataError(
            f"state_weights: expected one for each of {len(states)} states, found {list(state_weights.shape)}; give [N]"
        )

    def objective(logits: Tensor, rows: slice, differentiate: bool) -> Tensor:
        values, gradient = function(*logits_pair(logits, rows))
        if differentiate:
            gradient().mul_((state_weights[rows] / temperature)[:, None])
        return (values * state_weights[rows]).sum()

    total = chunked_loss(states, objective)
    return LossTerms(total, state_weights.sum().to(total.dtype), {divergence: total.detach()})


@torch.no_grad()
def state_divergences(
    states: States,
    teacher: States | CandidateSets,
    divergence: str,
    weight: float | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """Return a divergence at each state, [N], in nats, without gradient; arguments and errors of `divergence_loss`."""
    function, logits = named_divergence(divergence, weight), ChunkLogits(states)
    logits_pair = _Logits(states, teacher, temperature, (divergence, weight))
    return torch.cat([function(*logits_pair(logits[chunk], chunk))[0] for chunk in states.chunks()])


def named_divergence(name: str, weight: float | None = None, detach_mixture: bool = False) -> Divergence:
    """Return the function of a divergence on a chunk's log-probabilities; raises ConfigError as `divergence_loss`."""
    if name not in _WEIGHTED and name not in _UNWEIGHTED:
        known = ", ".join(sorted([*_WEIGHTED, *_UNWEIGHTED]))
        raise ConfigError(f"divergence: expected one of {known}, found {name!r}; set divergence accordingly")
    if detach_mixture and name != "skew_reverse_kl":
        raise ConfigError(f"detach_mixture: expected skew_reverse_kl with it, found {name}; set detach_mixture false")
    if name in _UNWEIGHTED:
        if weight is not None:
            raise ConfigError(f"weight: expected none with {name}, which has no mixture, found {weight}; leave it out")
        return _UNWEIGHTED[name]
    if weight is None or not 0 <= weight <= 1:
        raise ConfigError(f"weight: expected a number in [0, 1] with {name}, found {weight}; set weight accordingly")
    if detach_mixture:
        return lambda log_q, log_p: _skew_reverse_kl(log_q, log_p, weight, True)
    return lambda log_q, log_p: _WEIGHTED[name](log_q, log_p, weight)


class _Logits:
    """Turns a chunk of the student's logits, in place, and the teacher's there into log-probabilities."""

    def __init__(
        self,
        states: States,
        teacher: States | CandidateSets,
        temperature: float,
        divergence: tuple[str, float | None],
    ):
        if not temperature > 0:
            raise ConfigError(f"temperature: expected a number above 0, found {temperature}; set it accordingly")
        self._teacher: ChunkLogits | CandidateSets
        if isinstance(teacher, States):
            check_shared_vocabulary(states, teacher)
            self._teacher = ChunkLogits(teacher, states.chunks())
        else:
            check_sets(states, teacher)
            self._teacher = teacher
            if teacher.p < 1 and (divergence in _INFINITE or divergence[0] == "remainder_kl"):
                raise ConfigError(
                    f"divergence: expected one that is right where the teacher's sets end, found {divergence[0]} of "
                    f"weight {divergence[1]}; take a live teacher or another divergence"
                )
        self._temperature = temperature
        self.dtype = torch.promote_types(states.hidden.dtype, torch.float32)

    def __call__(self, logits: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        other = self._teacher[rows]
        if not isinstance(other, Tensor):
            places, scores = (other.rows, other.ids.long()), other.probs.log().to(logits.dtype)
            other = torch.full_like(logits, _NEVER).index_put_(places, scores)
        if self._temperature != 1:
            logits, other = logits.div_(self._temperature), other.div_(self._temperature)
        return log_softmax_(logits), log_softmax_(other).to(logits.dtype)


_NEVER = -1e30  # the logit of a token of no probability: finite, since 0 times it is 0
_INFINITE = {("reverse_kl", None), ("jsd", 1), ("skew_reverse_kl", 0)}


def _forward_kl(log_q: Tensor, log_p: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
    p = log_p.exp()
    return row_products(p, log_p.sub_(log_q)), lambda: log_q.exp_().sub_(p)


def _reverse_kl(log_q: Tensor, log_p: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
    slope = log_p.neg_().add_(log_q)
    q = log_q.exp_()
    return row_products(q, slope), lambda: slopes_on_logits(q, slope)


def _total_variation(log_q: Tensor, log_p: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
    q = log_q.exp_()
    distance = log_p.exp_().neg_().add_(q)
    return distance.abs().sum(-1) / 2, lambda: slopes_on_logits(q, distance.sign_().div_(2))


def _jsd(log_q: Tensor, log_p: Tensor, b: float) -> tuple[Tensor, Callable[[], Tensor]]:
    if b in (0, 1):
        return (_reverse_kl if b else _forward_kl)(log_q, log_p)
    log_m = _mixture(log_p, b, log_q)
    of_teacher = row_products(log_p.exp(), log_p.sub_(log_m))
    slope = log_m.neg_().add_(log_q)
    q = log_q.exp_()
    # The terms of q inside the two mixtures cancel.
    return b * of_teacher + (1 - b) * row_products(q, slope), lambda: slopes_on_logits(q, slope.mul_(1 - b))


def _skew_kl(log_q: Tensor, log_p: Tensor, a: float) -> tuple[Tensor, Callable[[], Tensor]]:
    log_m = _mixture(log_p, a, log_q)
    p, score = log_p.exp(), log_p.sub_(log_m)

    def gradient() -> Tensor:
        pull = torch.add(score, log_q, out=p).exp_().mul_(1 - a)  # (1 - a) q p / m, at most p
        return log_q.exp_().mul_(pull.sum(-1, keepdim=True)).sub_(pull)

    return row_products(p, score), gradient


def _skew_reverse_kl(
    log_q: Tensor, log_p: Tensor, a: float, detach_mixture: bool = False
) -> tuple[Tensor, Callable[[], Tensor]]:
    slope = _mixture(log_p, 1 - a, log_q).neg_().add_(log_q)
    q = log_q.exp_()

    def gradient() -> Tensor:
        return slopes_on_logits(q, slope if detach_mixture else slope.sub_((slope + _log(a)).exp_()))

    return row_products(q, slope), gradient


def _remainder_kl(log_q: Tensor, log_p: Tensor, mass: float) -> tuple[Tensor, Callable[[], Tensor]]:
    p = log_p.exp()
    inside = top_p_sets(p, mass).to_mask(p.shape[-1])
    (rest_q, log_rest_q), (rest_p, log_rest_p) = (_outside(own, inside) for own in (log_q, log_p))
    p.masked_fill_(~inside, 0)
    # Where nothing is outside, neither model has a rest.
    values = row_products(p, log_p - log_q) + (rest_p * (log_rest_p - log_rest_q)).nan_to_num(0)

    def gradient() -> Tensor:
        share = (rest_p / rest_q).nan_to_num(0)[:, None]  # of p's rest, by what q gives to each token of it
        q = log_q.exp_()
        return q.mul_(torch.where(inside, 1.0, 1 - share)).sub_(p)

    return values, gradient


def _outside(log_probs: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mass outside of sets, and its logarithm."""
    log_rest = log_probs.masked_fill(inside, -math.inf).logsumexp(-1)
    return log_rest.exp(), log_rest


_WEIGHTED = {
    "jsd": _jsd,
    "skew_kl": _skew_kl,
    "skew_reverse_kl": _skew_reverse_kl,
    "remainder_kl": _remainder_kl,
}
_UNWEIGHTED = {"forward_kl": _forward_kl, "reverse_kl": _reverse_kl, "total_variation": _total_variation}


def _mixture(log_p: Tensor, share: float, log_q: Tensor) -> Tensor:
    """Return log(share p + (1 - share) q)."""
    of_teacher = log_p + _log(share)
    return torch.logaddexp(of_teacher, log_q + _log(1 - share), out=of_teacher)


def _log(share: float) -> float:
    return math.log(share) if share > 0 else -math.inf


def slopes_on_logits(q: Tensor, slope: Tensor) -> Tensor:
    """Bring slopes d/dq to the logits, q (slope - sum q slope), in the memory of q."""
    return q.mul_(slope.sub_(row_products(q, slope)[:, None]))
