"""RKL, on-policy distillation by the reverse KL on the student's own text, without rewards."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from distill.methods.tgpo.section import PolicyRun

if TYPE_CHECKING:
    from distill.methods.tgpo.task import PolicyTask
    from distill.training.context import MethodContext


class RklRun(PolicyRun):
    """The teacher alone: rewards are watched, and not learnt from."""

    is_control: ClassVar[bool] = True

    method: Literal["rkl"] = Field("rkl", description="`rkl`: reverse KL on the student's own text.")
    form: Literal["sampled", "centred", "full", "k1", "k2", "k3", "dist"] = Field(
        "sampled",
        description="sampled (log p - log q as a token's advantage), centred (less its mean over the old student's "
        "top_k tokens), full (whole vocabulary), k1, k2, k3 (terms of the sampled token), dist (both renormalised on "
        "the old student's top_k tokens).",
    )
    top_k: int = Field(1024, ge=1, description="Tokens of centred and dist; at least 1 (TGPO's code: 1,024).")


def build_task(context: "MethodContext") -> "PolicyTask":
    """Returns the task: answers to the prompts that the teacher is sampled on."""
    from distill.methods.rkl.objective import Rkl
    from distill.methods.tgpo.task import policy_task

    return policy_task(context, Rkl(context.run))
