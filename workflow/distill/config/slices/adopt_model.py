"""The slice of the config that `adopt_model` depends on."""

from typing import Literal

from distill.config.base import Section


class AdoptModel(Section):
    """Slice of adopt_model; `name` is the key of `external`."""

    name: Literal["teacher", "phase1"]
