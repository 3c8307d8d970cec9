"""The slice of the config that `validate_run` depends on."""

from distill.config.base import Section
from distill.config.generation import Decoding
from distill.config.sampling import Sampling


class ValidateRun(Section):
    """Slice of validate_run."""

    decoding: Decoding
    max_new_tokens: int
    dev_rows: int | None
    dev_seed: int
    wrapper: str
    sampling: Sampling
