"""Log-probabilities of given responses under a model that is not trained."""

from collections.abc import Sequence

import torch
from torch import Tensor

from distill.losses.log_probs import token_log_probs
from distill.models.packed import PackedModel
from distill.models.packing import pack_sequences


@torch.no_grad()
def response_log_probs(
    model: PackedModel, sequences: Sequence[tuple[Sequence[int], Sequence[int]]], batch: int, device: torch.device | str
) -> list[Tensor]:
    """Returns log q of each response's tokens, float32 on the CPU, without gradient.

    Args:
        model: in eval mode, on `device`.
        sequences: prompt and response ids.
        batch: sequences a forward pass.
        device: of the model.
    """
    found: list[Tensor] = []
    for start in range(0, len(sequences), batch):
        packed = pack_sequences(sequences[start : start + batch], device, with_final_state=False)
        log_probs = token_log_probs(model.states(packed), packed.actions).cpu()
        found += log_probs.split(packed.response_lengths)
    return found
