"""What every loss returns: differentiable sums with their weights, so that micro-batches and ranks can be combined."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

_ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class LossTerms:
    """A loss as a sum and its weight; the mean over a global batch is sum of `total` over sum of `weight`.

    `total`: scalar, carries the gradient. `weight`: scalar, transitions (or sequences) behind it; 0 when none is valid.
    `parts`: detached scalars that add up to `total`, on the same weight.
    `metrics`: name -> (sum, weight), detached scalars to be added up before dividing.
    """

    total: Tensor
    weight: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)
    metrics: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @property
    def mean(self) -> Tensor:
        """Mean loss of this batch alone; 0 where nothing is valid."""
        return self.total / self.weight.clamp(min=1e-30)


def upcast(x: Tensor) -> Tensor:
    """Bring half-precision tensors to float32; float32 and float64 stay as they are."""
    return x if x.dtype == torch.float64 else x.float()


@torch.no_grad()
def softmax_entropy(logits: Tensor) -> Tensor:
    """Entropy in nats of softmax(logits) by row, [rows, vocab] -> [rows]; a few rows at a time to bound memory."""
    chunks = upcast(logits).split(_ROWS_AT_ONCE)
    return torch.cat([torch.special.entr(chunk.softmax(-1)).sum(-1) for chunk in chunks])
