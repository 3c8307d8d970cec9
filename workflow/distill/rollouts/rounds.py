"""Rounds of rollouts: the current student answers the next prompts, and several updates learn from the answers."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from distill.data.tokens import Encoded
from distill.files import read_json, write_json
from distill.rollouts.rollout import Rollout, load_rollouts, save_rollouts
from distill.rollouts.sampler import Sampler
from distill.seeds import sequence_seed, stage_seed

if TYPE_CHECKING:
    from distill.training.engine import TrainingEngine

_ROLLOUTS, _ROUND = "rollouts.safetensors", "round.json"


class Rounds:
    """The rounds of one run. Its prompts come in a seeded order, again and again, the order staying the same.

    Args:
        prompts: all prompts of the run.
        sampler: answers them.
        size: rollouts a round, a multiple of `group`.
        updates: optimiser updates a round.
        seed: of the run.
        group: answers to a prompt, which stand together.

    Attributes:
        rollouts, number: of the current round; empty and None before the first.
    """

    def __init__(
        self,
        prompts: Sequence[Encoded],
        sampler: Sampler,
        size: int,
        updates: int,
        seed: tuple[int | str, ...],
        group: int = 1,
    ):
        order = np.random.default_rng(stage_seed(*seed, "prompts")).permutation(len(prompts))
        self.prompts = [prompts[index] for index in order]
        self.sampler, self.size, self.updates, self.group = sampler, size, updates, group
        self._seed = stage_seed(*seed, "rollouts")
        self.number: int | None = None
        self.rollouts: list[Rollout] = []

    def prepare(self, engine: "TrainingEngine", step: int) -> list[Rollout]:
        """Returns the rollouts of update `step`'s round, sampled where the round begins; every rank calls it."""
        number = step // self.updates
        if number != self.number:
            asked = [self._asked(number, index) for index in range(self.size)]
            prompts, seeds = ([example.prompt_ids for example, _ in asked], [seed for _, seed in asked])
            self.rollouts, self.number = self.sampler.answer(engine, prompts, seeds), number
        return self.rollouts

    def prompt(self, index: int, step: int) -> Encoded:
        """Returns the prompt of a rollout of update `step`'s round, sampled or not."""
        return self._asked(step // self.updates, index)[0]

    def save(self, folder: Path) -> None:
        """Writes the current round."""
        save_rollouts(folder / _ROLLOUTS, self.rollouts)
        write_json(folder / _ROUND, {"round": self.number})

    def load(self, folder: Path) -> None:
        """Reads the round that `save` wrote."""
        self.rollouts, self.number = load_rollouts(folder / _ROLLOUTS), read_json(folder / _ROUND)["round"]

    def _asked(self, number: int, index: int) -> tuple[Encoded, int]:
        """Returns a rollout's prompt, and the seed of its answer, which no other answer to the prompt has."""
        place, sample = divmod(index, self.group)
        times, position = divmod(number * (self.size // self.group) + place, len(self.prompts))
        example = self.prompts[position]
        return example, sequence_seed(self._seed, example.id, times * self.group + sample)
