"""KDRL: L_pg + w (log q - log p)^2 / 2."""

from typing import TYPE_CHECKING

from torch import Tensor

from distill.losses.guidance import Guidance
from distill.methods.grpo.objective import Grpo
from distill.methods.tgpo.task import Scores

if TYPE_CHECKING:
    from distill.methods.kdrl import KdrlRun


class Kdrl(Grpo):
    """GRPO with k2 on the sampled tokens."""

    def __init__(self, run: "KdrlRun"):
        self.use_std, self._weight = run.use_std, run.guidance_weight

    def guidance(self, scores: Scores, tokens: Tensor, number: int) -> Guidance | None:
        """Returns k2; None without a weight."""
        return Guidance("k2", tokens[:, None], scores["teacher"][:, None], self._weight) if self._weight else None
