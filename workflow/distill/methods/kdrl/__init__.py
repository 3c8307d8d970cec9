"""KDRL: GRPO with a squared log-ratio to the teacher on the sampled tokens (k2), of constant weight."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from distill.methods.tgpo.section import PolicyRun

if TYPE_CHECKING:
    from distill.methods.tgpo.task import PolicyTask
    from distill.training.context import MethodContext


class KdrlRun(PolicyRun):
    """Policy gradient and reverse KL together, as TGPO's later code has its comparison."""

    is_control: ClassVar[bool] = True

    method: Literal["kdrl"] = Field("kdrl", description="`kdrl`: verified answers and the teacher's k2 term.")
    guidance_weight: float = Field(0.002, ge=0, description="Weight of k2, constant; 0 is GRPO (TGPO's code: 0.002).")
    use_std: bool = Field(True, description="Divide advantages by the group's standard deviation (scripts: true).")


def build_task(context: "MethodContext") -> "PolicyTask":
    """Returns the task: answers to the prompts that the teacher is sampled on."""
    from distill.methods.kdrl.objective import Kdrl
    from distill.methods.tgpo.task import policy_task

    return policy_task(context, Kdrl(context.run))
