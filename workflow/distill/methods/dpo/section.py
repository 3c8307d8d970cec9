"""What runs share that learn from preference pairs."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import Field

from distill.config.preferences import BETA
from distill.config.runs import Run

if TYPE_CHECKING:
    from distill.study.study import Study


class PairRun(Run):
    """Keys of every method on preference pairs; the reference is the run's own start.

    An item is a pair, and `training.batch` counts pairs, two sequences each.
    """

    start: str = Field("phase1", description="Where training starts, and the reference: phase1, or another run.")
    select: str = Field(
        "last", description="Checkpoint rule: last, dev_loss (DPO's loss on the dev pairs) or dev_METRIC."
    )
    dropout: bool = Field(False, description="Train with the model's own dropout rates (true) or without (false).")
    beta: float = BETA

    @property
    def needs(self) -> frozenset[str]:
        """The pairs."""
        return frozenset({"preference_pairs"})

    def problems(self, study: "Study") -> Iterator[str]:
        """Yields a study without pairs, too."""
        yield from super().problems(study)
        if study.preferences is None:
            yield f"method: expected preferences since {self.method} learns from pairs, found null; add the section"
