"""What every loss returns: differentiable sums with their weights, so that micro-batches and ranks can be combined."""

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import reduce

from torch import Tensor


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


def add_up(tensors: Iterable[Tensor]) -> Tensor:
    """Add tensors up in their order; one at least."""
    return reduce(operator.add, tensors)


def join_terms(total: Tensor, chunks: Sequence[LossTerms]) -> LossTerms:
    """Add up the weights, parts and metrics of chunks, under the `total` that carries their gradient."""
    first = chunks[0]
    return LossTerms(
        total,
        add_up(terms.weight for terms in chunks),
        {name: add_up(terms.parts[name] for terms in chunks) for name in first.parts},
        {
            name: (
                add_up(terms.metrics[name][0] for terms in chunks),
                add_up(terms.metrics[name][1] for terms in chunks),
            )
            for name in first.metrics
        },
    )
