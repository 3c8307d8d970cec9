"""DistiLLM-2: the teacher's answers drawn closer and the student's own pushed towards the teacher (Ko et al. 2025)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from distill.rollouts.section import SamplingRun

if TYPE_CHECKING:
    from distill.methods.distillm2.task import Contrastive
    from distill.training.context import MethodContext


class Distillm2Run(SamplingRun):
    """Distillation from the phase-1 student, off-policy: the start's own answers stand beside the teacher's samples."""

    is_control: ClassVar[bool] = True

    method: Literal["distillm2"] = Field("distillm2", description="`distillm2`: contrastive skewed divergences.")
    samples_per_prompt: int | None = Field(
        None, ge=1, description="Of the teacher's responses, each prompt's first so many; null takes all."
    )
    skew: float = Field(
        0.1, ge=0, le=1, description="Of both divergences; in [0, 1] (code: 0.1, its adaptive form switched off)."
    )
    student_weight: float = Field(
        1.0, ge=0, le=2, description="Weight b of the student's answers; the teacher's have 2 - b (code: 1)."
    )
    detach_mixture: bool = Field(
        True, description="No gradient through the student inside the reverse divergence's mixture (code: true)."
    )
    max_new_tokens: int = Field(40, ge=1, description="Longest answer of the start in tokens; at least 1.")
    sampling_temperature: float = Field(1.0, gt=0, description="Of the start's answers; above 0.")

    @property
    def needs(self) -> frozenset[str]:
        """The teacher and its samples."""
        return frozenset({"teacher_logits", "teacher_samples"})


def build_task(context: "MethodContext") -> "Contrastive":
    """Returns the task."""
    from distill.methods.distillm2.task import Contrastive

    return Contrastive(context)
