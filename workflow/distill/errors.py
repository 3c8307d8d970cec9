"""The package's errors: each message is one line: the place, what was expected, what was found, the fix."""

LONGEST = 900
"""Characters of a message; of a longer one the middle is left out, for it quotes what somebody else wrote."""


def shown(line: str) -> str:
    """Returns a line as a terminal can show it: every sign that could steer it is written as an escape."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in line)


def one_line(text: str) -> str:
    """Returns a text as one line that a terminal can show."""
    return shown(" ".join(text.split()))


class DistillError(Exception):
    """A mistake the user can fix; a stage command prints the message on one line and exits with 2."""

    def __init__(self, message: str):
        line = one_line(message)
        if len(line) > LONGEST:
            half = (LONGEST - len(" [...] ")) // 2
            line = f"{line[:half]} [...] {line[-half:]}"
        super().__init__(line)


class ConfigError(DistillError):
    """A config key is unknown, has a wrong type, or contradicts another key; the message starts with the key's path."""


class DataError(DistillError):
    """A data file is missing, malformed, empty or too small; the message starts with `file:line` where there is one."""


class ModelError(DistillError):
    """A model, tokenizer or checkpoint is missing, damaged, or does not fit its partner."""


class ServiceError(DistillError):
    """A model behind a server cannot be reached, refuses the key, tells nothing, or would cost more than its cap."""
