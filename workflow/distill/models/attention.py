"""Attention over packed sequences: each attends causally to itself only, without padding and without a block mask."""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

PACKED = "packed"
"""What `model.set_attn_implementation` takes."""


def packed_arguments(sequence_lengths: tuple[int, ...], device: torch.device) -> dict[str, object]:
    """Returns what a base model takes beside the token ids (1, T) of sequences laid end to end.

    Position ids (1, T) restart at 0 with each sequence. The mask is empty: transformers hands a mask of four axes on
    as it is, and layers that would not read `sequence_lengths` then fail on it instead of mixing the sequences.
    """
    ends = np.cumsum(sequence_lengths)
    positions = np.arange(ends[-1]) - np.repeat(ends - sequence_lengths, sequence_lengths)
    return {
        "position_ids": torch.from_numpy(positions)[None].to(device),
        "attention_mask": torch.empty(1, 1, 0, 0, dtype=torch.bool, device=device),
        "sequence_lengths": sequence_lengths,
    }


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sequence_lengths: tuple[int, ...] | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attends within each packed sequence; (1, heads, T, channels) to (1, T, heads, channels).

    Args:
        module: the model's attention layer.
        query, key, value: of T tokens; keys and values may have fewer heads, each of which serves a group of queries.
        attention_mask: not read where there are lengths.
        dropout: of the attention weights.
        scaling: of the products; None is 1 / sqrt(channels).
        sequence_lengths: tokens of each sequence, T in all; None is transformers' own `sdpa`, for any batch and cache.
        kwargs: for `sdpa`.
    """
    if sequence_lengths is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    attend = partial(
        scaled_dot_product_attention,
        is_causal=True,
        dropout_p=dropout,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    if len(set(sequence_lengths)) == 1:
        shape = (len(sequence_lengths), sequence_lengths[0])
        batched = [tensor.unflatten(2, shape).squeeze(0).transpose(0, 1) for tensor in (query, key, value)]
        return attend(*batched).transpose(1, 2).flatten(0, 1)[None], None
    parts = (tensor.split(sequence_lengths, dim=2) for tensor in (query, key, value))
    output = torch.cat([attend(*own) for own in zip(*parts, strict=True)], dim=2)
    return output.transpose(1, 2).contiguous(), None


AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(PACKED, sdpa_mask)
