"""What runs share that match the teacher's distribution along texts of the data and of the student."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from distill.rollouts.section import SamplingRun

if TYPE_CHECKING:
    from distill.study.study import Study

Divergence = Literal["jsd", "skew_kl", "skew_reverse_kl", "forward_kl", "reverse_kl", "total_variation", "remainder_kl"]
_WEIGHTED = {"jsd", "skew_kl", "skew_reverse_kl", "remainder_kl"}


class OnPolicyRun(SamplingRun):
    """Keys of GKD and DistiLLM alike; the teacher is live, since each divergence asks for its whole distribution."""

    divergence: Divergence
    weight: float | None
    detach_mixture: bool = Field(
        False, description="No gradient through the student inside skew_reverse_kl's mixture (DistiLLM-2's code: true)."
    )
    responses: Literal["labels", "teacher"] = Field(
        "labels",
        description="The data's responses: labels (human), or teacher (its samples: SeqKD's data; TRL: seq_kd).",
    )
    samples_per_prompt: int | None = Field(
        None, ge=1, description="Of the teacher's responses, each prompt's first so many; null takes all."
    )
    capacity: int = Field(
        1000,
        ge=1,
        description="Student answers kept for replay, the newest; at least training.batch (DistiLLM: 1,000).",
    )
    max_new_tokens: int = Field(40, ge=1, description="Longest sampled response in tokens (TRL: 128; DistiLLM: 256).")
    sampling_temperature: float = Field(1.0, gt=0, description="Of the student's answers; above 0 (TRL: 0.9).")
    loss_temperature: float = Field(
        1.0, gt=0, description="Divides both models' logits in the loss; above 0 (papers and released code: 1)."
    )

    @property
    def needs(self) -> frozenset[str]:
        """The teacher, and its samples: those of held-out prompts to watch the divergence on, others to learn from."""
        return frozenset({"teacher_logits", "teacher_samples"})

    def problems(self, study: "Study") -> Iterator[str]:
        """Yields a weight that does not fit the divergence, and a store that holds no batch, too."""
        yield from super().problems(study)
        if (self.weight is None) == (self.divergence in _WEIGHTED):
            wanted = "a number" if self.divergence in _WEIGHTED else "null"
            yield f"weight: expected {wanted} with {self.divergence}, found {self.weight}; change one of them"
        if self.detach_mixture and self.divergence != "skew_reverse_kl":
            yield f"detach_mixture: expected false with {self.divergence}, found true; leave it out"
        if self.samples_per_prompt is not None and self.responses == "labels":
            yield "samples_per_prompt: expected null since responses are labels, found a number; leave it out"
        if self.capacity < self.training.batch:
            yield (
                f"capacity: expected at least training.batch = {self.training.batch}, found {self.capacity}; raise it"
            )
