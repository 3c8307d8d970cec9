"""What stages cost, as their records tell it."""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from distill.files import read_json

SHARED = {"teacher samples": "sampling_records", "candidate sets": "candidates_records"}
"""What is made once for all runs, and the input of make_tables that has the records of the jobs that made it."""


def hours_of(records: Iterable[Path]) -> float | None:
    """Returns the time of finished jobs together; None without a record. Of a resumed job a record has the last try."""
    metadata = [read_json(record)["predicate"]["runDetails"]["metadata"] for record in records]
    times = [[datetime.fromisoformat(times[key]) for key in ("startedOn", "finishedOn")] for times in metadata]
    return sum((end - start).total_seconds() for start, end in times) / 3600 if times else None
