"""What TGPO and the methods that it is compared with share: groups of a student's answers, rewarded by a metric."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import Field

from distill.errors import ConfigError
from distill.metrics.registry import load_metric, metric_module
from distill.rollouts.section import SamplingRun

if TYPE_CHECKING:
    from distill.study.study import Study


class PolicyRun(SamplingRun):
    """Keys of the whole family. A round samples `prompts_per_round` x `group` answers, which one pass learns from."""

    dropout: bool = Field(
        False, description="Train with the model's own dropout rates (true) or without dropout (false; code: none)."
    )
    reward: str = Field("exact_match", description="The metric that rewards an answer; a right one counts 1.")
    prompts_per_round: int = Field(32, ge=1, description="Prompts answered a round; at least 1 (TGPO's scripts: 128).")
    group: int = Field(8, ge=1, description="Answers to a prompt; at least 1 (scripts: 8).")
    clip: float = Field(0.2, gt=0, description="Largest distance of the policy ratio from 1; above 0 (scripts: 0.2).")
    entropy_weight: float = Field(
        0.001, ge=0, description="Weight of the entropy bonus; 0 turns it off (scripts: 0.001)."
    )
    max_new_tokens: int = Field(
        40, ge=1, description="Longest sampled answer in tokens; a cut one is wrong where the metric needs an end."
    )

    @property
    def needs(self) -> frozenset[str]:
        """Prompts, and the teacher: to learn from, or to watch how far the student's text is from it."""
        return frozenset({"prompts", "teacher_logits"})

    @property
    def modules(self) -> tuple[str, ...]:
        """The metric's, too."""
        return (*super().modules, metric_module(self.reward))

    @property
    def updates_per_round(self) -> int:
        """Optimiser updates of one pass over a round."""
        return self.prompts_per_round * self.group // self.training.batch

    def problems(self, study: "Study") -> Iterator[str]:
        """Yields a metric that there is not, a round that is no whole number of batches, a length in epochs, too."""
        yield from super().problems(study)
        try:
            load_metric(self.reward)
        except ConfigError as error:
            yield f"reward: {error}"
        size = self.prompts_per_round * self.group
        if size % self.training.batch:
            yield (
                f"training.batch: expected a divisor of prompts_per_round x group = {size}, found "
                f"{self.training.batch}; change one of them"
            )
        if self.training.epochs is not None:
            yield (
                f"training.epochs: expected null, since answers are sampled on the way, found {self.training.epochs}; "
                "give training.steps"
            )
