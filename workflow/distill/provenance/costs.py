"""What stages cost, as their records tell it."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from distill.files import read_json
from distill.provenance.record import record_path


def _record(artifact: Path) -> dict | None:
    path = record_path(artifact)
    return read_json(path)["predicate"] if path.is_file() else None


def _inputs(artifact: Path, name: str, results: Path) -> Iterator[Path]:
    """Yields the artifacts that went into one under this name, as its record has them."""
    record = _record(artifact)
    for entry in record["buildDefinition"]["resolvedDependencies"] if record else ():
        uri = Path(entry["uri"])
        root = results if uri.is_relative_to(results) else Path(results.name)
        if entry["name"] == name and uri.is_relative_to(root):
            yield results / uri.relative_to(root)


def _hours(jobs: set[Path]) -> float | None:
    """Returns the time of finished jobs together; None where no record tells it. Of a resumed job a record knows the
    last try.
    """
    records = [record["runDetails"]["metadata"] for artifact in sorted(jobs) if (record := _record(artifact))]
    times = [[datetime.fromisoformat(record[key]) for key in ("startedOn", "finishedOn")] for record in records]
    return sum((end - start).total_seconds() for start, end in times) / 3600 if times else None


def shared_hours(runs: list[Path], results: Path) -> dict[str, float]:
    """Returns the hours that went once into what several runs learn from, where records tell them."""
    samples, candidates = (
        {folder for run in runs for folder in _inputs(run, name, results)} for name in ("samples", "candidates")
    )
    shards = {shard for folder in samples for shard in _inputs(folder, "shards", results)}
    hours = {"teacher samples": _hours(shards), "candidate sets": _hours(candidates)}
    return {cost: value for cost, value in hours.items() if value is not None}
