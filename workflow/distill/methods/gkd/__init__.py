"""GKD, generalised knowledge distillation: a divergence along the data's and the student's own texts (Agarwal 2024)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from distill.methods.gkd.section import Divergence, OnPolicyRun

if TYPE_CHECKING:
    from distill.methods.gkd.task import OnPolicyDistillation
    from distill.training.context import MethodContext


class GkdRun(OnPolicyRun):
    """Distillation from the phase-1 student; each update learns from the data or from the student's answers."""

    is_control: ClassVar[bool] = True

    method: Literal["gkd"] = Field("gkd", description="`gkd`: a divergence along data and student texts.")
    divergence: Divergence = Field(
        "jsd",
        description="What is minimised at each state: jsd (paper eq. 1), skew_kl, skew_reverse_kl, forward_kl, "
        "reverse_kl, total_variation or remainder_kl (forward on the teacher's top-p set and one remainder; ours).",
    )
    weight: float | None = Field(
        0.5,
        ge=0,
        le=1,
        description="Of the teacher in jsd, the skew, or p of remainder_kl; null for others (TRL: 0.5).",
    )
    student_share: float = Field(
        0.5, ge=0, le=1, description="Probability that an update learns from student answers (paper: lambda; TRL: 0.5)."
    )
    replay: bool = Field(
        False, description="Learn from a draw of stored answers instead of the fresh ones (DistiLLM's GKD scripts)."
    )


def build_task(context: "MethodContext") -> "OnPolicyDistillation":
    """Returns the task: the data's responses, and the sources of GKD."""
    from distill.methods.gkd.task import OnPolicyDistillation, StudentShare

    run = context.run
    return OnPolicyDistillation(context, StudentShare(run.student_share, run.replay))
