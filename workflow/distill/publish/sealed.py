"""Sealed folders that leave a study: whole, and with the bytes that were sealed."""

from pathlib import Path
from typing import Any

from distill.errors import DataError, DistillError
from distill.files import MANIFEST, digest_file, is_study, read_manifest


def check_beside_results(place: Path) -> None:
    """Raises a DistillError for a place in a study's results: it would no longer verify."""
    here = place.resolve()
    if study := next(filter(is_study, (here, *here.parents)), None):
        raise DistillError(f"{place}: expected a place beside the results, found it in {study}; give another one")


def read_sealed(folder: Path) -> dict[str, dict[str, Any]]:
    """Returns a folder's manifest, once every file has been read against it.

    Raises:
        DataError: the folder is not sealed, or not what was sealed.
    """
    manifest = read_manifest(folder)
    for name, entry in manifest.items():
        if digest_file(folder / name) != entry["sha256"]:
            raise DataError(
                f"{folder / name}: expected the bytes that {MANIFEST} seals, found others; copy the folder again, or "
                f"delete {folder / MANIFEST} and rerun to make it again"
            )
    return manifest
