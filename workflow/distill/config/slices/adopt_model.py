"""The slice of the config that `adopt_model` depends on."""

from distill.config.slices.published_model import PublishedModel


class AdoptModel(PublishedModel):
    """Slice of adopt_model; of a model from outside, `name` is its key of `external`."""
