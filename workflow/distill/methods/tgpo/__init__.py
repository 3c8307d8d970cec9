"""TGPO: groups of a student's answers, rewarded by a verifier and guided by the teacher's tokens (arXiv 2605.13230)."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from distill.methods.tgpo.section import PolicyRun

if TYPE_CHECKING:
    from distill.methods.tgpo.task import PolicyTask
    from distill.study.study import Study
    from distill.training.context import MethodContext


class TgpoRun(PolicyRun):
    """Policy gradient with group advantages, and a term that raises what the teacher would have said there."""

    method: Literal["tgpo"] = Field("tgpo", description="`tgpo`: verified answers with the teacher's guidance.")
    form: Literal["reg", "mc", "fwd_topk", "adv"] = Field(
        "reg",
        description="Guidance at each visited state: reg (the teacher's likeliest token), mc (one that it draws), "
        "fwd_topk (forward KL on its top_k tokens), adv (its likeliest token's probability in the advantage).",
    )
    guidance_weight: float = Field(
        0.1, ge=0, description="Weight in the first round; 0 is GRPO (released: 0.002; adv: 0.02)."
    )
    guidance_decay: float | None = Field(
        None,
        ge=0,
        description="Taken off each round; null: the weight ends with the run (released: 1e-5; adv: 1e-4).",
    )
    guidance_floor: float = Field(0.0, ge=0, description="Least weight; at least 0 (released: 0).")
    top_k: int = Field(100, ge=1, description="Tokens of fwd_topk; at least 1 (released: 5, 20, 100).")
    use_std: bool = Field(True, description="Divide advantages by the group's standard deviation (released: true).")
    policy_gradient: bool = Field(True, description="Learn from rewards; false leaves guidance alone, a control.")

    def problems(self, study: "Study") -> Iterator[str]:
        """Yields guidance inside an advantage that is left out, too."""
        yield from super().problems(study)
        if self.form == "adv" and not self.policy_gradient:
            yield "policy_gradient: expected true with form adv, found false; choose another form"


def build_task(context: "MethodContext") -> "PolicyTask":
    """Returns the task: answers to the prompts that the teacher is sampled on."""
    from distill.methods.tgpo.objective import Tgpo
    from distill.methods.tgpo.task import policy_task

    return policy_task(context, Tgpo(context.run))
