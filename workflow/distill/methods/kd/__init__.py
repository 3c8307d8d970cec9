"""KD: word-level distillation on the human responses (Hinton et al. 2015; MiniLLM's baseline)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from distill.config.runs import FROM_BASE, Run

if TYPE_CHECKING:
    from distill.training.context import MethodContext
    from distill.training.imitation import Imitation


class KdRun(Run):
    """Fine-tuning on the instruction data, mixed with the teacher's distribution at each position."""

    is_control: ClassVar[bool] = True

    method: Literal["kd"] = Field("kd", description="`kd`: human responses, with the teacher's distribution.")
    start: str = FROM_BASE
    kd_ratio: float = Field(
        0.5, ge=0, le=1, description="Share of the teacher's distribution in the loss; 0 is SFT (MiniLLM scripts: 0.5)."
    )

    @property
    def needs(self) -> frozenset[str]:
        """The teacher, unless it has no share."""
        return frozenset({"teacher_logits"} if self.kd_ratio > 0 else ())


def build_task(context: "MethodContext") -> "Imitation":
    """Returns the task over the labelled rows of train."""
    from distill.training.imitation import imitation_task, labelled_responses
    from distill.training.teacher import LiveTeacher

    run, train = context.run, labelled_responses(context)
    teacher = LiveTeacher(context.load_teacher()) if run.kd_ratio > 0 else None
    return imitation_task(context, train, teacher, run.kd_ratio)
