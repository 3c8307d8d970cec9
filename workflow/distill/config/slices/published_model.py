"""A model that is published: how it is asked, and how it was made."""

from typing import Any

from distill.config.base import Section


class MadeModel(Section):
    """What the card of a model says of its making.

    Attributes:
        role: whose base it has: the teacher or a student.
        run: the section of its method, without `select`; None for a model that no run of this study made.
        seed: of its training.
        sources: what it learnt from, by name; of `kind: outside` is what the config supplies ready-made.
        bases: the base models behind it, by role.
    """

    role: str
    run: dict[str, Any] | None = None
    seed: int | None = None
    sources: dict[str, dict[str, Any]] = {}
    bases: dict[str, dict[str, Any]] = {}


class PublishedModel(Section):
    """What the slices of the stages that publish a model share.

    Attributes:
        name: the system's.
        wrapper, max_new_tokens: how it is asked.
        made: what its card says of its making.
    """

    name: str
    wrapper: str
    max_new_tokens: int
    made: MadeModel
