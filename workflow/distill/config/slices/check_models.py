"""The slice of the config that `check_models` depends on."""

from distill.config.base import Section


class CheckModels(Section):
    """Slice of check_models: tokens of the study's longest sequence, and the config key that says so."""

    tokens: int
    key: str
