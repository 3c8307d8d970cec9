"""The slice of the config that `select_checkpoint` depends on."""

from distill.config.base import Section
from distill.config.runs import SelectionRule


class SelectCheckpoint(Section):
    """Slice of select_checkpoint."""

    name: str
    rule: SelectionRule
