"""The keys of the config that errors name."""


def config_key(name: str) -> str:
    """Returns the config key of a gathered set: `instructions`, `dev`, `plain_text`, or an evaluation set's name."""
    return f"data.{name}" if name in ("instructions", "dev", "plain_text") else f"data.evaluation.{name}"


def run_key(recipe: str) -> str:
    """Returns the config key of a run by the name of its recipe: `teacher`, `[STUDENT.]phase1` or `[STUDENT.]RUN`."""
    student, _, run = recipe.rpartition(".")
    key = run if run in ("teacher", "phase1") else f"runs.{run}"
    return f"further_students.{student}.{key}" if student else key
