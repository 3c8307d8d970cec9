"""The entropy of a model along its own answers: what tells a gain by sharpening from a gain by distillation."""

from collections.abc import Sequence
from pathlib import Path

import torch

from distill.losses.states import softmax_entropy
from distill.models.load import load_model
from distill.models.packed import PackedModel
from distill.models.packing import pack_sequences

_BATCH = 32


def mean_entropy(model_folder: Path, pairs: Sequence[tuple[list[int], list[int]]], device: str, threads: int) -> float:
    """Returns the mean next-token entropy (nats) of the model over every state of (prompt, response) pairs."""
    torch.set_num_threads(threads)
    model = PackedModel(load_model(model_folder)).to(device).eval()
    total, states = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(pairs), _BATCH):
            batch = pack_sequences(pairs[start : start + _BATCH], device, with_final_state=False)
            entropy = softmax_entropy(model.states(batch))
            total, states = total + entropy.sum().item(), states + len(entropy)
    return total / states
