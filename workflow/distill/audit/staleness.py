"""What is stale where Snakemake does not remember how it was made: the records beside the artifacts decide.

Snakemake keeps each output's parameters in `.snakemake`. Results that were copied, or a deleted `.snakemake`, leave it
without them, and it takes what is there for done. A note of other parameters in their place makes it plan the job as
after any other change of its key.
"""

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill.audit.archive import Artifact
from distill.audit.keys import present_key
from distill.errors import DataError
from distill.files import MANIFEST, digest_file, is_own, read_json, write_json
from distill.provenance.record import RECORD
from distill.study.places import named_places
from distill.study.study import Study

MEMORY = Path(".snakemake", "metadata")
"""Where Snakemake keeps, by output, how it was made."""
_FORMAT = 6
_LONGEST_NAME = 254
_LARGE = 100_000_000
_RECORDS = ("*", "*/*", "data/*/*")
_NOTE = "as recorded beside the artifact, and not as asked for today: "


def _memory_of(output: Path) -> Path:
    name = urlsafe_b64encode(str(output).encode()).decode()
    parts = [name[start : start + _LONGEST_NAME] for start in range(0, len(name), _LONGEST_NAME)]
    return MEMORY.joinpath(*(f"@{part}" for part in parts[:-1]), parts[-1])


def _remembered(memory: Path) -> dict[str, Any]:
    """Returns what Snakemake remembers; what it cannot read it does not remember either."""
    try:
        found = json.loads(memory.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_note(remembered: dict[str, Any]) -> bool:
    return any(str(value).startswith(_NOTE) for value in remembered.get("params") or ())


def _artifacts(results: Path) -> Iterator[tuple[Path, Path]]:
    """Yields the record and the seal of each finished artifact: the manifest of a folder, or the file itself."""
    for pattern in _RECORDS:
        for record in sorted(results.glob(f"{pattern}{RECORD}")):
            artifact = record.with_name(record.name.removesuffix(RECORD))
            seal = artifact / MANIFEST if artifact.is_dir() else artifact
            if seal.is_file() and is_own(results, record):
                yield record, seal


class _Inputs:
    """The digests of inputs as they are today, each read once.

    Attributes:
        places: the files and folders from outside that the config names, by their last name.
    """

    def __init__(self, results: Path, study: Study):
        self.results, self.places = results, {path.name: path for path in named_places(study).values()}
        self._digests: dict[Path, str] = {}

    def _digest(self, path: Path) -> str:
        if path not in self._digests:
            self._digests[path] = digest_file(path)
        return self._digests[path]

    def changed(self, artifact: Artifact, made: float) -> str | None:
        """Returns the first input that is there and has other bytes than an artifact's record tells."""
        root = f"{artifact.results_then or self.results.name}/"
        for entry in artifact.dependencies:
            uri, files = entry["uri"], entry.get("annotations", {}).get("files")
            if uri.startswith(root):
                path = self.results / uri.removeprefix(root)
                found = {path / MANIFEST if path.is_dir() else path: entry["digest"]["sha256"]}
            else:
                path = self.places.get(Path(uri).name, Path(uri))
                found = {path / name: digest for name, digest in files.items()} if files else {}
                found = found or {path: entry["digest"]["sha256"]}
            for file, digest in found.items():
                # What is large is read only if it is newer, as Snakemake itself does.
                is_read = file.is_file() and (file.stat().st_size < _LARGE or file.stat().st_mtime > made)
                if is_read and self._digest(file) != digest:
                    return str(file)
        return None


def _difference(study: Study, record: Path, inputs: _Inputs) -> str | None:
    """Returns in what a recorded artifact differs from what would be made today; None if in nothing."""
    try:
        path = record.with_name(record.name.removesuffix(RECORD))
        artifact = Artifact(path.name, path, read_json(record))
        present = present_key(study, artifact, Path.cwd())
        if present is None:
            return None
        for part in ("rule", "code", "lock", "settings"):
            if getattr(artifact, part) != present[part]:
                return part
        return inputs.changed(artifact, record.stat().st_mtime)
    except (DataError, FileNotFoundError, KeyError, TypeError, AttributeError, IndexError, ValueError):
        return "a record that can be read"  # which another run that makes it again takes away


def note_stale(study: Study, results: Path) -> list[str]:
    """Lets Snakemake see what is stale among the artifacts of which it remembers nothing, or another making.

    Args:
        study: the checked config.
        results: its results folder, as the rules name it.

    Returns:
        The stale artifacts that it has now notes of, by name.

    Raises:
        DataError: one is stale, and no note can be written.
    """
    inputs, stale = _Inputs(results, study), []
    for record, seal in _artifacts(results):
        memory = _memory_of(seal)
        remembered = _remembered(memory)
        if remembered.get("endtime") == seal.stat().st_mtime:
            continue
        difference = _difference(study, record, inputs)
        if difference is None:
            for output in (seal, record):
                if _is_note(_remembered(_memory_of(output))):
                    _memory_of(output).unlink()
            continue
        stale.append(str(record.relative_to(results)).removesuffix(RECORD))
        note = {"record_format_version": _FORMAT, "params": [f"{_NOTE}{difference}"]}
        try:
            for output in (seal, record):  # it looks for parameters only where it remembers all outputs
                write_json(_memory_of(output), note)
        except DataError as error:
            raise DataError(
                f"{record}: expected {difference} as it is today, found another, and {memory} cannot be written; "
                f"delete {seal} and make it again"
            ) from error
    return stale
