"""The teacher's distribution as a share of a loss: one type, whatever it is read from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch

from distill.losses.cross_entropy import distilled_nll
from distill.losses.states import States
from distill.losses.terms import LossTerms
from distill.models.packed import PackedModel
from distill.models.packing import PackedBatch


class Teacher(Protocol):
    """(1 - r) CE + r KD along responses, whatever the teacher is read from.

    Attributes:
        knows_any_text: False where it knows its distribution along its own samples alone.
    """

    knows_any_text: ClassVar[bool]

    def nll(self, states: States, batch: PackedBatch, places: Sequence[int | None], kd_ratio: float) -> LossTerms:
        """Returns the sums over a batch's response tokens.

        Args:
            states: the student's, of `batch`.
            batch: packed without final states.
            places: of the responses among the teacher's samples, None for one that is none of them; read only where
                `knows_any_text` is False, which wants all of them.
            kd_ratio: r, the teacher's share, in [0, 1].
        """
        ...


@dataclass(frozen=True)
class LiveTeacher:
    """The teacher in memory: its full distribution at temperature 1, along any text."""

    model: PackedModel
    knows_any_text: ClassVar[bool] = True

    def nll(self, states: States, batch: PackedBatch, places: Sequence[int | None], kd_ratio: float) -> LossTerms:
        """Returns `distilled_nll`; see `Teacher`."""
        with torch.no_grad():
            own = self.model.states(batch)
        return distilled_nll(states, batch.actions, own, kd_ratio)
