"""SeqKD: fine-tuning on the teacher's responses (Kim and Rush 2016)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from distill.config.runs import Need, Run

if TYPE_CHECKING:
    from distill.training.context import MethodContext
    from distill.training.imitation import Imitation


class SeqKdRun(Run):
    """Fine-tuning on responses that the teacher sampled."""

    is_baseline: ClassVar[bool] = True

    method: Literal["seqkd"] = Field("seqkd", description="`seqkd`: the teacher's responses.")
    start: Literal["base", "phase1"] = Field("base", description="Where training starts: base or phase1.")
    kd_ratio: float = Field(
        0.0, ge=0, le=1, description="Share of the teacher's distribution (papers: 0; MiniLLM's scripts: 0.5)."
    )
    samples_per_prompt: int | None = Field(
        1, ge=1, description="Learn from each prompt's first so many samples (MiniLLM: 1); null takes all."
    )

    @property
    def needs(self) -> frozenset[Need]:
        """The samples, and the teacher where it has a share."""
        return frozenset({"teacher_samples", "teacher_logits"} if self.kd_ratio > 0 else {"teacher_samples"})


def build_task(context: "MethodContext") -> "Imitation":
    """Returns the task over the teacher's samples; the dev set stays the human one."""
    from distill.training.imitation import imitation_task, teacher_responses

    train = teacher_responses(context, context.run.samples_per_prompt)
    return imitation_task(context, train, context.run.kd_ratio)
