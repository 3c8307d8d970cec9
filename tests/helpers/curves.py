"""TensorBoard's event files, read as TensorBoard reads them."""

from pathlib import Path

import pytest

from distill.files import read_jsonl


def shown_in(folder: Path) -> list[tuple[str, int, float]]:
    """Returns the (name, step, value) of every scalar in a folder's event files, sorted."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(folder), {accumulator.SCALARS: 0}).Reload()
    return sorted((name, event.step, event.value) for name in found.Tags()["scalars"] for event in found.Scalars(name))


def logged_in(folder: Path) -> list[tuple[str, int, float]]:
    """Returns what the logs of a training hold of it; event files have float32."""
    rows = [("", row) for _, row in read_jsonl(folder / "metrics.jsonl")]
    rows += [("dev/", row) for _, row in read_jsonl(folder / "dev.jsonl")]
    found = [(f"{prefix}{name}", row["step"], row[name]) for prefix, row in rows for name in row.keys() - {"step"}]
    return sorted((name, step, pytest.approx(value, rel=1e-6, abs=1e-30)) for name, step, value in found)
