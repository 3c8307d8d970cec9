"""Next-token cross entropy: with the tokens (SFT), or mixed with the teacher's distribution (KD, plain text)."""

from torch import Tensor
from torch.nn.functional import cross_entropy

from distill.errors import ConfigError, DataError
from distill.losses.terms import LossTerms, upcast


def token_nll(logits: Tensor, targets: Tensor) -> LossTerms:
    """Sum -log softmax(logits)[target] over positions; logits [positions, vocab], targets int64 [positions]."""
    total = cross_entropy(upcast(logits), targets, reduction="sum")
    return LossTerms(total, total.new_tensor(len(targets)), {"ce": total.detach()})


def distilled_nll(
    logits: Tensor, targets: Tensor, teacher_logits: Tensor | None = None, kd_ratio: float = 0.0
) -> LossTerms:
    """Sum (1 - r) CE(target) + r CE(teacher probabilities) over positions, r = kd_ratio (KD; BD's L_PT).

    Full softmax of raw logits, [positions, vocab], temperature 1, float32; no gradient to the teacher. r = 0 needs no
    teacher; published scripts use 0.5. Parts: ce and kd, each with its factor. Raises ConfigError where r is outside
    [0, 1] or lacks its teacher, DataError where the two models' logits differ in shape.
    """
    if not 0 <= kd_ratio <= 1:
        raise ConfigError(f"kd_ratio: expected a number in [0, 1], found {kd_ratio!r}; set kd_ratio accordingly")
    nll = token_nll(logits, targets)
    if kd_ratio == 0:
        return nll
    if teacher_logits is None:
        raise ConfigError(
            f"kd_ratio: expected teacher logits with {kd_ratio}, found none; give a teacher or set kd_ratio 0"
        )
    if teacher_logits.shape != logits.shape:
        raise DataError(
            f"teacher logits: expected the student's shape {list(logits.shape)}, found {list(teacher_logits.shape)}; "
            "cut both models' logits to their shared vocabulary"
        )
    teacher = upcast(teacher_logits.detach()).softmax(-1)
    ce, kd = (1 - kd_ratio) * nll.total, kd_ratio * cross_entropy(upcast(logits), teacher, reduction="sum")
    return LossTerms(ce + kd, nll.weight, {"ce": ce.detach(), "kd": kd.detach()})
