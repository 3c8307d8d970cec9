"""ADPA: the advantage of the preference teacher over the fine-tuned one along rejected responses (Gao et al. 2025)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from distill.methods.dpo.section import PairRun

if TYPE_CHECKING:
    from distill.methods.adpa.task import Adpa
    from distill.training.context import MethodContext


class AdpaRun(PairRun):
    """Raises the student's mean advantage, log p of the preference teacher minus that of the fine-tuned one.

    Beta scales the dev loss alone.
    """

    is_control: ClassVar[bool] = True

    method: Literal["adpa"] = Field("adpa", description="`adpa`: the preference teacher's advantage.")
    clamp_advantage: bool = Field(
        False, description="Cut advantages to [1e-8, 1 - 1e-8] as the released code does, where negative ones vanish."
    )

    @property
    def needs(self) -> frozenset[str]:
        """The pairs and both teachers."""
        return super().needs | {"preference_teacher", "teacher_logits"}


def build_task(context: "MethodContext") -> "Adpa":
    """Returns the task with both teachers in memory."""
    from distill.methods.adpa.task import Adpa
    from distill.methods.dpo.task import read_preferences

    teachers = context.load_frozen("preference_teacher"), context.load_teacher()
    return Adpa(read_preferences(context), *teachers, context.run.clamp_advantage)
