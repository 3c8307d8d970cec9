"""The root manifest: size and sha256 of every file of a study, so that one digest kept elsewhere stands for them all.

What a stage wrote enters with the digests of its seal, which covers up no later change; all else is read again.
"""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from distill.audit.archive import Archive, Entry, study_archive
from distill.command import Command, add_results
from distill.errors import DataError
from distill.files import ROOT_MANIFEST, digest_file, is_left_over, json_text, write_text


def hash_files(folder: Path, names: Iterable[str]) -> dict[str, Entry]:
    """Returns {name: {size, sha256}} of files below a folder, each read once, on as many processors as pay.

    A file is left out that went since it was listed: another run may be at work.
    """
    sizes = dict[str, int]()
    for name in names:
        with suppress(FileNotFoundError):
            sizes[name] = (folder / name).stat().st_size
    by_size = sorted(sizes, key=sizes.__getitem__)
    # A thread more pays from some megabytes on.
    processors = min(os.cpu_count() or 1, 1 + sum(sizes.values()) // 2**24)

    def read(mine: list[str]) -> dict[str, Entry]:
        found = dict[str, Entry]()
        for name in mine:
            with suppress(FileNotFoundError):
                found[name] = {"size": sizes[name], "sha256": digest_file(folder / name)}
        return found

    with ThreadPoolExecutor(processors) as pool:
        # Dealt out beforehand: handing over small files one by one would cost more than hashing them.
        parts = pool.map(read, (by_size[first::processors] for first in range(processors)))
        return {name: entry for part in parts for name, entry in part.items()}


def manifest_of(archive: Archive) -> dict[str, Entry]:
    """Returns {relative path: {size, sha256}} of all files but unpublished ones, sorted by path."""
    sealed: dict[str, Entry] = {}
    for artifact in archive.artifacts.values():
        if artifact.path.is_dir():
            try:
                sealed |= artifact.sealed()
            except DataError:  # nothing sealed it, so its files are read
                continue
    files = [name for name in archive.files() if not is_left_over(Path(name))]
    known = {name: sealed[name] for name in files if name in sealed}
    entries = known | hash_files(archive.results, (name for name in files if name not in known))
    return {name: entries[name] for name in files if name in entries}


def write_manifest(results: Path | str) -> str:
    """Writes a study's root manifest, unless it is there already; returns the sha256 of its bytes."""
    archive = Archive(results)
    path, text = archive.results / ROOT_MANIFEST, json_text(manifest_of(archive))
    try:
        content = text.encode()
    except UnicodeEncodeError as error:
        name = text[: error.end].rpartition("\n")[2].strip()
        raise DataError(f"{results}: expected files with names in UTF-8, found one from {name}; rename it") from error
    if not path.is_file() or path.read_bytes() != content:
        write_text(path, text)
    return digest_file(path)


def describe_manifest(results: Path | str, digest: str) -> str:
    """Returns the line that a run ends with."""
    return f"{Path(results) / ROOT_MANIFEST}: sha256:{digest}"


def _add_arguments(parser: ArgumentParser) -> None:
    add_results(parser)


def _run(options: Namespace) -> int:
    study_archive(options.results)
    print(describe_manifest(options.results, write_manifest(options.results)))
    return 0


COMMAND = Command("manifest", "write the root manifest, as a run does at its end", _add_arguments, _run)
