"""The slice of the config that `adopt_model` depends on."""

from distill.config.base import Section


class AdoptModel(Section):
    """Slice of adopt_model; `name` is the system's, which is the key of `external` for a model from outside.

    `wrapper` and `max_new_tokens` are how the published model is asked.
    """

    name: str
    wrapper: str
    max_new_tokens: int
