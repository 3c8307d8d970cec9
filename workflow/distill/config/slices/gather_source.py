"""The slice of the config that `gather_source` depends on."""

from distill.config.base import Section
from distill.config.sources import Source, TextSource


class GatherSource(Section):
    """Slice of gather_source; `name` is instructions, dev, plain_text or an evaluation set."""

    name: str
    source: Source | TextSource
    seed: int
