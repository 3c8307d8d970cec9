"""GRPO: policy gradient with group advantages on verified answers, without a teacher (Shao et al. 2024)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from distill.methods.tgpo.section import PolicyRun

if TYPE_CHECKING:
    from distill.methods.tgpo.task import PolicyTask
    from distill.training.context import MethodContext


class GrpoRun(PolicyRun):
    """Reinforcement learning alone: what TGPO is without guidance. The teacher only measures."""

    is_control: ClassVar[bool] = True

    method: Literal["grpo"] = Field("grpo", description="`grpo`: verified answers without a teacher.")
    use_std: bool = Field(True, description="Divide advantages by the group's standard deviation (scripts: true).")


def build_task(context: "MethodContext") -> "PolicyTask":
    """Returns the task: answers to the prompts that the teacher is sampled on."""
    from distill.methods.grpo.objective import Grpo
    from distill.methods.tgpo.task import policy_task

    return policy_task(context, Grpo(context.run))
