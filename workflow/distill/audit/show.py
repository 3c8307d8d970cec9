"""The record of an artifact in plain words."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator

from distill.audit.archive import Archive, Artifact, study_archive
from distill.audit.jobs import beside, job_of
from distill.audit.words import count, describe, duration, flat, listed, seconds
from distill.command import Command, add_results, say


def _labelled(label: str, lines: list[str]) -> Iterator[str]:
    for index, line in enumerate(lines):
        yield f"  {'' if index else label:<13}{line}"


def users_of(archive: Archive, artifact: Artifact) -> list[str]:
    """Returns the names of the artifacts that were made from one directly."""
    return [
        name
        for name, other in archive.artifacts.items()
        if any(entry.artifact is artifact for entry in archive.inputs(other))
    ] or ["nothing"]


def tell(archive: Archive, artifact: Artifact, key: str) -> Iterator[str]:
    """Yields what a record says, a line a fact.

    Args:
        archive: the results.
        artifact: whose record it is.
        key: the path that was asked for: the artifact's, or that of one of its files.

    Raises:
        DataError: the artifact's manifest is gone.
    """
    files = artifact.files()
    yield f"{artifact.name}: {describe(archive, artifact)}"
    if key in files and key != artifact.name:
        yield from _labelled("file", [f"{key}, {files[key]['size']:,} bytes, sha256 {files[key]['sha256']}"])
    lists = f", which lists {count(len(files), 'file')}" if artifact.seal != artifact.name else ""
    yield from _labelled("digest", [f"sha256 {artifact.digest} of {artifact.seal}{lists}"])
    yield from _labelled("made by", [f"rule {artifact.rule}, {artifact.command[1]}"])
    yield from _labelled("when", [f"{artifact.started} to {artifact.finished}, {duration(seconds(artifact))}"])
    resumed = {True: ", resumed from an earlier one", False: ", from the start", None: ""}[artifact.resumed]
    yield from _labelled("tries", [f"{artifact.tries}{resumed}"])
    yield from _labelled("host", [f"{key} {value}" for key, value in flat(artifact.host).items()])
    yield from _labelled("used", [f"{key} {value}" for key, value in artifact.usage.items()])
    state = {True: ", nothing changed", False: ", with uncommitted changes", None: ""}[artifact.clean]
    commit = f", commit {artifact.commit}{state}" if artifact.commit else ""
    yield from _labelled("code", [f"{artifact.code}{commit}"])
    yield from _labelled("lock", [artifact.lock])
    yield from _labelled("versions", [listed((f"{key} {value}" for key, value in artifact.versions.items()), 99)])
    yield from _labelled("settings", [f"{key} = {value}" for key, value in flat(artifact.settings).items()])
    yield from _labelled(
        "inputs",
        [
            f"{entry.name:<13} {entry.uri}{'' if entry.is_inside else ', from outside'}, sha256 {entry.sha256[:16]}"
            for entry in archive.inputs(artifact)
        ],
    )
    yield from _labelled("notes", [f"{key} = {value}" for key, value in flat(artifact.notes).items() if key])
    besides = [name for folder in ("logs", "benchmarks") if (name := beside(archive, artifact, folder))]
    yield from _labelled("beside it", besides)
    yield from _labelled("used by", [listed(users_of(archive, artifact), 99)])


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("paths", nargs="*", metavar="PATH", help="a file of the results; none lists all artifacts")
    add_results(parser)


def _run(options: Namespace) -> int:
    archive = study_archive(options.results)
    if not options.paths:
        for name, artifact in archive.artifacts.items():
            say(f"{name:<34} {artifact.digest[:12]}  {describe(archive, artifact)}")
    for path in options.paths:
        say(*tell(archive, job_of(archive, path), archive.key(path)))
    return 0


COMMAND = Command("show", "say what the record of an artifact holds", _add_arguments, _run)
