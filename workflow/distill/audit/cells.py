"""Cells of tables: how they are named, and the numbers of the CSV files that a cell of the page shows."""

import csv
import os
import re
from dataclasses import dataclass

from distill.audit.archive import Archive
from distill.config.slices.render_tables import RenderTables
from distill.errors import DataError
from distill.pages.render import Page, render
from distill.report.csv_tables import read_table, read_tables
from distill.report.tables import TABLES

FORMS = (
    "tables/TABLE.csv:KEY=VALUE,KEY=VALUE:COLUMN, tables/TABLE.csv:LINE:COLUMN or tables.md:LINE:COLUMN, "
    "e.g. tables/scores.csv:system=sft,dataset=dolly,decoding=greedy:mean"
)


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
    if not key or not column or not (path == "tables.md" or path == f"tables/{table}.csv" and table in TABLES):
        raise DataError(f"{path}:{cell}: expected {FORMS}, found another form; tables: {', '.join(TABLES)}")
    if path == "tables.md":
        return _shown(archive, key, column)
    columns = TABLES[table].columns
    if column not in columns:
        raise DataError(f"{path}: expected one of the columns {', '.join(columns)}, found {column}; name one")
    # A value may hold commas, as claims do.
    parts = re.split(rf",(?=(?:{'|'.join(columns)})=)", key)
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
            f"{', '.join(columns)} as tell it from the others"
        )
    return found


def render_page(archive: Archive, tables: dict[str, list[dict[str, str]]]) -> Page:
    """Returns the page that tables give under the settings of tables.md.

    Raises:
        DataError: there is no page with a record.
    """
    if "tables.md" not in archive.artifacts:
        path = archive.results / "tables.md"
        raise DataError(f"{path}: expected a page with a record, found none; run render_tables")
    settings = RenderTables.model_validate(archive.artifacts["tables.md"].settings)
    return render(tables, settings, os.path.relpath(archive.results / "tables", archive.results))


def _shown(archive: Archive, line: str, column: str) -> list[TableCell]:
    """Returns the numbers that a cell of the page shows, as rendering tells them."""
    place, path = f"tables.md:{line}", archive.results / "tables.md"
    page = render_page(archive, read_tables(archive.results / "tables"))
    if page.text != path.read_text(encoding="utf-8"):
        raise DataError(f"{path}: expected the page of its tables, found another; run verify")
    row = page.lines.get(int(line) if line.isdigit() else 0)
    if row is None:
        raise DataError(f"{place}: expected the line of a table's row, found another; count lines from 1")
    heads = [*enumerate(row.header)]
    matches = [i for i, name in heads if column in (name, str(i + 1))] or [
        i for i, name in heads if name.startswith(column)
    ]
    if len(matches) != 1:
        raise DataError(
            f"{place}: expected a column of {', '.join(row.header)} or its number, found {column}; name one"
        )
    shown = row.cells[matches[0]]
    found = []
    for table, index, name in dict.fromkeys(shown.reads):
        number_of, cells = read_lines(archive, table)[index]
        if number(cells[name]) is not None:
            found.append(TableCell(table, index, number_of, cells, name))
    if not found:
        raise DataError(
            f"{place}: expected a number of {', '.join(row.tables)}, found {shown.text or 'nothing'}; name another cell"
        )
    return sorted(found, key=lambda cell: (cell.table, cell.index, TABLES[cell.table].columns.index(cell.column)))
