"""Sequences laid end to end without padding, and where among their tokens the states of each response lie."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Tokens = Sequence[int] | np.ndarray


@dataclass(frozen=True)
class PackedBatch:
    """B prompts, each followed by its response: T tokens in all.

    `input_ids`: int64 [T]. `sequence_lengths`: tokens of each sequence. `rows`: int64 [N], the places in 0..T-1 whose
    next token is predicted, sequence after sequence. `actions`: int64, the response tokens end to end.
    `response_lengths`: tokens of each response.
    """

    input_ids: Tensor
    sequence_lengths: tuple[int, ...]
    rows: Tensor
    actions: Tensor
    response_lengths: tuple[int, ...]


def pack_sequences(
    sequences: Sequence[tuple[Tokens, Tokens]], device: torch.device | str, with_final_state: bool
) -> PackedBatch:
    """Packs (prompt ids, response ids) pairs and locates the states of each response.

    Args:
        sequences: prompts of at least one token and responses of at least one token, lists or arrays of integers; a
            text without a prompt is the pair of its first token and the rest.
        device: where the tensors go.
        with_final_state: also take the state after the last token (s_L), as the Bellman objectives need.
    """
    prompts, responses = ([np.asarray(ids, dtype=np.int64) for ids in part] for part in zip(*sequences, strict=True))
    response_lengths = np.array([len(ids) for ids in responses])
    lengths = response_lengths + [len(ids) for ids in prompts]
    states = response_lengths + int(with_final_state)
    first = np.cumsum(lengths) - response_lengths - 1
    rows = np.arange(states.sum()) + np.repeat(first - np.cumsum(states) + states, states)
    input_ids = np.concatenate([ids for pair in zip(prompts, responses, strict=True) for ids in pair])
    return PackedBatch(
        torch.from_numpy(input_ids).to(device),
        tuple(lengths.tolist()),
        torch.from_numpy(rows).to(device),
        torch.from_numpy(np.concatenate(responses)).to(device),
        tuple(response_lengths.tolist()),
    )
