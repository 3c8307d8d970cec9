"""The slice of the config that `measure_efficiency` depends on."""

from distill.config.base import Section
from distill.config.generation import Decoding
from distill.config.sampling import Sampling


class MeasureEfficiency(Section):
    """Slice of measure_efficiency; answers are asked for as the first evaluation set's are."""

    prompts: int
    decoding: Decoding
    seed: int
    max_new_tokens: int
    wrapper: str
    sampling: Sampling
