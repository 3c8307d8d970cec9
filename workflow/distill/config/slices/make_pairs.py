"""The slice of the config that `make_pairs` depends on."""

from distill.config.base import Section
from distill.config.preferences import Pairs


class MakePairs(Section):
    """Slice of make_pairs; `seed` is the world's, or that of the split for files."""

    pairs: Pairs
    seed: int
    wrapper: str
    max_prompt_tokens: int
    max_total_tokens: int
