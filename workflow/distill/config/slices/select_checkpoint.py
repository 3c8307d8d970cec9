"""The slice of the config that `select_checkpoint` depends on."""

from distill.config.base import Section


class SelectCheckpoint(Section):
    """Slice of select_checkpoint; `wrapper` and `max_new_tokens` are how the published model is asked."""

    name: str
    rule: str
    wrapper: str
    max_new_tokens: int
