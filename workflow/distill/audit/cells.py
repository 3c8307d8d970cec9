"""Cells of tables: how they are named, and which numbers of the CSV files a cell of the page shows."""

import csv
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from distill.audit.archive import Archive
from distill.config.stages.report import RenderTables
from distill.errors import DataError
from distill.report.csv_tables import COLUMNS, read_table
from distill.report.render import render

FORMS = (
    "tables/TABLE.csv:KEY=VALUE,KEY=VALUE:COLUMN, tables/TABLE.csv:LINE:COLUMN or tables.md:LINE:COLUMN, "
    "e.g. tables/rouge.csv:system=sft,dataset=dolly,decoding=greedy:mean"
)
_IDENTITIES = ("p", "k", "training_seed")
"""Columns of numbers that say which row of the page a row is."""
_LINK = re.compile(r"\]\([^)]*?(\w+)\.csv\)")


@dataclass(frozen=True)
class TableCell:
    """A cell of a CSV table: the row's index from 0, its line from 1, its text by column, and the cell's column."""

    table: str
    index: int
    line: int
    row: dict[str, str]
    column: str

    @property
    def text(self) -> str:
        """What the file holds."""
        return self.row[self.column]

    @property
    def place(self) -> str:
        """The cell as the command line takes it."""
        return f"tables/{self.table}.csv:{self.line}:{self.column}"


def number(text: str) -> float | None:
    """Returns the number that a cell holds; None for any other text."""
    try:
        return float(text)
    except ValueError:
        return None


def read_lines(archive: Archive, table: str) -> list[tuple[int, dict[str, str]]]:
    """Returns (line, row) of a table's rows.

    Raises:
        DataError: the file is missing or has other columns.
    """
    rows = read_table(archive.results / "tables", table)
    with open(archive.results / "tables" / f"{table}.csv", encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        next(reader)
        return list(zip((reader.line_num for _ in reader), rows, strict=True))


def find_cells(archive: Archive, path: str, cell: str) -> list[TableCell]:
    """Returns the cell that a command line names; of the page, all cells of the CSV files that its cell shows.

    Args:
        archive: the results.
        path: the table's path relative to the results folder.
        cell: what follows the path and a colon.

    Raises:
        DataError: the cell is named in no accepted form, or there is no such cell, or more than one.
    """
    key, _, column = cell.rpartition(":")
    table = path.removeprefix("tables/").removesuffix(".csv")
    if not key or not column or not (path == "tables.md" or path == f"tables/{table}.csv" and table in COLUMNS):
        raise DataError(f"{path}:{cell}: expected {FORMS}, found another form; tables: {', '.join(COLUMNS)}")
    if path == "tables.md":
        return _shown(archive, key, column)
    if column not in COLUMNS[table]:
        raise DataError(f"{path}: expected one of the columns {', '.join(COLUMNS[table])}, found {column}; name one")
    # A value may hold commas, as claims do.
    parts = re.split(rf",(?=(?:{'|'.join(COLUMNS[table])})=)", key)
    wanted = dict(part.split("=", 1) for part in parts if "=" in part)
    found = [
        TableCell(table, index, line, row, column)
        for index, (line, row) in enumerate(read_lines(archive, table))
        if (str(line) == key if key.isdigit() else bool(wanted) and wanted.items() <= row.items())
    ]
    if len(found) != 1:
        some = f"lines {', '.join(str(one.line) for one in found[:8])}" if found else "none"
        raise DataError(
            f"{path}: expected one row of {key}, found {some}; name its line (from 2) or as many of the columns "
            f"{', '.join(COLUMNS[table])} as tell it from the others"
        )
    return found


def render_page(archive: Archive, tables: dict[str, list[dict[str, str]]]) -> str:
    """Returns the page that tables give under the settings of tables.md.

    Raises:
        DataError: there is no page with a record.
    """
    if "tables.md" not in archive.artifacts:
        path = archive.results / "tables.md"
        raise DataError(f"{path}: expected a page with a record, found none; run render_tables")
    settings = RenderTables.model_validate(archive.artifacts["tables.md"].settings)
    return render(tables, settings, os.path.relpath(archive.results / "tables", archive.results))


def _columns_of(line: str) -> list[str]:
    return [part.strip() for part in line.strip().strip("|").split("|")]


def _shown(archive: Archive, line: str, column: str) -> list[TableCell]:
    page = (archive.results / "tables.md").read_text(encoding="utf-8").splitlines()
    place = f"tables.md:{line}"
    row = int(line) - 1 if line.isdigit() else -1
    if not (0 <= row < len(page) and page[row].startswith("| ") and page[row - 1].startswith("|")):
        raise DataError(f"{place}: expected the line of a table's row, found another; count lines from 1")
    top = row
    while page[top - 1].startswith("|"):
        top -= 1
    header = _columns_of(page[top])
    matches = [i for i, name in enumerate(header, 1) if column in (name, str(i))] or [
        i for i, name in enumerate(header, 1) if name.startswith(column)
    ]
    if len(matches) != 1:
        raise DataError(f"{place}: expected a column of {', '.join(header)} or its number, found {column}; name one")
    links = next((names for text in page[row:] if (names := _LINK.findall(text))), [])
    tables = {name: read_table(archive.results / "tables", name) for name in COLUMNS}
    lines = {name: [line for line, _ in read_lines(archive, name)] for name in links}
    candidates = [
        TableCell(name, index, lines[name][index], cells, other)
        for name in links
        for index, cells in enumerate(tables[name])
        for other in COLUMNS[name]
        if other not in _IDENTITIES and number(cells[other]) is not None
    ]

    def text_of(rendered: str) -> str:
        return _columns_of(rendered.splitlines()[row])[matches[0] - 1]

    as_given = render_page(archive, tables)
    if as_given.splitlines() != page:
        raise DataError(f"{archive.results / 'tables.md'}: expected the page of its tables, found another; run verify")

    def matters(changed: Sequence[TableCell]) -> bool:
        return text_of(render_page(archive, _with_changes(tables, changed))) != text_of(as_given)

    found = _bisect(candidates, matters)
    if not found:
        shown = text_of(as_given) or "nothing"
        raise DataError(f"{place}: expected a number of {', '.join(links)}, found {shown}; name another cell")
    return found


def _with_changes(tables: dict[str, list[dict[str, str]]], changed: Sequence[TableCell]) -> dict[str, Any]:
    """Returns the tables with other numbers in some cells, far enough off to be seen after rounding."""
    copy = {name: [*rows] for name, rows in tables.items()}
    for cell in changed:
        text = cell.text
        other = str(int(text) + 1000) if text.lstrip("-").isdigit() else repr(float(text) + 1000.5)
        copy[cell.table][cell.index] = copy[cell.table][cell.index] | {cell.column: other}
    return copy


def _bisect(cells: Sequence[TableCell], matters: Callable[[Sequence[TableCell]], bool]) -> list[TableCell]:
    """Returns the cells whose change alone changes what is looked at, by halves: most halves hold none."""
    if not cells or not matters(cells):
        return []
    if len(cells) == 1:
        return [*cells]
    half = len(cells) // 2
    return _bisect(cells[:half], matters) + _bisect(cells[half:], matters)
