"""Losses on pairs of responses to one prompt, of which one is preferred: DPO, TVKD, DCKD, ADPA.

q is the student, p the teacher (trained by DPO), r the student before this stage. Responses lie end to end, chosen and
rejected in turn, B of them for B / 2 pairs; `lengths` int64 [B] counts their tokens, EOS included. State s_t precedes
token a_t; s_n, after the last token, is not among the N states.

Of TVKD's paper only the abstract was at hand. `shaping_sums` is our reconstruction from secondary sources: its sign,
weight, discount, the value at the end and whether Q is raw or normalised are our choices. What is called released was
read in the authors' code.
"""

import torch
from torch import Tensor

from distill.errors import ConfigError, DataError
from distill.losses.divergences import divergence_loss, slopes_on_logits
from distill.losses.states import (
    ChunkLogits,
    States,
    check_shared_vocabulary,
    chunked_loss,
    log_softmax_,
    row_products,
    softmax_,
)
from distill.losses.terms import LossTerms

_CLAMP = 1e-8


def preference_loss(rewards: Tensor) -> LossTerms:
    """Sum log(1 + exp(-(R_chosen - R_rejected))) over pairs; the weight is their number.

    `rewards`: [B], differentiable. Metrics: accuracy (margin above 0) and margin.
    """
    chosen, rejected = _pairs(rewards).unbind(1)
    margins = chosen - rejected
    total, count = torch.nn.functional.softplus(-margins).sum(), rewards.new_tensor(len(margins)).detach()
    metrics = {"accuracy": ((margins > 0).sum(), count), "margin": (margins.detach().sum(), count)}
    return LossTerms(total, count, {"preference": total.detach()}, metrics)


def dpo_rewards(
    log_probs: Tensor, reference: Tensor, lengths: Tensor, beta: float, offsets: Tensor | None = None
) -> Tensor:
    """Return beta (l_q - l_r) + offset of each response, [B]; l sums the log-probabilities of its tokens.

    Args:
        log_probs: log q of the tokens, [N] (`token_log_probs`), differentiable.
        reference: log r of the tokens, [N].
        lengths: int64 [B].
        beta: 0.1, or 0.01 in the released recipe of the teacher.
        offsets: [B], without gradient; lambda times `shaping_sums` makes DPO TVKD. They shift margins, and so only
            change the weights of pairs.
    """
    rewards = beta * sequence_sums(log_probs - reference, lengths)
    return rewards if offsets is None else rewards + offsets


@torch.no_grad()
def soft_values(states: States, exponent: float, scale: float = 1.0) -> Tensor:
    """Return V(s) = scale log sum_a p(a | s)^exponent at each state, [N], without gradient.

    Its form with a temperature b is exponent 1 / b, scale b. At exponent 1 it is 0 everywhere: normalised
    log-probabilities know no value. The released code has exponent 0.7, scale 1.
    """
    logits = ChunkLogits(states)
    return scale * torch.cat([log_softmax_(logits[chunk]).mul_(exponent).logsumexp(-1) for chunk in states.chunks()])


def shaping_sums(values: Tensor, lengths: Tensor, discount: float, final: Tensor | None = None) -> Tensor:
    """Return sum_t discount V(s_{t+1}) - V(s_t) of each response, [B]: the potential-based form, our reconstruction.

    With discount 1 and no final value only -V(s_0) is left, which cancels in a pair: DPO. Else a constant k added to
    V shifts a margin by -(1 - discount) k (n_chosen - n_rejected), as the sum grows with length. The released code's
    `tpkd_ref` leaves out V(s_0), which a pair shares, and so has the same margins with lambda 1.

    Args:
        values: V(s_0) .. V(s_{n-1}) of each response, end to end, [N].
        lengths: int64 [B].
        discount: gamma.
        final: V(s_n), [B]; None: 0.
    """
    return sequence_sums(discount * next_values(values, lengths, final) - values, lengths)


def released_rewards(
    log_probs: Tensor, values: Tensor, lengths: Tensor, discount: float = 1.0, invariant: bool = False
) -> Tensor:
    """Return sum_t log q(a_t) - discount V(s_{t+1}), [B], as the released code has it instead; V(s_n) is 0.

    `log_probs`: log q of the tokens, [N], or of their buckets (`bucket_of_tokens`). `values`: [N]; they may carry a
    gradient. `invariant` adds V(s_t) to each ("PI"). With `bucket_values` of the teacher it is `repo_sum`, of both
    models `repo_joint`, with the student's `bucket_entropy` the shipped recipe.
    """
    rewards = log_probs - discount * next_values(values, lengths)
    return sequence_sums(rewards + values if invariant else rewards, lengths)


def bucket_values(
    teacher: Tensor, exponent: float, student: Tensor | None = None, student_exponent: float = 0.0
) -> Tensor:
    """Return log sum_b p_b^exponent q_b^student_exponent over buckets, [N].

    `teacher`, `student`: log-probabilities of the same buckets, [N, buckets] (`bucket_log_probs`); the gradient goes
    through the student's.
    """
    scores = exponent * teacher
    return (scores if student is None else scores + student_exponent * student).logsumexp(-1)


def bucket_entropy(log_probs: Tensor) -> Tensor:
    """Return the entropy over buckets, [N], from their log-probabilities, [N, buckets]."""
    return -(log_probs.exp() * log_probs).sum(-1)


def bucket_of_tokens(log_probs: Tensor, ids: Tensor, tokens: Tensor) -> Tensor:
    """Return the log-probability of the bucket that holds each token, [N]; the last one where none names it.

    `log_probs`: [N, buckets]. `ids`: int64 [N, k], the tokens with a bucket of their own. `tokens`: int64 [N].
    """
    named = ids == tokens[:, None]
    place = torch.where(named.any(-1), named.int().argmax(-1), log_probs.shape[1] - 1)
    return log_probs.gather(1, place[:, None]).squeeze(1)


def control_offsets(offsets: Tensor, control: str, seed: int) -> Tensor:
    """Return offsets that know nothing of their own pair, [B]: `shuffled` among pairs, or `constant`, their mean.

    Chosen stay with rejected, so that offsets of margins have the same distribution, or the same mean. Raises
    ConfigError for another control.
    """
    pairs = _pairs(offsets)
    if control == "constant":
        return pairs.mean(0).expand_as(pairs).flatten()
    if control != "shuffled":
        raise ConfigError(f"control: expected shuffled or constant, found {control!r}; set control accordingly")
    return pairs[torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed))].flatten()


def pair_kl(states: States, teacher: States, lengths: Tensor) -> tuple[LossTerms, LossTerms]:
    """Sum KL(p || q) over the tokens of chosen and of rejected responses, each with its own weight (DCKD).

    Weighed 0.1 and 0 it is the plain KD released with TVKD.
    """
    rows = torch.arange(2, device=lengths.device).repeat(len(_pairs(lengths))).repeat_interleave(lengths)
    sides = (rows == side for side in (0, 1))
    chosen, rejected = (divergence_loss(states[side], teacher[side], "forward_kl") for side in sides)
    return chosen, rejected


def advantage_loss(states: States, teacher: States, reference: States, clamp: bool = False) -> LossTerms:
    """Sum -sum_a q(a | s) A(a | s), A = log p - log p_reference of two teachers, over states (ADPA).

    The states are those of rejected responses, which ADPA samples from the student. `clamp`: A cut to
    [1e-8, 1 - 1e-8], as in the released code, where what is negative vanishes; ours keeps the sign. No gradient to
    the teachers. Raises DataError where the models' states differ in number or vocabulary.
    """
    check_shared_vocabulary(states, teacher)
    check_shared_vocabulary(states, reference)
    models = [ChunkLogits(own, states.chunks()) for own in (teacher, reference)]

    def objective(logits: Tensor, rows: slice, differentiate: bool) -> Tensor:
        log_p, log_reference = (log_softmax_(own[rows]) for own in models)
        slopes = log_reference.sub_(log_p)
        if clamp:
            slopes.clamp_(_CLAMP - 1, -_CLAMP)
        q = softmax_(logits)
        total = row_products(q, slopes).sum()
        if differentiate:
            slopes_on_logits(q, slopes)
        return total

    total = chunked_loss(states, objective)
    return LossTerms(total, total.new_tensor(len(states)), {"advantage": total.detach()})


def sequence_sums(values: Tensor, lengths: Tensor) -> Tensor:
    """Sum the values of each response, [N] -> [B]."""
    return torch.stack([own.sum() for own in values.split(lengths.tolist())])


def next_values(values: Tensor, lengths: Tensor, final: Tensor | None = None) -> Tensor:
    """Return V(s_{t+1}) where `values` has V(s_t), [N]; at each response's end `final`, [B], or 0."""
    ends = lengths.cumsum(0) - 1
    return values.roll(-1).index_put((ends,), values.new_zeros(len(ends)) if final is None else final.to(values.dtype))


def _pairs(responses: Tensor) -> Tensor:
    if len(responses) % 2:
        raise DataError(f"pairs: expected chosen and rejected in turn, found {len(responses)} responses; give both")
    return responses.unflatten(0, (-1, 2))
