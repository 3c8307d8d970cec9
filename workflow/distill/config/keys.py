"""The keys of the config that errors name."""


def config_key(name: str) -> str:
    """Returns the config key of a gathered set: `instructions`, `dev`, `plain_text`, or an evaluation set's name."""
    return f"data.{name}" if name in ("instructions", "dev", "plain_text") else f"data.evaluation.{name}"


def run_key(recipe: str) -> str:
    """Returns the config key of a run by the name of its recipe: `teacher`, `teacher_dpo`, `[STUDENT.]phase1` or
    `[STUDENT.]RUN`.
    """
    student, _, run = recipe.rpartition(".")
    named = {"teacher": "teacher", "teacher_dpo": "preferences.teacher", "phase1": "phase1"}
    key = named.get(run, f"runs.{run}")
    return f"further_students.{student}.{key}" if student else key
