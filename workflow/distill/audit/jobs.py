"""Which job a file belongs to: what it wrote, its record, its log, and what Snakemake measured of it."""

from pathlib import Path

from distill.audit.archive import Archive, Artifact
from distill.errors import DataError

_BESIDE = {"logs": ".log", "benchmarks": ".tsv"}


def beside(archive: Archive, artifact: Artifact, folder: str) -> str | None:
    """Returns the file of an artifact's job in `logs` or `benchmarks`; None if there is none."""
    names = (f"{artifact.rule}/{artifact.path.name}", artifact.rule)
    files = (f"{folder}/{name}{_BESIDE[folder]}" for name in names)
    return next((file for file in files if (archive.results / file).is_file()), None)


def job_of(archive: Archive, path: Path | str) -> Artifact:
    """Returns the artifact of the job that a file belongs to.

    Raises:
        DataError: there is no such file, or no job wrote it.
    """
    key, owner = archive.key(path), archive.owner(path)
    if owner is None:
        jobs = archive.artifacts.values()
        owner = next(
            (one for one in jobs if key in (beside(archive, one, "logs"), beside(archive, one, "benchmarks"))), None
        )
    is_there = (archive.results / key).exists() or (owner is not None and key in owner.files())
    if owner is None or not is_there:
        raise DataError(f"{path}: expected a file of a job, found none; `show` alone lists all artifacts")
    return owner
