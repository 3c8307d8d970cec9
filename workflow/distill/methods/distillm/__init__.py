"""DistiLLM: skewed divergences, student answers on an adaptive schedule and from a replay buffer (Ko et al. 2024)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from distill.methods.gkd.section import Divergence, OnPolicyRun

if TYPE_CHECKING:
    from distill.methods.gkd.task import OnPolicyDistillation
    from distill.training.context import MethodContext


class DistillmRun(OnPolicyRun):
    """Distillation from the phase-1 student; student answers join as the dev loss rises, and are used again."""

    is_control: ClassVar[bool] = True

    method: Literal["distillm"] = Field("distillm", description="`distillm`: skewed divergence, adaptive, with replay.")
    divergence: Divergence = Field(
        "skew_reverse_kl",
        description="What is minimised at each state: skew_kl or skew_reverse_kl (paper), or another one of gkd's.",
    )
    weight: float | None = Field(
        0.1,
        ge=0,
        le=1,
        description="As gkd's: the skew, or another divergence's; null where it has none (code: 0.1).",
    )
    threshold: float = Field(
        0.0, ge=0, le=1, description="Probability of student answers at the start; in [0, 1] (code: 0)."
    )
    threshold_raise: float = Field(0.1, ge=0, le=1, description="What a raise adds to the threshold (code: 0.1).")
    tolerance: float = Field(
        0.1, ge=0, description="A checkpoint's dev loss this far above the one of the last raise raises (code: 0.1)."
    )
    fresh_share: Literal["decreasing", "increasing", "constant"] = Field(
        "decreasing",
        description="Fresh answers among the student's over the run: decreasing from all to none, increasing, or "
        "constant (a half); the rest is replayed (code: decreasing).",
    )
    plain_text_weight: float = Field(1.0, ge=0, description="Weight of the plain-text term; 0 skips it (code: 1).")

    @property
    def needs(self) -> frozenset[str]:
        """As GKD, with plain text unless its term has no weight."""
        return super().needs | ({"plain_text"} if self.plain_text_weight > 0 else set())


def build_task(context: "MethodContext") -> "OnPolicyDistillation":
    """Returns the task: as GKD's, with the sources of DistiLLM and the plain-text term."""
    from distill.config.keys import run_key
    from distill.methods.distillm.adaptive import Adaptive
    from distill.methods.gkd.task import OnPolicyDistillation, training_pairs
    from distill.training.order import plan_steps

    run = context.run
    steps = plan_steps(run.training, len(training_pairs(context)), run_key(context.name))
    sources = Adaptive(run.threshold, run.threshold_raise, run.tolerance, run.fresh_share, steps)
    return OnPolicyDistillation(context, sources, run.plain_text_weight)
