"""The tables as CSV files: their writing in full precision, and their reading."""

import csv
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path

from distill.errors import DataError
from distill.report.markdown import is_number
from distill.report.tables import TABLES

COLUMNS = {name: table.columns for name, table in TABLES.items()}
"""Columns by table; a table `name` is the file `name.csv`."""


def without_times(name: str, rows: Iterable[Mapping[str, str]]) -> list[dict[str, str]]:
    """Returns a table's rows without what a clock measured; of a table that is no more, the rows as they are."""
    if name not in TABLES:
        return [dict(row) for row in rows]
    table = TABLES[name]
    return [
        {key: value for key, value in row.items() if key not in table.times} for row in rows if not table.is_time(row)
    ]


def cell_text(value: object) -> str:
    """Returns a value as a cell holds it; control characters of texts become blanks."""
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(value)
    return "".join(" " if unicodedata.category(char) == "Cc" else char for char in str(value))


def _starts_formula(text: str) -> bool:
    return text.lstrip(" '")[:1] in ("=", "+", "-", "@") and bool(text.strip(" '")) and not is_number(text)


def _written(text: str) -> str:
    """Returns a cell for the file: a text that a spreadsheet would run, which a judge may say, behind an apostrophe."""
    return f"'{text}" if _starts_formula(text) else text


def _read(text: str) -> str:
    return text.removeprefix("'") if _starts_formula(text) else text


def write_table(folder: Path, name: str, rows: Iterable[Mapping]) -> None:
    """Writes a table; floats as the shortest text that reads back equal, None as an empty cell.

    Raises:
        KeyError: a row lacks a column.
    """
    with open(folder / f"{name}.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS[name])
        writer.writerows([_written(cell_text(row[column])) for column in COLUMNS[name]] for row in rows)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Returns the rows of a table's file as text, whatever its columns are."""
    with open(path, encoding="utf-8", newline="") as file:
        return [{column: _read(cell) for column, cell in row.items()} for row in csv.DictReader(file)]


def read_table(folder: Path, name: str) -> list[dict[str, str]]:
    """Returns a table's rows as text.

    Raises:
        DataError: the file is missing or has other columns.
    """
    path = folder / f"{name}.csv"
    if not path.is_file():
        raise DataError(f"{path}: expected a table, found none; rerun make_tables")
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS[name]:
            raise DataError(
                f"{path}:1: expected the columns {','.join(COLUMNS[name])}, found {','.join(reader.fieldnames or ())}; "
                "rerun make_tables"
            )
        return [{column: _read(cell) for column, cell in row.items()} for row in reader]


def read_tables(folder: Path) -> dict[str, list[dict[str, str]]]:
    """Returns the rows of every table by its name.

    Raises:
        DataError: a file is missing or has other columns.
    """
    return {name: read_table(folder, name) for name in TABLES}
