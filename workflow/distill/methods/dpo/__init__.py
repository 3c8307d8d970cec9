"""DPO, direct preference optimisation, from the run's own start (Rafailov et al. 2023, eq. 7)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from distill.methods.dpo.section import PairRun

if TYPE_CHECKING:
    from distill.methods.dpo.task import Dpo
    from distill.training.context import MethodContext


class DpoRun(PairRun):
    """Direct preference optimisation; without a teacher."""

    is_control: ClassVar[bool] = True

    method: Literal["dpo"] = Field("dpo", description="`dpo`: direct preference optimisation on the pairs.")


def build_task(context: "MethodContext") -> "Dpo":
    """Returns the task without offsets."""
    from distill.methods.dpo.task import Dpo, read_preferences

    return Dpo(read_preferences(context))
