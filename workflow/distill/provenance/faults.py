"""What a failure means for the user: one line and an exit code, whoever raised it."""

import os
import re
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from distill.errors import DistillError, one_line
from distill.files import FULL, explain_os_error
from distill.stopping import Stopped

_LONGEST = 300
_OURS = re.compile(r"/distill/(?!provenance/stage\.py)|/workflow/scripts/")
_FULL = re.compile("|".join(map(re.escape, map(os.strerror, FULL))))
# What torch says where its archive writer could not write; it tells no reason.
_UNWRITTEN = re.compile("PytorchStreamWriter failed|inline_container|unexpected pos")
_MEMORY = re.compile("out of memory|can't allocate memory|cannot allocate memory|No available memory", re.IGNORECASE)
_FREE_MEMORY = re.compile(r"^MemAvailable:\s+(\d+) kB", re.MULTILINE)


class Ended(NamedTuple):
    """How a stage that failed ends: the line without its rule, and the exit code."""

    message: str
    code: int


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yields an error and those that it came from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _full_disk(error: BaseException, place: Path) -> DistillError | None:
    """Explains that a file could not grow, also where a library says so in an error of its own."""
    if isinstance(error, OSError) and error.errno in FULL:
        return explain_os_error(error.errno, error.filename or place)
    text = str(error)
    if found := _FULL.search(text):
        return explain_os_error(next(number for number in FULL if os.strerror(number) == found[0]), place)
    return explain_os_error(FULL[0], place) if _UNWRITTEN.search(text) else None


def _memory(error: BaseException) -> str | None:
    """Explains a lack of memory, of the machine or of a GPU."""
    if not (isinstance(error, MemoryError) or _MEMORY.search(str(error)) or type(error).__name__ == "OutOfMemoryError"):
        return None
    free = ""
    with suppress(OSError):
        if found := _FREE_MEMORY.search(Path("/proc/meminfo").read_text(encoding="utf-8")):
            free = f" with {int(found[1]) / 1e3:.0f} MB of the machine's free"
    return (
        f"expected enough memory, found {_words(error)}{free}; make the batch smaller (`micro_batch`, "
        "`sampling.max_sequences`, `candidates.batch`) or give the job more"
    )


def _words(error: BaseException) -> str:
    text = one_line(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _place_of(error: BaseException) -> str:
    """Returns the line of this package, or of the last code at all, that an error came through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if _OURS.search(frame.filename)]
    if not frames:
        return "the stage"
    frame = (ours or frames)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


def explain(error: BaseException, output: Path) -> Ended:
    """Returns how a stage ends.

    Args:
        error: what it raised; with its traceback.
        output: what it was to make; named where the system names no file.
    """
    if isinstance(error, DistillError):
        return Ended(str(error), error.exit_code if isinstance(error, Stopped) else 2)
    if isinstance(error, OSError) and (explained := explain_os_error(error.errno, error.filename or output)):
        return Ended(str(explained), 2)
    for one in _chain(error):
        if full := _full_disk(one, output):
            return Ended(str(full), 2)
        if message := _memory(one):
            return Ended(message, 2)
    if isinstance(error, SystemExit):
        found = f"a call of exit ({error.code})"
        return Ended(one_line(f"{_place_of(error)}: expected the stage to go on, found {found}; take it out"), 1)
    return Ended(
        f"{_place_of(error)}: expected no such failure, found {_words(error)}; see the lines above, and report them if "
        "neither your files nor your machine explain it",
        1,
    )
