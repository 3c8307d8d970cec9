"""Tables kept without their study, with a note of where they are from, and what differs between two of them."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from distill.audit.archive import Archive
from distill.audit.recompute import tables_artifact
from distill.audit.words import count, listed
from distill.errors import DataError
from distill.files import ROOT_MANIFEST, digest_file, read_json
from distill.report.csv_tables import without_times
from distill.report.tables import TABLES

NOTE = "study.json"
PAGE = "tables.md"
WORST = 5
"""How many cells of a table are named where not all are asked for."""


def kinds_of_machine(archive: Archive) -> list[str]:
    """Returns the kinds of machine that a study was made on: processor, their number, system, GPUs; no host's name."""
    kinds: dict[str, None] = {}
    for artifact in archive.artifacts.values():
        host = artifact.host
        parts = [host.get("cpu"), f"{host['cpus']} CPUs", host["machine"], *host.get("gpus", [])]
        kinds[", ".join(part for part in parts if part)] = None
    return [*kinds]


def describe_study(archive: Archive, digest: str | None) -> dict[str, Any]:
    """Returns where a study's numbers are from: the digest of its results, its commits, its machines, its days."""
    artifacts = archive.artifacts.values()
    return {
        "results_sha256": digest,
        "tables_sha256": tables_artifact(archive).digest,
        "commits": sorted({one.commit for one in artifacts if one.commit}),
        "uncommitted_changes": any(one.clean is False for one in artifacts),
        "machines": kinds_of_machine(archive),
        "started": min(one.started for one in artifacts),
        "finished": max(one.finished for one in artifacts),
    }


def is_committed(folder: Path) -> bool:
    """Returns whether a folder holds tables without the study behind them."""
    return (folder / "tables").is_dir() and not (folder / "tables.prov.json").is_file()


@dataclass(frozen=True)
class TableFolder:
    """Tables, of a study or kept without it, and where they are from.

    Attributes:
        tables: their rows as text, without measured times.
        note: as `describe_study`; empty where nothing was noted.
    """

    tables: Mapping[str, Sequence[Mapping[str, str]]]
    note: Mapping[str, Any]


def read_tables(folder: Path) -> TableFolder:
    """Returns the tables of a study or of a folder that `publish_tables` wrote; they may have other columns than now.

    Raises:
        DataError: there are none.
    """
    found = {}
    for path in sorted((folder / "tables").glob("*.csv")):
        with open(path, encoding="utf-8", newline="") as file:
            found[path.stem] = without_times(path.stem, csv.DictReader(file))
    if not found:
        raise DataError(f"{folder / 'tables'}: expected tables, found none; name a results folder or committed tables")
    if is_committed(folder):
        return TableFolder(found, read_json(folder / NOTE) if (folder / NOTE).is_file() else {})
    archive = Archive(folder)
    root = folder / ROOT_MANIFEST
    return TableFolder(found, describe_study(archive, digest_file(root) if root.is_file() else None))


@dataclass(frozen=True)
class CellDifference:
    """A cell that differs.

    Attributes:
        place: table, row and column.
        first, second: what each side holds.
        share: the difference in halves of the first side's interval or in its standard deviations; None without one.
        unit: what the share counts.
    """

    place: str
    first: str
    second: str
    share: float | None = None
    unit: str = ""

    def __str__(self) -> str:
        share = "" if self.share is None else f" ({self.share:.2g} x {self.unit})"
        return f"{self.place}: {self.first or 'nothing'} -> {self.second or 'nothing'}{share}"


def _width(row: Mapping[str, str], column: str) -> tuple[float, str] | None:
    """Returns half the width of a number's interval or its standard deviation, and which it is; None if it has none."""
    bounds = [row.get(f"{column}_{end}") or "" for end in ("lo", "hi")]
    if column in ("difference", "figure", "mean", "win_rate") and not any(bounds):
        bounds = [row.get(end) or "" for end in ("lo", "hi")]
    if all(bounds):
        lo, hi = map(float, bounds)
        return (hi - lo) / 2, "half its interval"
    spreads = {"mean": ("std", "std_training"), "score": ("score_std",)}.get(column, ())
    spread = next((row[name] for name in spreads if row.get(name)), None)
    return (float(spread), "its standard deviation") if spread else None


def _difference(place: str, column: str, first: Mapping[str, str], second: Mapping[str, str]) -> CellDifference:
    here, there = first[column], second[column]
    width = _width(first, column)
    if not (width and width[0] and here and there):
        return CellDifference(place, here, there)
    return CellDifference(place, here, there, abs(float(here) - float(there)) / width[0], width[1])


def compare_tables(first: TableFolder, second: TableFolder) -> Iterator[tuple[str, list[CellDifference], list[str]]]:
    """Yields (table, cells that differ, rows and columns of one side alone) of each table that differs.

    Bounds of an interval are not listed beside their number. Verdicts come first, then cells by their share, the
    largest first.
    """
    for table in dict.fromkeys([*first.tables, *second.tables]):
        if table not in first.tables or table not in second.tables:
            side = "first" if table in first.tables else "second"
            yield table, [], [f"the table is on the {side} side alone"]
            continue
        keys = TABLES[table].keys if table in TABLES else ()
        sides = [
            {", ".join(f"{key}={row.get(key, '')}" for key in keys): row for row in one.tables[table]}
            for one in (first, second)
        ]
        alone = [
            f"{side} side alone: {key}"
            for side, own, other in (("first", *sides), ("second", *reversed(sides)))
            for key in own
            if key not in other
        ]
        cells = []
        for key in (key for key in sides[0] if key in sides[1]):
            rows = sides[0][key], sides[1][key]
            for column in (column for column in rows[0] if column in rows[1]):
                if rows[0][column] != rows[1][column] and not re.fullmatch(r"(.*_)?(lo|hi)", column):
                    cells.append(_difference(f"{table}, {key}: {column}", column, *rows))
        columns = [next(iter(side.values()), {}).keys() for side in sides]
        if all(columns):
            for name, extra in (("first", columns[0] - columns[1]), ("second", columns[1] - columns[0])):
                alone += [f"{name} side alone: column {column}" for column in sorted(extra)]
        if cells or alone:
            yield table, sorted(cells, key=_weight, reverse=True), alone


def _weight(cell: CellDifference) -> float:
    return inf if cell.place.endswith("verdict") else -1 if cell.share is None else cell.share


def tell_tables(first: TableFolder, second: TableFolder, most: int | None = WORST) -> tuple[list[str], bool]:
    """Returns what is to be said of two sides' tables, and whether they are equal but for measured times.

    Args:
        most: how many cells and rows of a table are named; None for all.
    """
    said = []
    facts = {"results": "results_sha256", "commit": "commits", "machine": "machines", "finished": "finished"}
    for name, key in facts.items():
        here, there = (_said(side.note.get(key)) for side in (first, second))
        said.append(f"{name}: {here} -> {there}" if here != there else f"{name}: {here} on both sides")
    differences = [*compare_tables(first, second)]
    for table, cells, alone in differences:
        shares = [cell.share for cell in cells if cell.share is not None]
        far = sum(share > 1 for share in shares)
        measured = f", {far} of {len(shares)} numbers with an interval or deviation by more than it" if shares else ""
        said.append(f"{table}: {count(len(cells), 'cell')} other{measured}")
        for lines in (cells, alone):
            said += [f"  {line}" for line in lines[:most]]
            rest = len(lines) - len(lines[:most])
            said += [f"  and {rest:,} more; --all names them"] if rest else []
    return said, not differences


def _said(value: Any) -> str:
    if isinstance(value, list):
        return listed(value) or "not noted"
    return str(value)[:19] if value else "not noted"  # as much of a digest as tells it, or a time to the second
