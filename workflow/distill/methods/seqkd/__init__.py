"""SeqKD: fine-tuning on the teacher's responses (Kim and Rush 2016)."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from distill.config.runs import FROM_BASE, Run

if TYPE_CHECKING:
    from distill.study.study import Study
    from distill.training.context import MethodContext
    from distill.training.imitation import Imitation


class SeqKdRun(Run):
    """Fine-tuning on responses that the teacher sampled."""

    is_control: ClassVar[bool] = True

    method: Literal["seqkd"] = Field("seqkd", description="`seqkd`: the teacher's responses.")
    start: str = FROM_BASE
    kd_ratio: float = Field(
        0.0, ge=0, le=1, description="Share of the teacher's distribution (papers: 0; MiniLLM's scripts: 0.5)."
    )
    teacher: Literal["live", "cached"] = Field(
        "live",
        description="Source of that share: live (the teacher in memory) or cached (its candidate sets at "
        "candidates.p_max: truncated, renormalised).",
    )
    samples_per_prompt: int | None = Field(
        1, ge=1, description="Learn from each prompt's first so many samples (MiniLLM: 1); null takes all."
    )

    @property
    def needs(self) -> frozenset[str]:
        """The samples, and the teacher or its candidate sets where it has a share."""
        share = "candidate_sets" if self.teacher == "cached" else "teacher_logits"
        return frozenset({"teacher_samples", share} if self.kd_ratio > 0 else {"teacher_samples"})

    def problems(self, study: "Study") -> Iterator[str]:
        """Yields sets that nothing would read, too."""
        yield from super().problems(study)
        if self.teacher == "cached" and self.kd_ratio == 0:
            yield "teacher: expected live since kd_ratio is 0, found cached; raise kd_ratio or leave teacher out"


def build_task(context: "MethodContext") -> "Imitation":
    """Returns the task over the teacher's samples; the dev set stays the human one."""
    from distill.training.cached_teacher import CachedTeacher, stored_sets
    from distill.training.imitation import imitation_task, teacher_responses
    from distill.training.teacher import LiveTeacher

    run, teacher = context.run, None
    if run.kd_ratio > 0:
        is_cached = run.teacher == "cached"
        teacher = CachedTeacher(stored_sets(context)) if is_cached else LiveTeacher(context.load_teacher())
    return imitation_task(context, teacher_responses(context, run.samples_per_prompt), teacher, run.kd_ratio)
