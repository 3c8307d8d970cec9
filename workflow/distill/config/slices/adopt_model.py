"""The slice of the config that `adopt_model` depends on."""

from distill.config.base import Section
from distill.config.slices.made_model import MadeModel


class AdoptModel(Section):
    """Slice of adopt_model; `name` is the system's, which is the key of `external` for a model from outside.

    `wrapper` and `max_new_tokens` are how the published model is asked, `made` is what its card tells of it.
    """

    name: str
    wrapper: str
    max_new_tokens: int
    made: MadeModel
