"""Checks that results are what their rules made, byte for byte, and what the repository would make today."""

import re
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from distill.audit.archive import Archive, Artifact, Entry, read_entries
from distill.audit.keys import present_key
from distill.audit.manifest import hash_files
from distill.command import Command, say
from distill.errors import ConfigError, DataError
from distill.files import CARD, MANIFEST, PRUNED, ROOT_MANIFEST, digest_file, json_text
from distill.provenance.record import RECORD
from distill.study.load import load_study
from distill.study.places import results_folder
from distill.study.study import Study

REDO = "restore it, or make it again"
RERUN = "rerun, or name the config that made it by --configfile"
UNOWNED = ("README.md", "logs", "benchmarks")
"""What lies in results and is no output of a rule."""


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        path: of the file or artifact, relative to the results folder.
        kind: missing, added, changed, truncated, swapped, manifest, record, unexplained, or stale.
        message: what was expected, what was found, and what to do.
    """

    path: str
    kind: str
    message: str


@dataclass(frozen=True)
class Verification:
    """What a verification found, and what it read.

    Attributes:
        findings: sorted by path.
        artifacts: how many artifacts were checked.
        files: how many files were read, each once.
        size: their bytes.
        seconds: the time that reading and hashing them took.
        digest: the root manifest's sha256; None without one.
    """

    findings: list[Finding]
    artifacts: int
    files: int
    size: int
    seconds: float
    digest: str | None


def verify(
    archive: Archive, study: Study | None, paths: Sequence[str | Path] = (), expect: str | None = None
) -> Verification:
    """Compares results with their seals, records and root manifest, and their records with the repository.

    Args:
        archive: the results.
        study: the config that made them; None leaves out whether they are stale.
        paths: only these files, folders or artifacts, and all that they were made from; by default everything.
        expect: the root manifest's sha256, as kept elsewhere.

    Raises:
        DataError: a path is no part of the results, or the repository lacks a file of the workflow.
    """
    check = _Check(archive, [archive.key(path) for path in paths])
    for path, key in zip(paths, check.keys, strict=True):
        if not any(name == key or name.startswith(f"{key}/") or key == "." for name in check.names):
            raise DataError(f"{path}: expected a file, folder or artifact of {archive.results}, found none")
    digest = digest_file(archive.results / ROOT_MANIFEST) if check.rooted is not None else None
    if expect is not None and digest not in (None, expect):
        check.add(ROOT_MANIFEST, "manifest", f"expected sha256 {expect}, found {digest}; these are other results")
    check.bytes_are_sealed()
    check.records_fit()
    check.inputs_are_explained()
    check.files_are_owned()
    if study is not None:
        check.keys_are_present(study)
    findings = sorted(check.findings.values(), key=lambda finding: (finding.path, finding.message))
    size = sum(entry["size"] for entry in check.found.values())
    return Verification(findings, len(check.artifacts), len(check.found), size, check.seconds, digest)


def _below(name: str, folder: str) -> bool:
    return folder in (".", name) or name.startswith(f"{folder}/")


def _lies_beside(name: str, sealed: Collection[str]) -> bool:
    """Returns whether a file says that the sealed folder that it lies in was pruned, or is the card of a model."""
    folder, _, file = name.rpartition("/")
    return (file == PRUNED and f"{folder}/{MANIFEST}" in sealed) or (file == CARD and folder.startswith("models/"))


def _folders(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:depth]) for depth in range(len(parts) - 1, 0, -1)]


class _Check:
    """The parts of one verification. What is wrong with a file is reported once, where it is, and not all that follows.

    Attributes:
        keys: the relative paths to which it is limited, if any.
        rooted: the root manifest; None if there is none that can be used.
        artifacts: those in scope, by name.
        found: the files in scope as they are.
    """

    def __init__(self, archive: Archive, keys: list[str]):
        self.archive, self.keys = archive, keys
        self.findings: dict[tuple[str, str], Finding] = {}
        self.rooted = self._read_root_manifest()
        named = [artifact for name, artifact in archive.artifacts.items() if self._is_named(name)]
        behind = [other for artifact in named for other in archive.upstream(artifact)] if keys else []
        self.artifacts = {artifact.name: artifact for artifact in (*named, *behind)}
        self.names = sorted(filter(self._in_scope, {*archive.files(), *(self.rooted or {})}))
        on_disk, started = set(archive.files()), time.perf_counter()
        self.found = hash_files(archive.results, [name for name in self.names if name in on_disk])
        self.seconds = time.perf_counter() - started

    def _is_named(self, artifact: str) -> bool:
        return not self.keys or any(
            _below(artifact, key) or _below(key.removesuffix(RECORD), artifact) for key in self.keys
        )

    def _in_scope(self, name: str) -> bool:
        if not self.keys or any(_below(name, key) for key in self.keys):
            return True
        return any(place in self.artifacts for place in (name, name.removesuffix(RECORD), *_folders(name)))

    def add(self, path: str, kind: str, message: str) -> None:
        """Keeps the first finding about a path; only stale artifacts may have several reasons."""
        self.findings.setdefault((path, message if kind == "stale" else ""), Finding(path, kind, message))

    def _is_reported(self, path: str) -> bool:
        return (path, "") in self.findings

    def _read_root_manifest(self) -> dict[str, Entry] | None:
        path, fix = self.archive.results / ROOT_MANIFEST, "take it from a copy, or run Snakemake to its end"
        if not path.is_file():
            self.add(ROOT_MANIFEST, "missing", f"expected the root manifest, found none; {fix}")
            return None
        try:
            entries = read_entries(path)
        except DataError as error:
            self.add(ROOT_MANIFEST, "manifest", f"{str(error).removeprefix(f'{path}: ').split(';')[0]}; {fix}")
            return None
        if path.read_bytes() != json_text(dict(sorted(entries.items()))).encode():
            self.add(ROOT_MANIFEST, "manifest", f"expected the layout that a run writes, found another; {fix}")
        return entries

    def _seals(self) -> dict[str, dict[str, Entry]]:
        """Returns, by sealed folder, what its files were, where the root manifest does not disprove the seal itself."""
        seals = {}
        for name, artifact in self.artifacts.items():
            seal = self.found.get(artifact.seal)
            if artifact.seal != name and seal is not None and (self.rooted or {}).get(artifact.seal, seal) == seal:
                with suppress(DataError):  # a seal that cannot be read is not what its record says
                    seals[name] = artifact.sealed()
        return seals

    def bytes_are_sealed(self) -> None:
        """Compares each file with the root manifest and the seal of its folder."""
        rooted, seals = self.rooted or {}, self._seals()
        sealed = {name: (entry, f"{folder}/{MANIFEST}") for folder in seals for name, entry in seals[folder].items()}
        owners = {entry["sha256"]: name for name, (entry, _) in sealed.items()}
        owners |= {entry["sha256"]: name for name, entry in rooted.items()}
        for name in sorted({*self.names, *sealed}):
            expected = [(rooted[name], ROOT_MANIFEST)] if name in rooted else []
            expected += [sealed[name]] if name in sealed else []
            found = self.found.get(name)
            folder = next((folder for folder in _folders(name) if folder in seals), None)
            if found is None:
                if expected:  # nothing lists what another run has removed meanwhile
                    self.add(name, "missing", f"expected the file that {expected[0][1]} lists, found none; {REDO}")
            elif self.rooted is not None and name not in rooted:
                self.add(name, "added", f"expected no file that {ROOT_MANIFEST} lacks, found one; remove it")
            elif folder and name not in sealed and name != f"{folder}/{MANIFEST}" and not _lies_beside(name, sealed):
                self.add(name, "added", f"expected no file that {folder}/{MANIFEST} lacks, found one; remove it")
            for entry, place in expected:
                if found not in (None, entry):
                    kind, was = "changed", f"sha256 {found['sha256'][:16]} ({found['size']} bytes)"
                    if found["sha256"] in owners:
                        kind, was = "swapped", f"the bytes of {owners[found['sha256']]}"
                    elif found["size"] < entry["size"]:
                        kind, was = "truncated", f"{found['size']} bytes"
                    should = f"sha256 {entry['sha256'][:16]} ({entry['size']} bytes) as in {place}"
                    self.add(name, kind, f"expected {should}, found {was}; {REDO}")

    def records_fit(self) -> None:
        """Checks that each record is a sound one, and of the artifact that it lies beside."""
        for record, problem in self.archive.broken.items():
            if self._in_scope(record):
                self.add(record, "record", f"{problem}; {REDO}")
        for artifact in self._with_own_record():
            subject, found = artifact.statement["subject"][0]["name"], self.found.get(artifact.seal)
            if subject != artifact.path.name:
                self.add(artifact.record, "record", f"expected the record of {artifact.name}, found {subject}; {REDO}")
            elif found is None:
                self.add(artifact.seal, "missing", f"expected what {artifact.record} records, found none; {REDO}")
            elif found["sha256"] != artifact.digest and not self._is_reported(artifact.seal):
                # Where the root manifest has the artifact as it is, its record is what was changed.
                self.add(
                    artifact.record if artifact.seal in (self.rooted or {}) else artifact.seal,
                    "record",
                    f"expected {artifact.seal} and its record to agree, found sha256 {found['sha256'][:16]} and "
                    f"{artifact.digest[:16]}; {REDO}",
                )

    def _with_own_record(self) -> Iterator[Artifact]:
        """Yields the artifacts whose record is, as far as is known by now, what was written with them."""
        for artifact in self.artifacts.values():
            if not self._is_reported(artifact.record):
                yield artifact

    def inputs_are_explained(self) -> None:
        """Checks that each input is an artifact with a record, and still has the recorded digest."""
        for artifact in self._with_own_record():
            for entry in self.archive.inputs(artifact):
                if entry.is_inside and entry.artifact is None:
                    if not self._is_reported(entry.uri + RECORD):
                        why = f"expected a record of this input of {artifact.name}, found none; {REDO}"
                        self.add(entry.uri, "unexplained", why)
                elif (present := self._present(entry.artifact, entry.uri)) not in (None, entry.sha256):
                    why = f"expected the input {entry.uri} with sha256 {entry.sha256[:16]}, found {present[:16]}; rerun"
                    self.add(artifact.name, "stale", why)

    def _present(self, artifact: Artifact | None, uri: str) -> str | None:
        """Returns an input's digest today; None if it is unknown here, or known to be wrong."""
        if artifact is None:
            file = self.archive.repository / uri
            return digest_file(file) if file.is_file() else None
        path = artifact.seal if uri == artifact.name else uri  # a record may be an input, for the times that it tells
        if self._is_reported(path) or path not in self.found:
            return None
        return self.found[path]["sha256"]

    def files_are_owned(self) -> None:
        """Checks that a record explains each file, even if the root manifest lists it."""
        for name in self.found:
            if name.split("/")[0] in UNOWNED or name.endswith(RECORD) or self._is_reported(name):
                continue
            places = [name, *_folders(name)]
            records = [place + RECORD for place in places]
            if not any(place in self.artifacts for place in places) and not any(map(self._is_reported, records)):
                self.add(name, "unexplained", "expected the record of a rule that made it, found none; remove it")

    def keys_are_present(self, study: Study) -> None:
        """Checks that the repository and its config would make each artifact as its record says it was made."""
        for artifact in self._with_own_record():
            try:
                present = present_key(study, artifact, self.archive.repository)
            except OSError as error:
                raise DataError(
                    f"{error.filename}: expected a file of the repository, found {error.strerror}; run this from the "
                    "repository"
                ) from error
            if present is None:
                self.add(artifact.name, "stale", f"expected a job of the config, found none that makes it; {RERUN}")
                continue
            recorded = {name: getattr(artifact, name) for name in ("rule", "code", "lock", "settings")}
            for key, was, now in _differences("", recorded, present):
                why = f"expected {key} {_short(was)} as recorded, found {_short(now)} in the repository; {RERUN}"
                self.add(artifact.name, "stale", why)


def _differences(key: str, was: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yields (dotted key, recorded value, present value) of each difference."""
    if was == now:
        return
    if isinstance(was, dict) and isinstance(now, dict):
        for name in sorted({*was, *now}):
            yield from _differences(f"{key}.{name}".lstrip("."), was.get(name), now.get(name))
    else:
        yield key, was, now


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def load_config(path: Path) -> Study:
    """Returns the study of a config file.

    Raises:
        ConfigError: the file is not YAML, or is no config.
        DataError: there is no such file.
    """
    if not path.is_file():
        raise DataError(f"{path}: expected a config, found none; run this from the repository or name --configfile")
    try:
        return load_study(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"config: expected YAML, found {error}; fix the file") from error


def recorded_study(archive: Archive) -> Study | None:
    """Returns the study whose whole config the record of the report holds; None where there is no report."""
    report = archive.artifacts.get("report.html")
    return load_study(report.settings["config"]) if report else None


def _chosen_study(options: Namespace) -> Study | None:
    """Returns the study of the config that is named; else of config.yaml, or of another one's own results."""
    if options.configfile:
        return load_config(options.configfile)
    study = load_config(Path("config.yaml"))
    if options.results and options.results.resolve() != results_folder(study).resolve():
        return recorded_study(Archive(options.results))
    return study


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("paths", nargs="*", metavar="PATH", help="only this file or folder, and what is behind it")
    parser.add_argument("--results", type=Path, help="the results folder (default: the config's)")
    parser.add_argument(
        "--configfile", type=Path, help="the config that made them (default: config.yaml, or the one in the results)"
    )
    parser.add_argument("--expect", metavar="DIGEST", help="the root manifest's sha256, as kept elsewhere")


def _run(options: Namespace) -> int:
    """Prints a line for each finding, and one that sums up."""
    expect = options.expect and options.expect.lower().removeprefix("sha256:")
    if expect is not None and not re.fullmatch("[0-9a-f]{64}", expect):
        raise DataError("--expect: expected 64 hexadecimal digits, found others; copy the line that a run ends with")
    study, lines = None, []
    try:
        study = _chosen_study(options)
    except ConfigError as error:  # the bytes can be checked all the same
        lines.append(f"{options.configfile or 'config.yaml'}: {error}")
    results = options.results or (results_folder(study) if study else Path("results"))
    found = verify(Archive(results), study, options.paths, expect)
    lines += [f"{results / finding.path}: {finding.kind}: {finding.message}" for finding in found.findings]
    say(*lines)
    print(
        f"{results}: {found.artifacts} artifacts in {found.files} files, {found.size / 1e6:.1f} MB read at "
        f"{found.size / 1e6 / max(found.seconds, 1e-9):.0f} MB/s; sha256:{found.digest or 'none'}; "
        f"{len(lines) or 'no'} finding{'s' * (len(lines) != 1)}"
    )
    return 1 if lines else 0


COMMAND = Command("verify", "check every byte, record and link, and what is stale", _add_arguments, _run)
