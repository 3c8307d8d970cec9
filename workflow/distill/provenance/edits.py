"""Finds results that were changed by hand since their stage wrote them: a number is made again, never edited."""

from collections.abc import Iterator
from pathlib import Path

from distill.errors import DataError
from distill.files import MANIFEST, digest_file, is_own, load_manifest, read_json, without_pruned
from distill.provenance.record import record_path

_FOLDERS = ("*", "*/*", "data/*/*")


def _sealed(results: Path) -> Iterator[tuple[Path, float, str]]:
    """Yields every file that a finished stage left, when it was sealed, and the digest that it had then."""
    for pattern in _FOLDERS:
        for manifest in sorted(results.glob(f"{pattern}/{MANIFEST}")):
            if not is_own(results, manifest):
                continue
            for name, entry in without_pruned(manifest.parent, load_manifest(manifest)).items():
                yield manifest.parent / name, manifest.stat().st_mtime, entry["sha256"]
    for path in sorted(path for path in results.glob("*") if path.is_file() and record_path(path).is_file()):
        record = record_path(path)
        try:
            digest = read_json(record)["subject"][0]["digest"]["sha256"]
        except (KeyError, IndexError, TypeError) as error:
            raise DataError(
                f"{record}: expected the record of {path}, found another text; delete it and ask snakemake for {path}"
            ) from error
        yield path, record.stat().st_mtime, digest


def check_unedited(results: Path) -> None:
    """Refuses to go on from edited results.

    Only files newer than their seal are read, so a whole study takes a moment; a touched but equal file passes.

    Raises:
        DataError: a file of a finished stage is missing or has other bytes than that stage wrote.
    """
    for path, sealed, digest in _sealed(results):
        found = "none" if not path.is_file() else "others"
        if found == "none" or (path.stat().st_mtime > sealed and digest_file(path) != digest):
            mark = path.parent / MANIFEST if (path.parent / MANIFEST).is_file() else path
            raise DataError(
                f"{path}: expected the bytes that its stage wrote, found {found}; results are not edited: delete "
                f"{mark} and ask snakemake for it by name"
            )
