"""The config's `candidates` section."""

from pydantic import Field

from distill.config.base import Section


class Candidates(Section):
    """The teacher's top-p sets along its own samples, computed once."""

    p_max: float = Field(0.95, gt=0, lt=1, description="Largest p kept; any smaller p is a prefix; in (0, 1).")
    batch: int = Field(64, ge=1, description="Sequences a teacher forward pass; at least 1.")
