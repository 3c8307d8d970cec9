"""How many rows the data stages read, left out and kept: published beside the rows, and told at the end of a run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill.files import canonical_json, read_json, write_json

COUNTS = "counts.json"
_LEFT_OUT = (("data/split", "train", "held_out_of_train"), ("data/evaluation/dev", "dev", "leave_out"))


def publish_counts(folder: Path, counts: dict[str, Any]) -> None:
    """Writes a split's or a set's counts into its folder and into the log.

    Args:
        folder: where the rows are.
        counts: `rows` read, `dropped_...` by a limit, and what is left; `held_out_of_train` or `leave_out`: {set: rows
            that left because the set has their prompt}.
    """
    write_json(folder / COUNTS, counts)
    print(f"{COUNTS}: {canonical_json(counts)}", flush=True)


def describe_left_out(results: Path) -> Iterator[str]:
    """Yields a line for each set whose prompts left train or dev."""
    for folder, part, key in _LEFT_OUT:
        path = results / folder / COUNTS
        for name, rows in (read_json(path)[key] if path.is_file() else {}).items():
            if rows:
                yield f"{results / folder}: {rows} rows left {part} by {key}, since {name} has their prompts"
