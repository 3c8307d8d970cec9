"""The slice of the config that `select_checkpoint` depends on."""

from distill.config.base import Section


class SelectCheckpoint(Section):
    """Slice of select_checkpoint."""

    name: str
    rule: str
