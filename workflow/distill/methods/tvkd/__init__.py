"""TVKD, preference distillation through the teacher's value: our reconstruction, and what the released code does."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from distill.methods.dpo.section import PairRun

if TYPE_CHECKING:
    from distill.methods.dpo.task import PairTask
    from distill.study.study import Study
    from distill.training.context import MethodContext

Variant = Literal["shaping", "repo_sum", "repo_joint", "repo_policy_invariant", "repo_recipe"]


class TvkdRun(PairRun):
    """DPO with the teacher's values in the reward; `repo_` variants are those of the released code."""

    method: Literal["tvkd"] = Field("tvkd", description="`tvkd`: DPO with values of the teacher in its reward.")
    variant: Variant = Field(
        "shaping",
        description="shaping (reconstruction: DPO, and a sum of gamma V(s') - V(s)), or what the released code has: "
        "repo_sum, repo_joint, repo_policy_invariant, repo_recipe.",
    )
    shaping_weight: float = Field(1.0, ge=0, description="shaping: lambda, weight of the sum; 0 is DPO.")
    discount: float | None = Field(
        None, ge=0, le=1, description="gamma; null: 0.7 with shaping, 1 with the released variants."
    )
    terminal: Literal["zero", "model", "last"] = Field(
        "zero", description="shaping: the value behind EOS: 0, the teacher's own there, or that of the state before."
    )
    control: Literal["shuffled", "constant"] | None = Field(
        None, description="shaping: offsets of other pairs (shuffled), or their mean for all (constant); null: its own."
    )
    exponent: float | None = Field(
        None, gt=0, description="Released variants: of the teacher; null: 1 with repo_joint, else 0.7."
    )
    student_exponent: float = Field(1.0, ge=0, description="repo_joint: of the student inside the value.")
    top_k: int = Field(
        50,
        ge=1,
        description="Released variants: the teacher's likeliest tokens with a bucket of their own; the rest share one.",
    )

    @property
    def needs(self) -> frozenset[str]:
        """The pairs, and the teacher's values or the teacher itself."""
        return super().needs | {"teacher_values" if self.variant == "shaping" else "preference_teacher"}

    def problems(self, study: "Study") -> Iterator[str]:
        """Yields keys that the variant does not read, too."""
        yield from super().problems(study)
        is_shaping = self.variant == "shaping"
        foreign = ("exponent", "student_exponent", "top_k") if is_shaping else ("shaping_weight", "terminal", "control")
        for key in foreign:
            if getattr(self, key) != (default := type(self).model_fields[key].default):
                yield (
                    f"{key}: expected {default} since variant {self.variant} does not read it, found "
                    f"{getattr(self, key)}; leave it out"
                )


def build_task(context: "MethodContext") -> "PairTask":
    """Returns DPO with offsets, or the released pairwise loss."""
    from distill.methods.tvkd.task import released_task, shaping_task

    return shaping_task(context) if context.run.variant == "shaping" else released_task(context)
