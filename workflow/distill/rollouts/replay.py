"""A replay buffer of sampled responses: first in, first out."""

from collections import deque
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from distill.rollouts.rollout import Rollout, load_rollouts, save_rollouts

_FILE = "replay.safetensors"


class Replay:
    """The newest `capacity` rollouts, the same on every process."""

    def __init__(self, capacity: int):
        self.rollouts: deque[Rollout] = deque(maxlen=capacity)

    @property
    def is_full(self) -> bool:
        """Whether the next rollout pushes one out."""
        return len(self.rollouts) == self.rollouts.maxlen

    def add(self, rollouts: Iterable[Rollout]) -> None:
        """Stores rollouts; the oldest leave."""
        self.rollouts.extend(rollouts)

    def draw(self, count: int, seed: int) -> list[Rollout]:
        """Returns `count` different ones, of at least as many, by a seed."""
        places = np.random.default_rng(seed).choice(len(self.rollouts), count, replace=False)
        return [self.rollouts[place] for place in places]

    def save(self, folder: Path) -> None:
        """Writes what is stored."""
        save_rollouts(folder / _FILE, list(self.rollouts))

    def load(self, folder: Path) -> None:
        """Reads what `save` wrote."""
        self.rollouts.extend(load_rollouts(folder / _FILE))
