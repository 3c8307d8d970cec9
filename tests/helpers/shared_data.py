"""Real data for tests: the folder DISTILL_SHARED_DATA, or shared/data beside the repository; absent is a skip."""

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("DISTILL_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))


def shared_data(name: str) -> Path:
    """Returns a file of the real data, or skips the test."""
    if not (FOLDER / name).exists():
        pytest.skip(f"needs {name} of the real data; set DISTILL_SHARED_DATA to its folder")
    return FOLDER / name
