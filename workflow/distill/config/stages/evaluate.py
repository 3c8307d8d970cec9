"""Config slices of generation and scoring."""

from distill.config.base import Section
from distill.config.sampling import Decoding, Sampling


class GenerateResponses(Section):
    """Slice of generate_responses."""

    primary: str
    decodings: dict[str, Decoding]
    seeds: list[int]
    max_new_tokens: int
    wrapper: str
    sampling: Sampling


class ScoreResponses(Section):
    """Slice of score_responses."""

    system: str
