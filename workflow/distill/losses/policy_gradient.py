"""Pieces of MiniLLM's objective: reverse KL of whole responses by policy gradient, plus its exact one-step part.

q is the student, p the teacher. Log-probabilities are those of the response tokens, temperature 1.
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from distill.losses.terms import LossTerms, upcast

_ROWS_AT_ONCE = 256
_WHITENING_EPSILON = 1e-8


def token_log_probs(logits: Tensor, tokens: Tensor) -> Tensor:
    """Returns log softmax(logits)[token] by row; logits [N, vocab], tokens int64 [N]."""
    return -cross_entropy(upcast(logits), tokens, reduction="none")


def importance_weights(student: Tensor, teacher: Tensor, teacher_mix: float) -> Tensor:
    """Returns w = q / ((1 - a) q + a p), the weight of tokens drawn from the mixture with a = teacher_mix.

    `student`, `teacher`: log q and log p, any one shape. Each w is at most 1 / (1 - a); a = 0 gives 1.
    """
    log_q_share, log_p_share = student.new_tensor([1 - teacher_mix, teacher_mix]).log()
    return (student - torch.logaddexp(student + log_q_share, teacher + log_p_share)).exp()


def token_rewards(student: Tensor, teacher: Tensor, scaling: float, clip: float) -> Tensor:
    """Returns r = (log p - log q) / scaling, clipped to [-clip, clip]; scaling 0.5 doubles it."""
    return ((teacher - student) / scaling).clamp(-clip, clip)


def future_rewards(rewards: Tensor, lengths: Tensor, discount: float, current_token: bool) -> Tensor:
    """Returns the discounted sum of the rewards to come over their number, [B, W], 0 on padding.

    Args:
        rewards: [B, W], 0 on padding.
        lengths: int64 [B], tokens of each response.
        discount: factor a token; 1 for none.
        current_token: start at the token itself (released code), or at the next one (paper: R_{t+1}, which is 0 at the
            last token).
    """
    sums = [torch.zeros_like(rewards[:, 0])]
    for reward in rewards.unbind(1)[::-1]:
        sums.append(reward + discount * sums[-1])
    remaining = lengths[:, None] - torch.arange(rewards.shape[1] + 1, device=rewards.device)
    future = torch.stack(sums[::-1], dim=1) / remaining.clamp(min=1)
    return future[:, :-1] if current_token else future[:, 1:]


def whiten(values: Tensor) -> Tensor:
    """Returns values with mean 0 and variance 1 over all entries; the zeros of padding count, as in the released code.

    The more padding, the larger the result: pad to the longest response allowed, whatever the longest one is.
    """
    centred = values - values.mean()
    return centred * (centred.square().mean() + _WHITENING_EPSILON).rsqrt()


def policy_loss(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, weights: Tensor, clip: float
) -> LossTerms:
    """Sum max(-A rho, -A clip(rho, 1 - c, 1 + c)) over tokens, rho = w q / q_old: w is inside what is clipped.

    Args:
        log_probs: log q of the tokens, [N]; carries the gradient.
        old_log_probs: log q of the student that sampled them, [N].
        advantages: A, [N].
        weights: importance weights w, [N].
        clip: c, the largest distance of rho from 1 (0.2).
    """
    ratio = (log_probs - old_log_probs).exp() * weights
    free, clipped = -advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip)
    total = torch.maximum(free, clipped).sum()
    count = total.detach().new_tensor(len(log_probs))
    metrics = {
        "clipped": ((clipped > free).sum(), count),
        "ratio": (ratio.detach().sum(), count),
        "importance_weight": (weights.sum(), count),
    }
    return LossTerms(total, count, {"surrogate": total.detach()}, metrics)


class _ReverseKl(torch.autograd.Function):
    """KL(q || p) by row with its gradient q (log q - log p - KL), formed a few rows at a time to bound memory."""

    @staticmethod
    def forward(ctx, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        gradient, rows = torch.empty_like(student_logits), []
        for start in range(0, len(student_logits), _ROWS_AT_ONCE):
            chunk = slice(start, start + _ROWS_AT_ONCE)
            log_q, log_p = (upcast(logits[chunk]).log_softmax(-1) for logits in (student_logits, teacher_logits))
            q, difference = log_q.exp(), log_q - log_p
            rows.append((q * difference).sum(-1))
            gradient[chunk] = q * (difference - rows[-1][:, None])
        ctx.save_for_backward(gradient)
        return torch.cat(rows)

    @staticmethod
    def backward(ctx, outer: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer[:, None].to(gradient.dtype), None


def reverse_kl(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Returns KL(q || p) over the whole vocabulary by row, [N], in nats; logits [N, vocab].

    The gradient goes through every q(v), and none to the teacher.
    """
    return _ReverseKl.apply(student_logits, teacher_logits)


def single_step_loss(student_logits: Tensor, teacher_logits: Tensor) -> LossTerms:
    """Sum KL(q || p) over visited states: the part of the gradient that acts through the next token, without sampling.

    Arguments as in `reverse_kl`.
    """
    total = reverse_kl(student_logits, teacher_logits).sum()
    return LossTerms(total, total.detach().new_tensor(len(student_logits)), {"reverse_kl": total.detach()})
