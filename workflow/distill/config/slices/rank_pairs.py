"""The slice of the config that `rank_pairs` depends on."""

from distill.config.base import Section
from distill.config.deepspeed import DeepSpeed


class RankPairs(Section):
    """Slice of rank_pairs; `batch` counts the pairs of a forward pass."""

    batch: int
    wrapper: str
    deepspeed: DeepSpeed
