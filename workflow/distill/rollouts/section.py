"""What the config sections of runs share whose student answers prompts while it trains."""

from typing import Literal

from pydantic import Field

from distill.config.runs import Run


class SamplingRun(Run):
    """A run whose student answers prompts while it trains."""

    max_new_tokens: int
    rollout_engine: Literal["training", "sampling"] = Field(
        "training",
        description="Where answers are sampled: in the training's process (training), or by the engine of section "
        "`sampling` in a process of its own, which takes the weights before each round (sampling).",
    )

    @property
    def modules(self) -> tuple[str, ...]:
        """The engine process, where there is one."""
        return ("distill.sampling.serve",) if self.rollout_engine == "sampling" else ()
