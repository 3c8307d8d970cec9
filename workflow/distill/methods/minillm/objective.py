"""Pieces of MiniLLM's objective: reverse KL of whole responses by policy gradient, plus its exact one-step part.

q is the student, p the teacher. Log-probabilities are those of the response tokens, temperature 1.
"""

import torch
from torch import Tensor

from distill.losses.divergences import state_divergences
from distill.losses.policy_gradient import Surrogate, on_policy_loss
from distill.losses.states import States
from distill.losses.terms import LossTerms

_WHITENING_EPSILON = 1e-8


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
    states: States,
    tokens: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    weights: Tensor,
    clip: float,
    teacher: States | None = None,
) -> LossTerms:
    """Sum max(-A rho, -A clip(rho, 1 - c, 1 + c)) over tokens, rho = w q / q_old: w is inside what is clipped.

    With a teacher the exact one-step part is added: KL(q || p) over the whole vocabulary at each visited state, which
    is the part of the gradient that acts through the next token, without sampling. It goes through every q(v).

    Args:
        states: the student's, [N].
        tokens: what was sampled there, int64 [N].
        old_log_probs: log q of the student that sampled them, [N].
        advantages: A, [N].
        weights: importance weights w, [N].
        clip: c, the largest distance of rho from 1 (0.2).
        teacher: the teacher's states, for the one-step part; None leaves it out.

    Raises:
        DataError: the two models' states differ in number or vocabulary.
    """
    return on_policy_loss(states, tokens, Surrogate(old_log_probs, advantages, clip, weights), teacher=teacher)


def reverse_kl(states: States, teacher: States) -> Tensor:
    """Returns KL(q || p) over the whole vocabulary at each state, [N], in nats. Without gradient."""
    return state_divergences(states, teacher, "reverse_kl")
