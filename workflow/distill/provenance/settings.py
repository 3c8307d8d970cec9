"""A stage's slice of the config on its command line: as JSON, or in a file where it is too long for one argument."""

import hashlib
from contextlib import suppress
from pathlib import Path

from distill.errors import ConfigError, DataError
from distill.files import write_text

LONGEST = 100_000
"""Bytes of a slice on a command line; Linux takes 128 KiB for the whole command that a shell is handed."""


def as_argument(settings: str, state: Path) -> str:
    """Returns the JSON itself, or `@FILE` of a file below the state folder that holds it and is named by its digest.

    Where the folder cannot be written no job will run either, and who only looks needs no file.
    """
    content = settings.encode()
    if len(content) <= LONGEST:
        return settings
    path = state / "settings" / f"{hashlib.sha256(content).hexdigest()[:32]}.json"
    if not path.is_file():
        with suppress(DataError, OSError):
            write_text(path, settings)
    return f"@{path}"


def read_argument(argument: str) -> str:
    """Returns the JSON that `as_argument` was given.

    Raises:
        ConfigError: the file is not there.
    """
    if not argument.startswith("@"):
        return argument
    try:
        return Path(argument[1:]).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"--settings: expected the slice in {argument[1:]}, found {error.strerror}; run the rule by Snakemake, "
            "which writes it"
        ) from error
