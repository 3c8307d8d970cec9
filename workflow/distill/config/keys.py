"""The keys of the config that errors name."""


def config_key(name: str) -> str:
    """Returns the config key of a gathered set: `instructions`, `dev`, `plain_text`, or an evaluation set's name."""
    return f"data.{name}" if name in ("instructions", "dev", "plain_text") else f"data.evaluation.{name}"
