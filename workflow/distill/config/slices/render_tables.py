"""The slice of the config that `render_tables` depends on."""

from distill.config.base import Section
from distill.config.deepspeed import DeepSpeed
from distill.config.generation import Decoding
from distill.config.sampling import Sampling


class RenderTables(Section):
    """Slice of render_tables; the first decoding is the primary one.

    Attributes:
        words: digest of what the tables' files say in their docstrings, which the pages show; older records have none.
    """

    title: str
    words: str = ""
    embedded: bool
    decodings: dict[str, Decoding]
    deepspeed: DeepSpeed
    sampling: Sampling
