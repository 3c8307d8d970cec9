"""GRPO: L_pg alone."""

from typing import TYPE_CHECKING

from torch import Tensor

from distill.methods.tgpo.task import Objective, Scores

if TYPE_CHECKING:
    from distill.methods.grpo import GrpoRun


class Grpo(Objective):
    """Group advantages as they are."""

    def __init__(self, run: "GrpoRun"):
        self.use_std = run.use_std

    def advantages(self, rewards: Tensor, scores: Scores, number: int) -> Tensor:
        """Returns the group's."""
        return rewards
