"""The slice of the config that `select_checkpoint` depends on."""

from distill.config.base import Section
from distill.config.slices.made_model import MadeModel


class SelectCheckpoint(Section):
    """Slice of select_checkpoint; `wrapper` and `max_new_tokens` are how the published model is asked, `made` is what
    its card tells of it.
    """

    name: str
    rule: str
    wrapper: str
    max_new_tokens: int
    made: MadeModel
