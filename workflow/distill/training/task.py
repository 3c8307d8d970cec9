"""What a training stage brings to the loop: its items, its loss terms, and its evaluation."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from distill.losses.states import States
from distill.losses.terms import LossTerms
from distill.models.packed import PackedModel
from distill.models.packing import PackedBatch

if TYPE_CHECKING:
    from distill.training.engine import TrainingEngine

Forward = Callable[[PackedBatch], States]
"""Runs a model on packed sequences and returns the states that a loss asks for."""


class Drawn(NamedTuple):
    """What an item shows the student: its prompt, as token ids, and whether its response is a label of the data.

    `is_stored`: the response was there before the run; it is not one that the run itself samples.
    """

    prompt: tuple[int, ...]
    is_labelled: bool
    is_stored: bool = True


class Task(ABC):
    """A method at work. Every loss is a weighted sum of terms, each a mean over the global batch.

    Attributes:
        items: number of training items.
        coefficients: weight of each loss term by name.
    """

    items: int
    coefficients: dict[str, float]

    @abstractmethod
    def weights(self, indices: Sequence[int], step: int) -> dict[str, float]:
        """Returns each term's weight (count) for a micro-batch without running the model."""

    @abstractmethod
    def losses(self, forward: Forward, indices: Sequence[int], step: int) -> dict[str, LossTerms]:
        """Returns each term's sums for a micro-batch of update `step`."""

    @abstractmethod
    def evaluate(self, model: PackedModel) -> tuple[float, list[dict]]:
        """Returns the dev loss of a model in eval mode and one row per dev item (for paired tests).

        Called on one rank, without gradients.
        """

    def prepare(self, engine: "TrainingEngine", step: int, batch: Sequence[int]) -> None:  # noqa: B027 - optional
        """Called on every rank before update `step` on the items `batch` (of all ranks), such as to sample rollouts."""

    def evaluated(self, step: int, loss: float) -> None:  # noqa: B027 - optional
        """Called on every rank with the dev loss before update 0 and at each checkpoint, before `save`."""

    def drawn(self, index: int, step: int) -> Drawn | None:
        """Returns what item `index` of update `step` is, to count the data seen; None if it has no prompt.

        It depends on nothing that `prepare` did and `save` did not keep.
        """
        return None

    def save(self, folder: Path) -> None:  # noqa: B027 - optional
        """Writes what a resumed run needs besides weights and optimiser; called on one rank at each checkpoint."""

    def load(self, folder: Path) -> None:  # noqa: B027 - optional
        """Reads what `save` wrote; called on every rank."""
