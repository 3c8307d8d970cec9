"""Which files and lines of an archive stand behind a cell of a table."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from pathlib import Path

from distill.audit.archive import Archive, Artifact
from distill.audit.recompute import inputs_by_name, tables_artifact, tables_settings
from distill.errors import DataError
from distill.files import read_jsonl
from distill.provenance.costs import SHARED
from distill.report.evidence import Evidence, Source
from distill.report.tables import TABLES


@dataclass(frozen=True)
class Lines:
    """Lines of a file.

    Attributes:
        path: relative to the results folder, or of a published number relative to the repository.
        numbers: the lines, from 1; empty for the whole file.
        what: what they are.
    """

    path: str
    numbers: tuple[int, ...]
    what: str


@dataclass(frozen=True)
class Found(Evidence):
    """What stands behind a cell, with the lines of its sources."""

    lines: tuple[Lines, ...] = ()


@lru_cache(maxsize=256)
def lines_by(path: Path, *keys: str) -> dict[tuple, tuple[int, ...]]:
    """Returns the line numbers of a JSONL file by the values of some keys.

    Raises:
        DataError: a row lacks a key, or the file is missing or malformed.
    """
    found: dict[tuple, list[int]] = defaultdict(list)
    for number, row in read_jsonl(path):
        try:
            found[tuple(row[key] for key in keys)].append(number)
        except KeyError as error:
            raise DataError(f"{path}:{number}: expected a field {error}, found none; run verify") from error
    return {values: tuple(numbers) for values, numbers in found.items()}


class Witness:
    """Finds the evidence of cells.

    Args:
        archive: the results.
    """

    def __init__(self, archive: Archive):
        self.archive, self.settings = archive, tables_settings(archive)
        self.tables = tables_artifact(archive)
        self._inputs = cache(partial(inputs_by_name, archive, self.tables))

    def evidence(self, table: str, row: Mapping[str, str], column: str) -> Found:
        """Returns what stands behind the cell of a row.

        Raises:
            DataError: a file that should hold it is missing, or has no such lines.
        """
        told = TABLES[table].behind(row, column, self.settings)
        return Found(**vars(told), lines=tuple(lines for source in told.sources for lines in self._lines(source)))

    def folder(self, name: str, key: str) -> Artifact:
        """Returns the artifact of a system, run or pair among the tables' inputs of a name.

        Raises:
            DataError: there is none.
        """
        found = self._inputs(name)
        if key not in found:
            raise DataError(
                f"{self.archive.results / self.tables.record}: expected an input {name} of {key}, found "
                f"{', '.join(found) or 'none'}; run verify to see what is missing"
            )
        return found[key]

    def exists(self, lines: Lines) -> bool:
        """Returns whether the file of some lines is there."""
        root = self.archive.repository if lines.path.startswith("workflow/") else self.archive.results
        return (root / lines.path).is_file()

    def _lines(self, source: Source) -> Iterable[Lines]:
        if source.kind == "paper":
            return [Lines(f"workflow/distill/report/paper/{source.file}", (source.where["line"],), source.what)]
        if source.kind == "settings":
            owner = self.folder("verdicts", source.of) if source.of else self.tables
            return [Lines(owner.record, (), f"the config's slice of {owner.rule}")]
        if source.kind == "hours":
            costs = {name: cost for cost, name in SHARED.items() if source.of in (None, cost)}
            return [
                Lines(entry.uri, (), f"start and end of a job: {costs[entry.name]}")
                for entry in self.archive.inputs(self.tables)
                if entry.name in costs
            ]
        folders: Iterable[Artifact]
        if source.of is None:
            folders = self._inputs(source.kind).values()
        elif source.kind == "validation":
            folders = inputs_by_name(self.archive, self.folder("models", source.of), source.kind).values()
        else:
            folders = [self.folder(source.kind, source.of)]
        return [self._lines_of(folder, source) for folder in folders]

    def _lines_of(self, folder: Artifact, source: Source) -> Lines:
        path, name, numbers = folder.path / source.file, f"{folder.name}/{source.file}", tuple[int, ...]()
        if source.where:
            numbers = lines_by(path, *source.where).get(tuple(source.where.values()), ())
            if not numbers:
                wanted = ", ".join(f"{key} {value}" for key, value in source.where.items())
                raise DataError(f"{path}: expected lines of {wanted}, found none; run verify to see what is changed")
        elif not path.is_file():
            raise DataError(f"{path}: expected a file, found none; run verify to see what is missing")
        return Lines(name, numbers, source.what)
