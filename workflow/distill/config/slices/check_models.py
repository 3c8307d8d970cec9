"""The slice of the config that `check_models` depends on."""

from distill.config.base import Section


class CheckModels(Section):
    """Slice of check_models: it has none."""
