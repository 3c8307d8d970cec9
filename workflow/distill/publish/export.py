"""Exports a finished study as one RO-Crate: workflow, results with their records, model cards, lists of packages."""

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import zipfile
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

import yaml

from distill.audit.archive import Archive, Artifact, study_archive
from distill.audit.manifest import hash_files, manifest_of
from distill.audit.verify import verify
from distill.command import Command, add_results
from distill.errors import DistillError
from distill.files import ROOT_MANIFEST, fixable_os_errors, link_or_copy, temporary_beside
from distill.publish.archive_card import licences_of, write_card
from distill.publish.crate import METADATA, RESULTS, Contents, describe_run, script_of
from distill.publish.materials import list_materials

SOURCES = (
    "Makefile",
    "README.md",
    "Snakefile",
    "config.yaml",
    "envs",
    "presets",
    "profiles",
    "pyproject.toml",
    "workflow",
)
"""What a crate takes from the repository: all that a run needs."""
CONFIG = "study.yaml"
"""Where a crate keeps the study's whole config, defaults included."""
ZIP_DATE = (1980, 1, 1, 0, 0, 0)
"""The date of each member of a ZIP file, so that equal results give equal bytes."""


def _committed(repository: Path, commit: str) -> bytes | None:
    command = ["git", "-C", str(repository), "archive", "--format=tar", commit]
    try:
        result = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        return None
    return result.stdout if result.returncode == 0 else None


def workflow_sources(repository: Path, newest: Artifact, plugins: Sequence[str]) -> tuple[str, dict[str, bytes]]:
    """Returns (version, {path: content}) of the workflow that made the results.

    It is taken from the commit that the newest artifact was made at; where that is not at hand, or had uncommitted
    changes, from the repository as it lies there.

    Args:
        repository: its folder.
        newest: the artifact that was made last.
        plugins: paths of the study's own methods; those in the repository are taken too.
    """
    wanted = (*SOURCES, *(os.path.normpath(path) for path in plugins))
    if newest.commit and newest.clean and (packed := _committed(repository, newest.commit)) is not None:
        with tarfile.open(fileobj=io.BytesIO(packed)) as tree:
            members = {
                entry.name: file.read() for entry in tree if entry.isfile() and (file := tree.extractfile(entry))
            }
        version = newest.commit
    else:
        version = f"as in the repository at the time of export; the records name {newest.commit or 'no commit'}"
        found = [path for name in wanted for path in (repository / name, *(repository / name).rglob("*"))]
        members = {
            str(path.relative_to(repository)): path.read_bytes()
            for path in found
            if path.is_file() and path.suffix != ".pyc"
        }
    taken = [name for name in sorted(members) if name in wanted or name.split("/")[0] in SOURCES]
    return version, {name: members[name] for name in taken}


def _write_folder(folder: Path, members: Mapping[str, Path | bytes], linked: Set[str]) -> None:
    for name, content in members.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            target.write_bytes(content)
        else:
            (link_or_copy if name in linked else shutil.copyfile)(content, target)


def _write_zip(path: Path, members: Mapping[str, Path | bytes], _: Set[str]) -> None:
    with zipfile.ZipFile(path, "w") as packed:
        for name in sorted(members):
            entry, content = zipfile.ZipInfo(name, ZIP_DATE), members[name]
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            with (
                packed.open(entry, "w", force_zip64=True) as target,
                io.BytesIO(content) if isinstance(content, bytes) else open(content, "rb") as source,
            ):
                shutil.copyfileobj(source, target, 1 << 20)


def _refuse(archive: Archive, output: Path) -> None:
    """Refuses a place that is taken, and results that do not verify."""
    if output.exists() or output.absolute().is_relative_to(archive.results.absolute()):
        found = "one" if output.exists() else "it in the results"
        raise DistillError(f"{output}: expected a new place beside the results, found {found}; give another --output")
    if findings := verify(archive, None).findings:
        first = findings[0]
        raise DistillError(
            f"{archive.results / first.path}: {first.message.split(';')[0]}; {len(findings)} findings: the results do "
            "not verify and are not exported: see `python -m distill verify`"
        )


def _collect(archive: Archive) -> tuple[Contents, dict[str, bytes]]:
    """Returns what a crate describes, and the content of each of its files that is not one of the results."""
    newest = max(archive.artifacts.values(), key=lambda artifact: (artifact.finished, artifact.name))
    config = archive.artifacts["report.html"].settings["config"] if "report.html" in archive.artifacts else {}
    version, sources = workflow_sources(archive.repository, newest, config.get("plugins", ()))
    for artifact in archive.artifacts.values():
        if script_of(artifact.rule) not in sources:
            raise DistillError(
                f"{artifact.path}: expected its script {script_of(artifact.rule)} in the repository, found none; check "
                f"out commit {artifact.commit}"
            )
    written = dict(sources)
    if config:
        written[CONFIG] = yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode()
    digests = {hashlib.sha256(held).hexdigest()[:16]: name for name, held in sources.items() if name.endswith(".lock")}
    locks = {
        artifact.lock: digests[artifact.lock] for artifact in archive.artifacts.values() if artifact.lock in digests
    }
    lists = {lock: f"environments/{Path(lock).stem}.cdx.json" for lock in locks.values()}
    written |= {listed: list_materials(lock, sources[lock], newest.finished).encode() for lock, listed in lists.items()}
    students = [name for name in archive.artifacts if name.startswith("models/") and name != "models/teacher"]
    cards = {name: f"cards/{Path(name).name}/README.md" for name in students}
    written |= {card: write_card(archive, archive.artifacts[name]).encode() for name, card in cards.items()}
    results = manifest_of(archive) | hash_files(archive.results, [ROOT_MANIFEST])
    files = {f"{RESULTS}/{name}": entry for name, entry in results.items()}
    files |= {name: {"size": len(held), "sha256": hashlib.sha256(held).hexdigest()} for name, held in written.items()}
    contents = Contents(
        archive=archive,
        files=dict(sorted(files.items())),
        sources=sources,
        version=version,
        config=CONFIG if config else None,
        locks=locks,
        materials=lists,
        cards=cards,
        licence=licences_of(archive),
    )
    return contents, written


def export(archive: Archive, output: Path) -> int:
    """Writes the crate of a study into a new folder, or a new ZIP file where the name ends with `.zip`.

    What rules made is hard-linked into the folder, so that there is no second copy of the weights: a rule replaces its
    files and never writes into them. Logs and benchmarks, which a rerun writes into, are copied.

    Args:
        archive: the results.
        output: what to write.

    Returns:
        The number of files in the crate.

    Raises:
        DistillError: the output is there already or lies in the results, the results do not verify, or a rule's script
            is not at hand.
    """
    _refuse(archive, output)
    contents, written = _collect(archive)
    names = {name: name.removeprefix(f"{RESULTS}/") for name in contents.files if name not in written}
    members = {name: archive.results / held for name, held in names.items()} | written
    members[METADATA] = describe_run(contents).encode()
    linked = {name for name, held in names.items() if archive.owner(held)}
    with fixable_os_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(output)
        try:
            (_write_zip if output.suffix == ".zip" else _write_folder)(temporary, members, linked)
            os.replace(temporary, output)
        finally:
            if temporary.is_dir():
                shutil.rmtree(temporary)
            elif temporary.exists():
                temporary.unlink()
    return len(members)


def _add_arguments(parser: ArgumentParser) -> None:
    add_results(parser)
    parser.add_argument("--output", type=Path, required=True, help="a new folder, or a new file NAME.zip")


def _run(options: Namespace) -> int:
    archive = study_archive(options.results)
    files = export(archive, options.output)
    print(f"{options.output}: RO-Crate of {len(archive.artifacts)} artifacts in {files} files")
    return 0


COMMAND = Command("export", "write the whole run as an RO-Crate, with model cards", _add_arguments, _run)
