"""The slice of the config that `build_values` depends on."""

from distill.config.deepspeed import DeepSpeed
from distill.config.preferences import Values


class BuildValues(Values):
    """Slice of build_values, besides the section itself."""

    wrapper: str
    deepspeed: DeepSpeed
