"""A results folder as an auditor finds it: artifacts, their records, and what was made from what. Nothing is run."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from distill.errors import DataError
from distill.files import ASIDE, MANIFEST, ROOT_MANIFEST, is_study, read_json, without_pruned
from distill.provenance.record import RECORD
from distill.provenance.statement import Sha256, Statement


class Entry(TypedDict):
    """A file as a manifest has it."""

    size: int
    sha256: Sha256


_ENTRIES = TypeAdapter(dict[str, Entry])


def read_entries(path: Path) -> dict[str, Entry]:
    """Returns {name: {size, sha256}} of a manifest.

    Raises:
        DataError: the file is missing, is not JSON, or is not such a mapping.
    """
    try:
        return _ENTRIES.validate_python(read_json(path), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the top"
        raise DataError(
            f"{path}: expected size and sha256 by file, found a problem at {place} ({first['msg']}); make it again"
        ) from error


@dataclass
class Artifact:
    """A file or sealed folder that a rule made, with its record.

    Attributes:
        name: its path relative to the results folder, e.g. models/phase1 or tables.md.
        path: where it lies.
        statement: its record: an in-toto Statement v1 with a SLSA provenance v1 predicate.
    """

    name: str
    path: Path
    statement: dict[str, Any] = field(repr=False)

    @property
    def record(self) -> str:
        """The record's path relative to the results folder."""
        return self.name + RECORD

    @property
    def definition(self) -> dict[str, Any]:
        """What was asked for: parameters and inputs."""
        return self.statement["predicate"]["buildDefinition"]

    @property
    def details(self) -> dict[str, Any]:
        """How it went: software, times, host, usage, tries and notes."""
        return self.statement["predicate"]["runDetails"]

    @property
    def rule(self) -> str:
        """Name of the rule that made it."""
        return self.definition["externalParameters"]["rule"]

    @property
    def settings(self) -> dict[str, Any]:
        """The slice of the config that the rule used."""
        return self.definition["externalParameters"]["settings"]

    @property
    def command(self) -> list[str]:
        """The command line, relative to the repository."""
        return self.definition["internalParameters"]["command"]

    @property
    def code(self) -> str:
        """Digest of the stage's code (16 hex digits)."""
        return self.definition["internalParameters"]["code"]

    @property
    def commit(self) -> str | None:
        """The git commit that the repository was at; None outside a repository."""
        return self.definition["internalParameters"].get("git_commit")

    @property
    def clean(self) -> bool | None:
        """Whether the repository had no uncommitted change; None outside a repository."""
        return self.definition["internalParameters"].get("clean")

    @property
    def lock(self) -> str:
        """Digest of the environment's lock (16 hex digits)."""
        return self.definition["internalParameters"]["lock"]

    @property
    def versions(self) -> dict[str, str]:
        """Versions of Python and of the packages that decide numbers."""
        return self.details["builder"]["version"]

    @property
    def started(self) -> str:
        """Start of the last try in UTC, ISO 8601."""
        return self.details["metadata"]["startedOn"]

    @property
    def finished(self) -> str:
        """End in UTC, ISO 8601."""
        return self.details["metadata"]["finishedOn"]

    @property
    def host(self) -> dict[str, Any]:
        """The machine: name, platform, CPUs, and GPUs where there were any."""
        return self.details["host"]

    @property
    def usage(self) -> dict[str, Any]:
        """Resources of the last try: CPU seconds and peak memory."""
        return self.details["usage"]

    @property
    def tries(self) -> int:
        """How often the step was started, the last time included."""
        return self.details["tries"]

    @property
    def notes(self) -> dict[str, Any]:
        """Facts that the stage added."""
        return self.details["notes"]

    @property
    def digest(self) -> str:
        """The recorded sha256: of the file, or of the folder's manifest."""
        return self.statement["subject"][0]["digest"]["sha256"]

    @property
    def dependencies(self) -> list[dict[str, Any]]:
        """The inputs as recorded; `Archive.inputs` resolves them."""
        return self.definition["resolvedDependencies"]

    @property
    def resumed(self) -> bool | None:
        """Whether saved work of an earlier try or run lay ready; None if the record does not tell."""
        return self.details.get("resumed")

    def _option(self, name: str) -> Path | None:
        """Returns the path that the command line gives for an option."""
        return Path(self.command[self.command.index(name) + 1]) if name in self.command[:-1] else None

    @cached_property
    def results_then(self) -> Path | None:
        """The results folder when the record was written, which the uris of inputs start with."""
        state = self._option("--state")
        return state and state.parent

    @cached_property
    def seal(self) -> str:
        """The relative path of the file whose sha256 is the artifact's digest: itself, or the folder's manifest."""
        output = self._option("--output")
        is_folder = self.path.is_dir() or (output is not None and output.name == MANIFEST)
        return f"{self.name}/{MANIFEST}" if is_folder else self.name

    def files(self) -> Mapping[str, Mapping[str, Any]]:
        """Returns what `sealed` does, and for a single file its {sha256}, which is all that the record tells."""
        return {self.name: {"sha256": self.digest}} if self.seal == self.name else self.sealed()

    def sealed(self) -> dict[str, Entry]:
        """Returns {path relative to the results folder: {size, sha256}} of a folder's files as they were sealed,
        without those that were pruned since.

        Raises:
            DataError: the folder's manifest is missing or is not one.
        """
        manifest = without_pruned(self.path, read_entries(self.path / MANIFEST))
        return {f"{self.name}/{name}": entry for name, entry in manifest.items()}


@dataclass(frozen=True)
class Dependency:
    """An input as an artifact's record has it.

    Attributes:
        name: what the rule calls it.
        uri: its path relative to the results folder, or the recorded name of something outside.
        sha256: its digest before the step.
        artifact: the artifact that it is, or whose record it is; None for something from outside.
        is_inside: whether it lay in the results folder.
    """

    name: str
    uri: str
    sha256: str
    artifact: Artifact | None
    is_inside: bool


class Archive:
    """A results folder, wherever it lies now.

    Args:
        results: the folder.
        repository: the folder of the code, by default the current one.

    Attributes:
        artifacts: every artifact with a sound record, by name.
        broken: what is wrong with each record that is not sound, by the record's relative path.

    Raises:
        DataError: there is no such folder.
    """

    def __init__(self, results: Path | str, repository: Path | str | None = None):
        self.results, self.repository = Path(results), Path(repository or Path.cwd())
        if not self.results.is_dir():
            raise DataError(f"{self.results}: expected a results folder, found none; name it with --results")
        self.artifacts: dict[str, Artifact] = {}
        self.broken: dict[str, str] = {}
        for record in self.files():
            if not record.endswith(RECORD):
                continue
            name = record.removesuffix(RECORD)
            try:
                statement = read_json(self.results / record)
                Statement.model_validate(statement)
            except DataError as error:
                self.broken[record] = str(error).split(": ", 1)[1].split(";")[0]
            except ValidationError as error:
                first = error.errors()[0]
                place = ".".join(map(str, first["loc"])) or "the whole text"
                self.broken[record] = f"expected a statement, found a problem at {place} ({first['msg']})"
            else:
                self.artifacts[name] = Artifact(name, self.results / name, statement)

    def files(self) -> list[str]:
        """Returns the sorted relative paths of all files but the root manifest, what is `ASIDE`, and other studies."""
        return list(self._files)

    @cached_property
    def _files(self) -> list[str]:
        found: list[str] = []
        sealed: set[str] = set()
        for folder, folders, names in os.walk(self.results, followlinks=True):
            relative = os.path.relpath(folder, self.results)
            if relative == ".":
                folders[:] = [name for name in folders if name not in ASIDE]
                found += [name for name in names if name != ROOT_MANIFEST]
            else:
                found += [f"{relative}/{name}" for name in names]
            if MANIFEST in names or os.path.dirname(relative) in sealed:
                sealed.add(relative)  # whatever lies in an artifact is, or should be, its own
            else:
                folders[:] = [name for name in folders if not is_study(Path(folder, name))]
        return sorted(name for name in found if os.path.isfile(f"{self.results}/{name}"))  # no link to nowhere

    def key(self, path: Path | str) -> str:
        """Returns a path relative to the results folder; it may be given so, or from the current folder.

        Raises:
            DataError: the path lies outside the results folder.
        """
        path, root = Path(path), self.results.absolute()
        for candidate in (path.absolute(), root / path):
            place = Path(os.path.normpath(candidate))
            if place.is_relative_to(root):
                return str(place.relative_to(root))
        raise DataError(f"{path}: expected a path below {self.results}, found it outside; name the folder by --results")

    def owner(self, path: Path | str) -> Artifact | None:
        """Returns the artifact that is a path, holds it, or has it as its record; None for a file of no rule."""
        key = self.key(path)
        if key in self.artifacts or key.removesuffix(RECORD) in self.artifacts:
            return self.artifacts.get(key) or self.artifacts[key.removesuffix(RECORD)]
        return next(
            (self.artifacts[str(folder)] for folder in Path(key).parents if str(folder) in self.artifacts), None
        )

    def inputs(self, artifact: Artifact) -> list[Dependency]:
        """Returns the inputs of an artifact in their recorded order."""
        found = []
        for entry in artifact.dependencies:
            uri, root = entry["uri"], f"{artifact.results_then or self.results.name}/"
            inside = uri.startswith(root)
            uri = uri.removeprefix(root)
            known = self.artifacts.get(uri, self.artifacts.get(uri.removesuffix(RECORD))) if inside else None
            found.append(Dependency(entry["name"], uri, entry["digest"]["sha256"], known, inside))
        return found

    @cached_property
    def _inputs(self) -> dict[str, list[Artifact]]:
        return {
            name: [entry.artifact for entry in self.inputs(artifact) if entry.artifact]
            for name, artifact in self.artifacts.items()
        }

    @cached_property
    def _users(self) -> dict[str, list[Artifact]]:
        users: dict[str, list[Artifact]] = {name: [] for name in self.artifacts}
        for name, inputs in self._inputs.items():
            for used in inputs:
                users[used.name].append(self.artifacts[name])
        return users

    @staticmethod
    def _reach(start: Artifact, edges: dict[str, list[Artifact]]) -> list[Artifact]:
        seen, waiting = {start.name: start}, [start]
        for artifact in waiting:
            for other in edges[artifact.name]:
                if other.name not in seen:
                    seen[other.name] = other
                    waiting.append(other)
        return waiting[1:]

    def upstream(self, artifact: Artifact) -> list[Artifact]:
        """Returns all artifacts that one was made from, directly or not, nearest first."""
        return self._reach(artifact, self._inputs)

    def downstream(self, artifact: Artifact) -> list[Artifact]:
        """Returns all artifacts that were made from one, directly or not, nearest first."""
        return self._reach(artifact, self._users)


def study_archive(results: Path) -> Archive:
    """Returns the archive of a folder that holds a study.

    Raises:
        DataError: there is no such folder, or no artifact in it.
    """
    archive = Archive(results)
    if not archive.artifacts:
        raise DataError(
            f"{results}: expected artifacts with their records, found none; run the workflow, or name another folder"
        )
    return archive
