"""Finds results that were changed by hand since their stage wrote them: a number is made again, never edited."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from distill.errors import DataError
from distill.files import MANIFEST, STATE, digest_file, is_own, load_manifest, read_json, without_pruned
from distill.provenance.ownership import OWNERS, current_owner, lives
from distill.provenance.record import RECORD, record_path

_FOLDERS = ("*", "*/*", "data/*/*")


def _seals(results: Path) -> Iterator[Path]:
    """Yields what tells the bytes of each finished artifact: a folder's manifest, a file's record."""
    for pattern in _FOLDERS:
        yield from (path for path in sorted(results.glob(f"{pattern}/{MANIFEST}")) if is_own(results, path))
    files = sorted(path for path in results.glob("*") if path.is_file())
    yield from (record_path(path) for path in files if record_path(path).is_file())


def _sealed(seal: Path) -> dict[Path, str]:
    """Returns the files of an artifact with the digests that they had when it was sealed."""
    if seal.name == MANIFEST:
        entries = without_pruned(seal.parent, load_manifest(seal))
        return {seal.parent / name: entry["sha256"] for name, entry in entries.items()}
    path = seal.with_name(seal.name.removesuffix(RECORD))
    try:
        return {path: read_json(seal)["subject"][0]["digest"]["sha256"]}
    except (KeyError, IndexError, TypeError) as error:
        raise DataError(
            f"{seal}: expected the record of {path}, found another text; delete it and ask snakemake for {path}"
        ) from error


def _edited(seal: Path) -> str | None:
    """Returns the first file of an artifact that is not as it was sealed, with what to do; None if all are."""
    sealed = seal.stat().st_mtime
    for path, digest in _sealed(seal).items():
        found = "none" if not path.is_file() else "others"
        if found == "none" or (path.stat().st_mtime > sealed and digest_file(path) != digest):
            return (
                f"{path}: expected the bytes that its stage wrote, found {found}; results are not edited: delete "
                f"{seal if seal.name == MANIFEST else path} and ask snakemake for it by name"
            )
    return None


def _is_in_work(artifact: Path, results: Path) -> bool:
    """Returns whether a process that lives, or may live, makes an artifact."""
    owners = [current_owner(place) for place in (results / STATE / OWNERS).glob("*")]
    name = str(artifact.relative_to(results))
    return any(owner and Path(owner.work).match(name) and lives(owner) is not False for owner in owners)


def _version(path: Path) -> tuple[int, int] | None:
    with suppress(FileNotFoundError):
        status = path.stat()
        return status.st_ino, status.st_mtime_ns
    return None


def check_unedited(results: Path) -> None:
    """Refuses to go on from edited results.

    Only files newer than their seal are read, so a whole study takes a moment; a touched but equal file passes. What
    another process makes meanwhile is its own matter.

    Raises:
        DataError: a file of a finished stage is missing or has other bytes than that stage wrote.
    """
    for seal in _seals(results):
        artifact = seal.parent if seal.name == MANIFEST else seal.with_name(seal.name.removesuffix(RECORD))
        while version := _version(seal):
            try:
                problem = _edited(seal)
            except (DataError, FileNotFoundError) as error:
                problem = str(error)
            if problem is None or _is_in_work(artifact, results):
                break
            if _version(seal) == version:  # asked last: who makes an artifact seals it before it lets it go
                raise DataError(problem)
