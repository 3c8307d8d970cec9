"""A compared model's place in the study, as the tables need it."""

from typing import Any

from distill.config.base import Section
from distill.config.training import Training


class ReportedSystem(Section):
    """A compared model's place in the study.

    Attributes:
        student: the student's name, `student` for the main one; empty for the teacher.
        run: the run's name, `phase1`, `base` or `teacher`.
        method: the run's method.
        is_control: whether the others are compared with it.
        seed: the training seed; None for the teacher.
        options: the run's own section without `training`.
        training: its recipe; None for a model supplied from outside, which this study did not train.
    """

    student: str
    run: str
    method: str
    is_control: bool
    seed: int | None
    options: dict[str, Any]
    training: Training | None
