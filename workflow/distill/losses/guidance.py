"""What a teacher adds at the states of sampled responses: guidance terms of a loss, and advantages.

q is the student, p the teacher at the student's prefixes, both at temperature 1. Forms and defaults are those of the
code released with TGPO, which also holds its comparisons RKL and KDRL; the paper's text beyond the abstract was not at
hand.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from distill.errors import ConfigError, DataError
from distill.losses.log_probs import softmax_log_probs
from distill.losses.states import ChunkLogits, States, check_shared_vocabulary


@dataclass(frozen=True)
class Guidance:
    """A term on k tokens of each of N states: what `form` makes of log q and log p there, times `weight`.

    `tokens`: int64 [N, k], fixed while q changes. `log_probs`: log p of them, [N, k].

    forward: sum p~ (log p~ - log q), p~ renormalised on the tokens, q not. TGPO's `fwd_topk`; at k = 1 it is -log q,
        and so `reg` and `mc` (`towards`).
    reverse: sum q~ (log q~ - log p~), both renormalised on the tokens. Regularised RKL, `dist`.
    k1, k2, k3: (log q - log p) log q, the first factor without gradient; (log q - log p)^2 / 2;
        p / q - 1 + log(q / p). Of one token, the sampled one. Regularised RKL; k2 is KDRL's term.

    No ratio, clip or advantage touches it. Raises ConfigError for another form, DataError where shapes do not fit.
    """

    form: str
    tokens: Tensor
    log_probs: Tensor
    weight: float

    def __post_init__(self) -> None:
        if self.form not in _FORMS:
            raise ConfigError(f"guidance: expected one of {', '.join(_FORMS)}, found {self.form!r}; set it accordingly")
        shape = self.tokens.shape
        if len(shape) != 2 or self.log_probs.shape != shape or (self.form in _OF_ONE and shape[1] != 1):
            width = "1" if self.form in _OF_ONE else "k"
            raise DataError(
                f"guidance: expected tokens and log_probs as [N, {width}] with {self.form}, found {list(shape)} and "
                f"{list(self.log_probs.shape)}; give both alike"
            )

    @classmethod
    def towards(cls, tokens: Tensor, weight: float) -> "Guidance":
        """Return the cross entropy -log q(token), int64 [N]: `reg` with the likeliest tokens of p, `mc` with draws."""
        tokens = tokens[:, None]
        return cls("forward", tokens, torch.zeros_like(tokens, dtype=torch.float32), weight)

    def values(self, log_q: Tensor, rows: slice) -> Tensor:
        """Return the term before its weight at some states, [rows], given log q of their tokens, [rows, k]."""
        return _FORMS[self.form](log_q, self.log_probs[rows].to(log_q.dtype))


def _forward(log_q: Tensor, log_p: Tensor) -> Tensor:
    log_p = log_p.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def _reverse(log_q: Tensor, log_p: Tensor) -> Tensor:
    log_q, log_p = log_q.log_softmax(-1), log_p.log_softmax(-1)
    return (log_q.exp() * (log_q - log_p)).sum(-1)


def _k1(log_q: Tensor, log_p: Tensor) -> Tensor:
    return ((log_q.detach() - log_p) * log_q).squeeze(1)


def _k2(log_q: Tensor, log_p: Tensor) -> Tensor:
    return (log_q - log_p).square().squeeze(1) / 2


def _k3(log_q: Tensor, log_p: Tensor) -> Tensor:
    score = (log_p - log_q).squeeze(1)
    return torch.expm1(score) - score


_OF_ONE = {"k1": _k1, "k2": _k2, "k3": _k3}
_FORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"forward": _forward, "reverse": _reverse, **_OF_ONE}


def guided_advantages(advantages: Tensor, old_log_probs: Tensor, weight: float) -> Tensor:
    """Return A + w q_old(u), [N], u the teacher's likeliest token: TGPO's form `adv`; `old_log_probs`: log q_old(u).

    It pays the sampled token for the probability of another one: a comparison, as its source has it.
    """
    return advantages + weight * old_log_probs.exp()


def reverse_kl_advantages(old_log_probs: Tensor, teacher: Tensor, divergence: Tensor | None = None) -> Tensor:
    """Return log p(y) - log q_old(y) of the sampled tokens, [N], as advantages (RKL): no reward, return or scaling.

    `divergence`: what `top_reverse_kl` gives, whose negative is the baseline of centred RKL; None: no baseline.
    """
    advantages = teacher - old_log_probs
    return advantages if divergence is None else advantages + divergence


@torch.no_grad()
def top_reverse_kl(states: States, teacher: States, k: int) -> Tensor:
    """Return sum q (log q - log p) over q's k likeliest tokens, [N], not renormalised; all tokens: KL(q || p).

    Without gradient, to be taken when the responses are sampled; the released code has k = 1,024.
    """
    check_shared_vocabulary(states, teacher)
    logits, teacher_logits, values = ChunkLogits(states), ChunkLogits(teacher, states.chunks()), []
    for chunk in states.chunks():
        own = logits[chunk]
        ids = own.topk(min(k, states.vocabulary)).indices
        log_q, log_p = (softmax_log_probs(each, ids)[0] for each in (own, teacher_logits[chunk]))
        values.append((log_q.exp() * (log_q - log_p)).sum(-1))
    return torch.cat(values)


def annealed_weight(step: int, start: float, decay: float, floor: float = 0.0) -> float:
    """Return the weight of the guidance in round `step` = 1, 2, ...: start, less `decay` a round, never below `floor`.

    The released code has 0.002 and 1e-5, so that guidance ends with round 200.
    """
    return max(start - decay * (step - 1), floor)
