"""The slice of the config that `adopt_model` depends on."""

from distill.config.base import Section


class AdoptModel(Section):
    """Slice of adopt_model; `name` is the system's, which is the key of `external` for a model from outside."""

    name: str
