"""The slice of the config that `gather_samples` depends on."""

from distill.config.base import Section


class GatherSamples(Section):
    """Slice of gather_samples: it has none."""
