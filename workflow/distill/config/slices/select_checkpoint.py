"""The slice of the config that `select_checkpoint` depends on."""

from distill.config.slices.published_model import PublishedModel


class SelectCheckpoint(PublishedModel):
    """Slice of select_checkpoint; `rule` says what the checkpoint is selected by."""

    rule: str
