"""DistiLLM's schedule: how often the student's answers are learnt from, and how often they are fresh."""

from dataclasses import dataclass
from typing import Any

from distill.methods.gkd.task import Source
from distill.rollouts.replay import Replay


@dataclass
class Adaptive:
    """Sources by a threshold phi that rises with the dev loss (as the released finetune.py has it).

    At update k of K, with u uniform: fresh answers where u < phi_k, or where u < phi while the store is not full;
    stored ones where u < phi otherwise; else the data. phi_k is phi (1 - k / K), phi k / K or phi / 2.
    """

    threshold: float
    threshold_raise: float
    tolerance: float
    fresh_share: str
    steps: int
    reference: float | None = None

    def choose(self, step: int, uniform: float, store: Replay) -> Source:
        """Returns the source of update `step`, counted from 0, which is k - 1."""
        progress = (step + 1) / self.steps
        share = {"decreasing": 1 - progress, "increasing": progress, "constant": 0.5}[self.fresh_share]
        is_student = uniform < self.threshold
        is_fresh = is_student and (uniform < self.threshold * share or not store.is_full)
        return Source(is_fresh, is_student and not is_fresh)

    def evaluated(self, loss: float) -> None:
        """Raises phi where the dev loss is `tolerance` above its value at the last raise, or at the start."""
        if self.reference is None:
            self.reference = loss
        elif loss >= self.reference + self.tolerance:
            self.threshold, self.reference = min(self.threshold + self.threshold_raise, 1.0), loss

    def state(self) -> dict[str, Any]:
        """Returns threshold and reference."""
        return {"threshold": self.threshold, "reference": self.reference}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes what `state` returned."""
        self.threshold, self.reference = state["threshold"], state["reference"]
