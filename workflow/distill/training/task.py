"""What a training stage brings to the loop: its items, its loss terms, and its evaluation."""

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from distill.losses.terms import LossTerms

Forward = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(input ids [B, T], attention mask [B, T], flat rows [N]) -> logits [N, vocabulary]."""


class Task(Protocol):
    """A method at work. Every loss is a weighted sum of terms, each a mean over the global batch.

    `items`: number of training items. `coefficients`: weight of each loss term by name.
    """

    items: int
    coefficients: dict[str, float]

    def weights(self, indices: Sequence[int], step: int) -> dict[str, float]:
        """Returns each term's weight (count) for a micro-batch without running the model."""
        ...

    def losses(self, forward: Forward, indices: Sequence[int], step: int) -> dict[str, LossTerms]:
        """Returns each term's sums for a micro-batch of update `step`."""
        ...

    def evaluate(self, forward: Forward) -> tuple[float, list[dict]]:
        """Returns the dev loss and one row per dev item (for paired tests); called without gradients."""
        ...
