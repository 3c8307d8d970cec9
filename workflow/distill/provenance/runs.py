"""Runs of the workflow in a working folder: which of them live, and the locks of those that were killed.

Snakemake notes the files of a run in `.snakemake/locks` and refuses another run on them. A killed run leaves its lock,
which names no process. So each run is named in `.snakemake/runs` before it locks anything.
"""

import atexit
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from distill.errors import DataError
from distill.files import write_json
from distill.provenance.ownership import lives, read_owner, this_process

RUNS, LOCKS = "runs", "locks"


def begin_run(folder: Path, results: str) -> list[str]:
    """Names this process as a run until it ends, and takes away the locks of runs that were killed.

    A lock stays where any other run lives, or where nothing tells whether its run lives: that of a run on another
    machine, or of one that was not named here.

    Args:
        folder: Snakemake's own, `.snakemake`.
        results: the folder that the run makes.

    Returns:
        A line on each other run on the same results that lives, or may live.
    """
    locks = [*(folder / LOCKS).glob("*.lock")]  # those of a run that begins later stay
    own = this_process(results)
    name = folder / RUNS / f"{own.token}.json"
    lines, others, killed = list[str](), 0, 0
    with suppress(DataError, OSError):  # who may only look locks nothing
        write_json(name, asdict(own))
        atexit.register(name.unlink, missing_ok=True)
        for path in sorted({*(folder / RUNS).glob("*.json")} - {name}):
            owner = read_owner(path)
            alive = lives(owner) if owner else None
            if alive is False or (alive is None and not locks):
                path.unlink(missing_ok=True)
                killed += 1
                continue
            others += 1
            if owner and owner.work == results:
                unknown = "may make {}, which cannot be known here; if it has ended, run `snakemake --unlock`, and then"
                what = "makes {}; let it end, or stop it, and then give" if alive else f"{unknown} give"
                lines.append(f"note: {owner} {what.format(results)} the same command")
        if killed and not others:
            for path in locks:
                path.unlink(missing_ok=True)
    return lines
