"""Answers of a model in training, shared among processes and scored as they are drawn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from distill.models.packed import PackedModel
from distill.models.packing import PackedBatch, pack_sequences
from distill.rollouts.engine_process import EngineProcess
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
        process: answers in place of `sample_mixture`, where there is no teacher in the mixture.
    """

    eos_id: int
    max_new_tokens: int
    batch: int
    temperature: float = 1.0
    teacher: PackedModel | None = None
    teacher_mix: float = 0.0
    score: Score = no_scores
    process: EngineProcess | None = None

    def answer(
        self,
        engine: "TrainingEngine",
        prompts: Sequence[list[int]],
        seeds: Sequence[int],
        model: PackedModel | None = None,
    ) -> list[Rollout]:
        """Returns one response a prompt, each by a seed of its own; every rank answers its share, and all get all.

        `model`: one in eval mode that answers in place of the one in training.
        """
        first, end = (rank * len(prompts) // engine.world for rank in (engine.rank, engine.rank + 1))
        engine.model.eval()
        rollouts = self.sample(model or engine.model, prompts[first:end], seeds[first:end])
        engine.model.train()
        return engine.gather(rollouts)

    @torch.no_grad()
    def sample(self, student: PackedModel, prompts: Sequence[list[int]], seeds: Sequence[int]) -> list[Rollout]:
        """Returns one response a prompt, by this process alone, of a student in eval mode."""
        batches = [slice(start, start + self.batch) for start in range(0, len(prompts), self.batch)]
        if self.process:
            responses = self.process.answer(student, prompts, seeds, self.max_new_tokens, self.temperature)
        else:
            responses = [own for rows in batches for own in self._draw(student, prompts[rows], seeds[rows])]
        pairs = list(zip(prompts, responses, strict=True))
        return [rollout for rows in batches for rollout in self._scored(student, pairs[rows], seeds[rows])]

    def _draw(self, student: PackedModel, prompts: Sequence[list[int]], seeds: Sequence[int]) -> list[list[int]]:
        mixture, limits = (student, self.teacher, self.teacher_mix), (self.eos_id, self.max_new_tokens)
        return sample_mixture(*mixture, prompts, seeds, *limits, self.temperature)

    def _scored(
        self, student: PackedModel, pairs: Sequence[tuple[list[int], list[int]]], seeds: Sequence[int]
    ) -> list[Rollout]:
        batch = pack_sequences(pairs, student.model.device, with_final_state=False)
        scores = {
            name: own.cpu().split(batch.response_lengths) for name, own in self.score(student, batch, seeds).items()
        }
        # Copies, since a slice would be sent to the other ranks with the whole tensor behind it.
        return [
            Rollout(*pair, {name: own[place].clone() for name, own in scores.items()})
            for place, pair in enumerate(pairs)
        ]
