"""The evaluated models of a study and their names."""

from dataclasses import dataclass

TEACHER, PREFERENCE_TEACHER, MAIN_STUDENT = "teacher", "teacher_dpo", "student"
PHASE_1, BASE = "phase1", "base"
"""What a student is before its runs: after phase 1, or its base where the study has no phase 1."""


@dataclass(frozen=True)
class System:
    """One evaluated model.

    Attributes:
        student: the student's name, `student` for the main one; empty for a teacher.
        run: the run's name, `phase1`, `base`, `teacher` or `teacher_dpo`.
        seed: the training seed; None for a teacher, which the whole study shares.
        is_first_seed: whether it is the study's own seed.
        given: where the config's `external` has it; None for one that is made here.
    """

    student: str
    run: str
    seed: int | None
    is_first_seed: bool = True
    given: str | None = None

    @property
    def name(self) -> str:
        """The name of its folders: `[STUDENT.]RUN[.seedN]`, without what is the study's own."""
        return self.beside(self.run)

    @property
    def is_trained(self) -> bool:
        """Whether it is a training run of this study."""
        return self.given is None and self.run != BASE

    @property
    def recipe(self) -> str:
        """The name without the seed."""
        return self.run if self.student in ("", MAIN_STUDENT) else f"{self.student}.{self.run}"

    def beside(self, run: str) -> str:
        """Returns the name of another run of the same student and seed."""
        recipe = System(self.student, run, self.seed).recipe
        return recipe if self.is_first_seed else f"{recipe}.seed{self.seed}"
