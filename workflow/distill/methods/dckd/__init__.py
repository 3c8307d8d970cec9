"""DCKD: the preference teacher's distribution along both responses of a pair (Gao et al. 2025)."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from distill.methods.dpo.section import PairRun

if TYPE_CHECKING:
    from distill.methods.dckd.task import Dckd
    from distill.study.study import Study
    from distill.training.context import MethodContext


class DckdRun(PairRun):
    """Forward KL to the preference teacher along chosen and rejected responses; beta scales the dev loss alone."""

    is_control: ClassVar[bool] = True

    method: Literal["dckd"] = Field("dckd", description="`dckd`: the preference teacher's distribution on both sides.")
    chosen_weight: float = Field(
        1.0, ge=0, description="Of the mean over tokens of chosen responses (plain KD released with TVKD: 0.1)."
    )
    rejected_weight: float = Field(
        1.0, ge=0, description="Of the mean over tokens of rejected responses (plain KD released with TVKD: 0)."
    )

    @property
    def needs(self) -> frozenset[str]:
        """The pairs, and the teacher that learnt from them."""
        return super().needs | {"preference_teacher"}

    def problems(self, study: "Study") -> Iterator[str]:
        """Yields two weights of 0, too."""
        yield from super().problems(study)
        if not self.chosen_weight + self.rejected_weight:
            yield "chosen_weight: expected it or rejected_weight above 0, found both 0; raise one"


def build_task(context: "MethodContext") -> "Dckd":
    """Returns the task with the preference teacher in memory."""
    from distill.methods.dckd.task import Dckd
    from distill.methods.dpo.task import read_preferences

    weights = {"chosen": context.run.chosen_weight, "rejected": context.run.rejected_weight}
    return Dckd(read_preferences(context), context.load_frozen("preference_teacher"), weights)
