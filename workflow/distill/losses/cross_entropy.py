"""Next-token cross entropy: with the tokens (SFT), or mixed with the teacher's distribution (KD, plain text)."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from distill.errors import ConfigError
from distill.losses.log_probs import softmax_log_probs
from distill.losses.states import (
    ChunkLogits,
    States,
    check_sets,
    check_shared_vocabulary,
    chunked_loss,
    row_products,
    softmax_,
)
from distill.losses.terms import LossTerms

if TYPE_CHECKING:
    from distill.losses.candidate_sets import CandidateSets


def token_nll(states: States, targets: Tensor) -> LossTerms:
    """Sum -log softmax(logits)[target] over states; targets int64 [N]."""

    def objective(logits: Tensor, rows: slice, differentiate: bool) -> Tensor:
        log_probs, share = softmax_log_probs(logits, targets[rows])
        if differentiate:
            _subtract_at(share, targets[rows], 1.0)
        return -log_probs.sum()

    total = chunked_loss(states, objective)
    return LossTerms(total, total.new_tensor(len(targets)), {"ce": total.detach()})


def distilled_nll(states: States, targets: Tensor, teacher: States | None = None, kd_ratio: float = 0.0) -> LossTerms:
    """Sum (1 - r) CE(target) + r CE(teacher probabilities) over states, r = kd_ratio (KD; BD's L_PT).

    Full softmax at temperature 1, float32; no gradient to the teacher. r = 0 needs no teacher; published scripts use
    0.5. Parts: ce and kd, each with its factor. Raises ConfigError where r is outside [0, 1] or lacks its teacher,
    DataError where the two models' states differ in number or vocabulary.
    """
    _check_ratio(kd_ratio)
    if kd_ratio == 0:
        return token_nll(states, targets)
    if teacher is None:
        raise ConfigError(
            f"kd_ratio: expected teacher states with {kd_ratio}, found none; give a teacher or set kd_ratio 0"
        )
    check_shared_vocabulary(states, teacher)
    teacher_logits = ChunkLogits(teacher, states.chunks())

    def aim_at(logits: Tensor, rows: slice) -> tuple[Tensor, _Subtract]:
        aim = softmax_(teacher_logits[rows])
        return row_products(aim, logits), lambda share: share.sub_(aim, alpha=kd_ratio)

    return _mixed_nll(states, targets, kd_ratio, aim_at)


def set_nll(states: States, targets: Tensor, sets: "CandidateSets", kd_ratio: float) -> LossTerms:
    """Sum (1 - r) CE(target) + r CE(teacher probabilities renormalised on its sets) over states, r = kd_ratio.

    The student's softmax is over the whole vocabulary, so that what it gives to tokens outside a set is lost.
    `sets`: one a state, on the same device. Else as `distilled_nll`, which it equals at p = 1. Raises ConfigError where
    r is outside [0, 1], DataError where sets and states differ in number.
    """
    _check_ratio(kd_ratio)
    check_sets(states, sets)

    def aim_at(logits: Tensor, rows: slice) -> tuple[Tensor, _Subtract]:
        own = sets[rows]
        row, token = own.rows, own.ids.long()
        aim = (own.probs / own.mass[row]).to(logits.dtype)
        mean = logits.new_zeros(len(own)).index_add(0, row, aim * logits[row, token])
        return mean, lambda share: share.index_put_((row, token), share[row, token] - kd_ratio * aim)

    return _mixed_nll(states, targets, kd_ratio, aim_at)


_Subtract = Callable[[Tensor], object]
"""Subtracts r times the teacher's probabilities in place."""


def _check_ratio(kd_ratio: float) -> None:
    if not 0 <= kd_ratio <= 1:
        raise ConfigError(f"kd_ratio: expected a number in [0, 1], found {kd_ratio!r}; set kd_ratio accordingly")


def _mixed_nll(
    states: States, targets: Tensor, kd_ratio: float, aim_at: Callable[[Tensor, slice], tuple[Tensor, _Subtract]]
) -> LossTerms:
    """`aim_at`: (logits, rows) -> mean logit under the teacher, [rows], and what makes a softmax the gradient."""
    sums = dict.fromkeys(("ce", "kd"), states.hidden.new_zeros(()))

    def objective(logits: Tensor, rows: slice, differentiate: bool) -> Tensor:
        own = targets[rows]
        mean, subtract = aim_at(logits, rows)
        score = mean - logits.gather(1, own[:, None]).squeeze(1)  # of the teacher over the target
        log_probs, share = softmax_log_probs(logits, own)
        ce, kd = (kd_ratio - 1) * log_probs.sum(), -kd_ratio * (log_probs + score).sum()
        sums["ce"], sums["kd"] = sums["ce"] + ce, sums["kd"] + kd
        if differentiate:
            subtract(share)
            _subtract_at(share, own, 1 - kd_ratio)
        return ce + kd

    total = chunked_loss(states, objective)
    return LossTerms(total, total.new_tensor(len(targets)), sums)


def _subtract_at(values: Tensor, tokens: Tensor, amount: float) -> None:
    values.scatter_add_(1, tokens[:, None], values.new_full((len(tokens), 1), -amount))
