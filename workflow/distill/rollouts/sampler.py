"""Answers of a model in training, shared among processes and scored as they are drawn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from distill.models.packed import PackedModel
from distill.models.packing import PackedBatch, pack_sequences
from distill.rollouts.mixed_sampling import sample_mixture
from distill.rollouts.rollout import Rollout

if TYPE_CHECKING:
    from distill.training.engine import TrainingEngine

Score = Callable[[PackedModel, PackedBatch, Sequence[int]], dict[str, Tensor]]
"""(student, responses, their seeds) -> what is kept of each of their N states, [N, ...], by name; without gradients."""


def no_scores(student: PackedModel, batch: PackedBatch, seeds: Sequence[int]) -> dict[str, Tensor]:
    """Keeps the tokens alone."""
    return {}


@dataclass(frozen=True)
class Sampler:
    """How a student answers in training.

    Attributes:
        eos_id, max_new_tokens: end a response.
        batch: prompts answered and scored at once.
        temperature: of student and teacher; above 0.
        teacher, teacher_mix: what `sample_mixture` takes.
        score: what is kept beside the tokens.
    """

    eos_id: int
    max_new_tokens: int
    batch: int
    temperature: float = 1.0
    teacher: PackedModel | None = None
    teacher_mix: float = 0.0
    score: Score = no_scores

    def answer(self, engine: "TrainingEngine", prompts: Sequence[list[int]], seeds: Sequence[int]) -> list[Rollout]:
        """Returns one response a prompt, each by a seed of its own; every rank answers its share, and all get all."""
        first, end = (rank * len(prompts) // engine.world for rank in (engine.rank, engine.rank + 1))
        engine.model.eval()
        rollouts = self.sample(engine.model, prompts[first:end], seeds[first:end])
        engine.model.train()
        return engine.gather(rollouts)

    @torch.no_grad()
    def sample(self, student: PackedModel, prompts: Sequence[list[int]], seeds: Sequence[int]) -> list[Rollout]:
        """Returns one response a prompt, by this process alone, of a student in eval mode."""
        starts = range(0, len(prompts), self.batch)
        batches = (slice(start, start + self.batch) for start in starts)
        return [rollout for rows in batches for rollout in self._sample(student, prompts[rows], seeds[rows])]

    def _sample(self, student: PackedModel, prompts: Sequence[list[int]], seeds: Sequence[int]) -> list[Rollout]:
        responses = sample_mixture(
            student,
            self.teacher,
            self.teacher_mix,
            prompts,
            seeds,
            self.eos_id,
            self.max_new_tokens,
            self.temperature,
        )
        pairs = list(zip(prompts, responses, strict=True))
        batch = pack_sequences(pairs, student.model.device, with_final_state=False)
        scores = {
            name: own.cpu().split(batch.response_lengths) for name, own in self.score(student, batch, seeds).items()
        }
        # Copies, since a slice would be sent to the other ranks with the whole tensor behind it.
        return [
            Rollout(*pair, {name: own[place].clone() for name, own in scores.items()})
            for place, pair in enumerate(pairs)
        ]
