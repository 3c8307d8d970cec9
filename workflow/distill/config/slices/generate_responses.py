"""The slice of the config that `generate_responses` depends on."""

from distill.config.base import Section
from distill.config.generation import Decoding
from distill.config.sampling import Sampling


class GenerateResponses(Section):
    """Slice of generate_responses; `max_new_tokens` is by set."""

    primary: str
    decodings: dict[str, Decoding]
    seeds: list[int]
    max_new_tokens: dict[str, int]
    wrapper: str
    sampling: Sampling
