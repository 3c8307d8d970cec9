"""A stage's slice of the config on its command line: as JSON, or in a file where it is too long for one argument."""

import hashlib
from contextlib import suppress
from pathlib import Path

from distill.errors import ConfigError, DataError
from distill.files import write_text

LONGEST = 100_000
"""Bytes of a slice on a command line; Linux takes 128 KiB for the whole command that a shell is handed."""


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def as_argument(settings: str, state: Path) -> str:
    """Returns the JSON itself, or `@FILE` of a file below the state folder that holds it and is named by its digest.

    Where the folder cannot be written no job will run either, and who only looks needs no file.
    """
    content = settings.encode()
    if len(content) <= LONGEST:
        return settings
    path = state / "settings" / f"{_digest(content)}.json"
    with suppress(DataError, OSError):
        if not path.is_file() or _digest(path.read_bytes()) != path.stem:
            write_text(path, settings)
    return f"@{path}"


def read_argument(argument: str) -> str:
    """Returns the JSON that `as_argument` was given.

    Raises:
        ConfigError: the file is not there, or has other bytes than its name tells.
    """
    if not argument.startswith("@"):
        return argument
    path, found = Path(argument[1:]), "others than its name tells"
    try:
        content = path.read_bytes()
        if _digest(content) == path.stem:
            return content.decode()
    except OSError as error:
        found = str(error.strerror)
    raise ConfigError(
        f"--settings: expected the bytes of the slice in {path}, found {found}; run the rule by Snakemake, which "
        "writes it"
    )
