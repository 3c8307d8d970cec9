"""The config's `paper` section: which of the paper's models a study repeats."""

from typing import Literal

from pydantic import Field, model_validator

from distill.config.base import Section

STUDENTS = {"GPT-2": ("120M", "340M", "760M"), "OPT": ("125M", "350M", "1.3B"), "Qwen-2.5": ("0.5B",)}
"""The paper's students by family, as its Table 1 names them."""


class Paper(Section):
    """The paper's models that a study repeats; the published numbers of their rows then stand in its tables."""

    family: Literal["GPT-2", "OPT", "Qwen-2.5"] = Field(
        description="Family of teacher and students: GPT-2 (teacher 1.5B), OPT (6.7B) or Qwen-2.5 (3B)."
    )
    students: dict[str, str] = Field(
        min_length=1, description="The paper's size of each repeated student, e.g. {student: 120M, medium: 340M}."
    )

    @model_validator(mode="after")
    def _sizes_of_the_family(self) -> "Paper":
        for name, size in self.students.items():
            if size not in STUDENTS[self.family]:
                raise ValueError(f"students.{name}: expected one of {STUDENTS[self.family]}, found {size!r}")
        return self
