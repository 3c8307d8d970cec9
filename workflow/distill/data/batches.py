"""Sequences as padded tensors, and where in them the states of each response lie."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SequenceBatch:
    """Prompts and responses, right-padded: causal attention then never looks at padding.

    `input_ids`, `attention_mask`: int64 [B, T]. `rows`: int64 [N], flat positions (in B x T) whose logits are wanted,
    sequence after sequence. `actions`: int64, the response tokens end to end. `lengths`: int64 [B], of the responses.
    """

    input_ids: Tensor
    attention_mask: Tensor
    rows: Tensor
    actions: Tensor
    lengths: Tensor


def pad_sequences(
    sequences: Sequence[tuple[Sequence[int], Sequence[int]]], device: torch.device | str, with_final_state: bool
) -> SequenceBatch:
    """Pads (prompt ids, response ids) pairs and locates the states of each response.

    Args:
        sequences: prompts of at least one token and responses of at least one token.
        device: where the tensors go.
        with_final_state: also take the logits after the last token (s_L), as the Bellman objectives need.
    """
    width = max(len(prompt) + len(response) for prompt, response in sequences)
    input_ids = torch.zeros(len(sequences), width, dtype=torch.long)
    mask = torch.zeros_like(input_ids)
    rows, actions = [], []
    for index, (prompt, response) in enumerate(sequences):
        length = len(prompt) + len(response)
        input_ids[index, :length] = torch.tensor([*prompt, *response])
        mask[index, :length] = 1
        first = index * width + len(prompt) - 1
        rows.append(torch.arange(first, first + len(response) + with_final_state))
        actions += response
    return SequenceBatch(
        input_ids.to(device),
        mask.to(device),
        torch.cat(rows).to(device),
        torch.tensor(actions, device=device),
        torch.tensor([len(response) for _, response in sequences], device=device),
    )
