"""Policy-gradient losses along sampled responses: clipped surrogate, entropy bonus and what a teacher adds.

q is the student now, q_old the one that sampled the tokens. Sums over response tokens, EOS included.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from distill.losses.divergences import named_divergence
from distill.losses.guidance import Guidance
from distill.losses.log_probs import ChunkPolicy
from distill.losses.states import ChunkLogits, States, check_shared_vocabulary, chunked_loss, log_softmax_
from distill.losses.terms import LossTerms, join_terms

_STD_EPSILON = 1e-6


@dataclass(frozen=True)
class Surrogate:
    """The part max(-A rho, -A clip(rho, 1 - c, 1 + c)), rho = w q / q_old: w is inside what is clipped.

    `old_log_probs`: log q_old of the sampled tokens, [N]. `advantages`: A, [N]. `clip`: c, the largest distance of rho
    from 1. `weights`: importance weights w, [N]; None: 1 each.
    """

    old_log_probs: Tensor
    advantages: Tensor
    clip: float
    weights: Tensor | None = None

    def values(self, log_probs: Tensor, rows: slice) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the part at some states, [rows], given log q of their tokens, and metrics, [rows] each."""
        ratio, advantages = (log_probs - self.old_log_probs[rows]).exp(), self.advantages[rows]
        if self.weights is not None:
            ratio = ratio * self.weights[rows]
        free, clipped = -advantages * ratio, -advantages * ratio.clamp(1 - self.clip, 1 + self.clip)
        metrics = {"clipped": clipped > free, "ratio": ratio.detach()}
        if self.weights is not None:
            metrics["importance_weight"] = self.weights[rows]
        return torch.maximum(free, clipped), metrics


def on_policy_loss(
    states: States,
    tokens: Tensor,
    surrogate: Surrogate | None,
    guidance: Guidance | None = None,
    entropy_weight: float = 0.0,
    teacher: States | None = None,
) -> LossTerms:
    """Sum surrogate + w guidance - c entropy + KL(q || p) over the states of sampled tokens, in one pass over chunks.

    Parts: surrogate, guidance and entropy_bonus with their factors, reverse_kl. Metrics: guidance_value and entropy
    without factors, clipped, ratio, importance_weight. The weight is the number of tokens.

    Args:
        states: the student's, [N].
        tokens: what was sampled there, int64 [N].
        surrogate: the policy gradient; None leaves it out.
        guidance: a term on given tokens with its weight; None leaves it out.
        entropy_weight: c; 0 forms no entropy.
        teacher: states of a live teacher, for KL(q || p) over the whole vocabulary at each state: the exact part of
            the gradient of a sequence's reverse KL that acts through the next token. None leaves it out.

    Raises:
        DataError: the two models' states differ in number or vocabulary.
    """
    if teacher is not None:
        check_shared_vocabulary(states, teacher)
        teacher_logits, reverse_kl = ChunkLogits(teacher, states.chunks()), named_divergence("reverse_kl")
    named = tokens[:, None] if guidance is None else torch.cat([tokens[:, None], guidance.tokens], 1)
    collected: list[LossTerms] = []

    def objective(logits: Tensor, rows: slice, differentiate: bool) -> Tensor:
        by_tokens, others, values = {}, {}, {}
        if teacher is not None:
            divergences, to_logits = reverse_kl(logits.log_softmax(-1), log_softmax_(teacher_logits[rows]))
            others["reverse_kl"] = divergences.sum()
        policy = ChunkPolicy(logits, named[rows], entropy_weight != 0)
        if entropy_weight:
            values["entropy"] = policy.entropy
            others["entropy_bonus"] = -entropy_weight * policy.entropy.sum()
        log_probs = policy.log_probs.requires_grad_(differentiate)
        with torch.set_grad_enabled(differentiate):
            if surrogate is not None:
                own, watched = surrogate.values(log_probs[:, 0], rows)
                by_tokens["surrogate"], values = own.sum(), values | watched
            if guidance is not None:
                values["guidance_value"] = guidance.values(log_probs[:, 1:], rows)
                by_tokens["guidance"] = guidance.weight * values["guidance_value"].sum()
        if differentiate:
            sums = [*by_tokens.values()]
            to_log_probs = torch.autograd.grad(sums, log_probs)[0] if sums else torch.zeros_like(log_probs)
            policy.pull_back(
                to_log_probs, -entropy_weight * torch.ones_like(policy.entropy) if entropy_weight else None
            )
            if teacher is not None:
                logits.add_(to_logits())
        count = log_probs.new_tensor(len(log_probs)).detach()
        parts = {name: part.detach() for name, part in (by_tokens | others).items()}
        metrics = {name: (own.detach().sum(), count) for name, own in values.items()}
        collected.append(LossTerms(sum(parts.values(), torch.zeros_like(count)), count, parts, metrics))
        return collected[-1].total

    return join_terms(chunked_loss(states, objective), collected)


def group_advantages(rewards: Tensor, groups: Tensor, use_std: bool = True) -> Tensor:
    """Return (R - mean) / (std + 1e-6) within each response's group, [B]; std with n - 1.

    `rewards`: [B]. `groups`: int64 [B], equal for the responses to one prompt. A group of one keeps its reward, one of
    equal rewards gets 0. `use_std` False leaves out the division.
    """
    _, group, sizes = groups.unique(return_inverse=True, return_counts=True)
    zeros = rewards.new_zeros(len(sizes))
    centred = rewards - (zeros.index_add(0, group, rewards) / sizes)[group]
    advantages = centred
    if use_std:
        variance = zeros.index_add(0, group, centred.square()) / (sizes - 1).clamp(min=1)
        advantages = centred / (variance.sqrt()[group] + _STD_EPSILON)
    return torch.where(sizes[group] == 1, rewards, advantages)
