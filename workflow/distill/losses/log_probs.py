"""Log-probabilities of given tokens at states, and what else one chunk's softmax tells; differentiable."""

from typing import NamedTuple

import torch
from torch import Tensor

from distill.losses.states import ChunkLogits, States, argmax, chunked_values, softmax_


class TokenScores(NamedTuple):
    """What a model says at N states: log-probabilities of tokens, entropy in nats [N], likeliest tokens int64 [N]."""

    log_probs: Tensor
    entropy: Tensor
    top: Tensor


def token_log_probs(states: States, tokens: Tensor) -> Tensor:
    """Return log softmax(logits)[token] at each state, as float32 at least, differentiable in the states.

    `tokens`: int64 [N], or [N, k] for k tokens a state; the result has their shape. One matrix product a chunk, and
    three more in the backward pass, which forms the logits again.
    """

    def values(logits: Tensor, rows: slice) -> tuple[Tensor]:
        return (softmax_log_probs(logits, tokens[rows])[0],)

    def pull_back(logits: Tensor, rows: slice, to_log_probs: Tensor) -> None:
        ChunkPolicy(logits, tokens[rows], False).pull_back(to_log_probs)

    return chunked_values(states, values, pull_back)[0]


def token_scores(states: States, tokens: Tensor) -> TokenScores:
    """Return log-probabilities as `token_log_probs`, with each state's entropy (differentiable) and likeliest token."""

    def values(logits: Tensor, rows: slice) -> TokenScores:
        top = argmax(logits)
        policy = ChunkPolicy(logits, tokens[rows], True)
        return TokenScores(policy.log_probs, policy.entropy, top)

    def pull_back(logits: Tensor, rows: slice, to_log_probs: Tensor, to_entropy: Tensor, _: Tensor) -> None:
        ChunkPolicy(logits, tokens[rows], True).pull_back(to_log_probs, to_entropy)

    return TokenScores(*chunked_values(states, values, pull_back))


@torch.no_grad()
def top_log_probs(states: States, k: int) -> tuple[Tensor, Tensor]:
    """Return the log-probabilities of each state's k likeliest tokens and their ids, both [N, k], in descending order.

    At most the whole vocabulary. Without gradient.
    """
    logits, parts = ChunkLogits(states), []
    for chunk in states.chunks():
        own = logits[chunk]
        ids = own.topk(min(k, states.vocabulary)).indices
        parts.append((softmax_log_probs(own, ids)[0], ids))
    log_probs, tokens = zip(*parts, strict=True)
    return torch.cat(log_probs), torch.cat(tokens)


def bucket_log_probs(states: States, tokens: Tensor) -> Tensor:
    """Return log-probabilities of k named tokens a state and of all others together, [N, k + 1], differentiable.

    `tokens`: int64 [N, k], all different in a row. Where they are the whole vocabulary, nothing is left and the result
    is [N, k]. What is left is added up, not taken from 1, so that a small rest keeps its digits.
    """
    if tokens.shape[1] == states.vocabulary:
        return token_log_probs(states, tokens)

    def rest_(share: Tensor, rows: slice) -> Tensor:
        share.scatter_(1, tokens[rows], 0.0)
        return share.sum(-1, keepdim=True).clamp(min=torch.finfo(share.dtype).tiny)

    def values(logits: Tensor, rows: slice) -> tuple[Tensor]:
        log_probs, share = softmax_log_probs(logits, tokens[rows])
        return (torch.cat([log_probs, rest_(share, rows).log()], 1),)

    def pull_back(logits: Tensor, rows: slice, outer: Tensor) -> None:
        share, total = softmax_(logits), outer.sum(-1, keepdim=True)
        to_tokens = outer[:, :-1] - total * share.gather(1, tokens[rows])
        rest = rest_(share, rows)
        share.mul_(outer[:, -1:] / rest - total).scatter_(1, tokens[rows], to_tokens)

    return chunked_values(states, values, pull_back)[0]


class ChunkPolicy:
    """The softmax of a chunk's logits, in their place: log-probabilities of tokens, entropy, and the way back.

    `log_probs`: as `tokens`, int64 [rows] or [rows, k]. `entropy`: [rows] in nats, or [0] where it is not asked for.
    """

    def __init__(self, logits: Tensor, tokens: Tensor, with_entropy: bool):
        self.log_probs, self._share = softmax_log_probs(logits, tokens)
        self._tokens = tokens
        self._terms = torch.special.entr(self._share if with_entropy else self._share[:0])
        self.entropy = self._terms.sum(-1)

    def pull_back(self, to_log_probs: Tensor, to_entropy: Tensor | None = None) -> None:
        """Replace what were the logits by the gradient on them, given those on the log-probabilities and the entropy.

        d log q(v) = e_v - q, d H = -q (log q + H).
        """
        to_log_probs = _by_row(to_log_probs)
        factor = -to_log_probs.sum(-1)
        if to_entropy is not None:
            factor = factor - to_entropy * self.entropy
        self._share.mul_(factor[:, None])
        if to_entropy is not None:
            self._share.addcmul_(self._terms, to_entropy[:, None])
        self._share.scatter_add_(1, _by_row(self._tokens), to_log_probs)


def softmax_log_probs(logits: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Compute log softmax(logits)[token] by row, as `tokens`, and softmax(logits), which takes the logits' place.

    `tokens`: int64 [rows] or [rows, k]. One pass of softmax gives both, as the largest probability is
    1 / sum exp(logit - largest).
    """
    ids = _by_row(tokens)
    score = logits.gather(1, ids) - logits.amax(-1, keepdim=True)
    share = softmax_(logits)
    return (score + share.amax(-1, keepdim=True).log()).view(tokens.shape), share


def _by_row(values: Tensor) -> Tensor:
    return values.reshape(len(values), -1)
