"""Markdown tables from CSV tables, each cell with the numbers that it shows. Rounding stands here and in the forms."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from distill.markdown import pipe_table

LONG = 24
"""Rows above which a table is folded."""


class Row(dict[str, str]):
    """A row of a CSV table, with the table's name and the row's index."""

    def __init__(self, cells: Mapping[str, str], table: str, index: int, reads: list | None = None):
        super().__init__(cells)
        self.table, self.index, self.reads = table, index, reads

    def __getitem__(self, column: str) -> str:
        if self.reads is not None:
            self.reads.append((self.table, self.index, column))
        return super().__getitem__(column)

    def watched(self, reads: list | None) -> "Row":
        """Returns this row, whose reads are added to a list."""
        return Row(self, self.table, self.index, reads)


Form = Callable[..., str]
"""Makes a cell's text from one row or more."""
Forms = Mapping[str, Form | str]
"""The form of each column by its head; the name of a column of the CSV table shows that as it is."""


class Cell(NamedTuple):
    """A cell of a Markdown table: its text, and what it was made from as (table, index of the row, column)."""

    text: str
    reads: Sequence[tuple[str, int, str]] = ()


class Grid(NamedTuple):
    """A Markdown table: its header, and its rows of cells."""

    header: list[str]
    rows: list[list[Cell]]

    def text(self) -> str:
        """Returns the lines, columns aligned: the first one to the left, numbers to the right."""
        rows = [[cell.text for cell in row] for row in self.rows]
        sides = ["left", *["right"] * (len(self.header) - 1)]
        lines = pipe_table(self.header, rows, sides)
        return lines.replace("\n|:", "\n|-", 1)  # what is at the left by itself needs no mark


Part = str | Grid
"""What a page is put together from, with an empty line between two."""


def show(form: Form, *rows: Row) -> Cell:
    """Returns the cell that a form makes of some rows."""
    reads: list[tuple[str, int, str]] = []
    return Cell(form(*(row.watched(reads) for row in rows)), reads)


def grid(header: Iterable[str], rows: Iterable[Iterable[str | Cell]]) -> Grid:
    """Returns a Markdown table of cells; a text alone is a cell that shows no number."""
    return Grid([*header], [[Cell(cell) if isinstance(cell, str) else cell for cell in row] for row in rows])


def folded(summary: str, *parts: Part) -> list[Part]:
    """Returns parts of the page behind a line that opens them."""
    return [f"<details>\n<summary>{summary}</summary>", *parts, "</details>"]


def fold_long(whole: Grid) -> list[Part]:
    """Returns a Markdown table, folded if it is long."""
    return folded(f"{len(whole.rows)} rows", whole) if len(whole.rows) > LONG else [whole]


def columns_of(forms: Forms, rows: Iterable[Row]) -> Grid:
    """Returns a Markdown table with a line a row of the CSV table."""
    made = {head: (lambda row, name=form: row[name]) if isinstance(form, str) else form for head, form in forms.items()}
    return grid(made, ([show(form, row) for form in made.values()] for row in rows))


def table(forms: Forms, rows: Iterable[Row]) -> list[Part]:
    """Returns `columns_of`, folded if it is long."""
    return fold_long(columns_of(forms, rows))


def fixed(value: str, digits: int = 1, sign: bool = False) -> str:
    """Returns a CSV cell's number with so many decimals; an empty cell stays empty."""
    return f"{float(value):{'+' if sign else ''}.{digits}f}" if value else ""


def percent(value: str) -> str:
    """Returns a share in [0, 1] as a percentage."""
    return f"{100 * float(value):.1f}%"


def number(column: str, digits: int = 1) -> Form:
    """Returns the form that shows a column with so many decimals."""
    return lambda row: fixed(row[column], digits)


def share(column: str) -> Form:
    """Returns the form that shows a column of shares as percentages."""
    return lambda row: percent(row[column])


def is_number(text: str) -> bool:
    """Returns whether a CSV cell holds a number."""
    return re.fullmatch(r"-?(\d+(\.\d+)?(e[+-]?\d+)?|inf)|nan", text) is not None


def rounded(cells: Sequence[str]) -> list[str]:
    """Returns a column as people read it: of numbers, whole ones as they are, others with one number of decimals."""
    if not all(map(is_number, filter(None, cells))):
        return [*cells]
    numbers = [float(cell) for cell in cells if re.search("[.e]", cell)]
    largest = max((abs(number) for number in numbers), default=0)
    decimals = next((digits for digits, bound in enumerate((1e4, 100, 10, 1)) if largest >= bound), 4)
    return [f"{float(cell):.{decimals}f}" if re.search("[.e]", cell) else cell for cell in cells]


def interval(row: Mapping[str, str], digits: int = 1, prefix: str = "") -> str:
    """Returns the bounds `lo` and `hi` of a row's interval, or PREFIXlo and PREFIXhi."""
    return f"[{fixed(row[f'{prefix}lo'], digits, True)}, {fixed(row[f'{prefix}hi'], digits, True)}]"


def change(row: Mapping[str, str], digits: int) -> str:
    """Returns a row's difference with its interval and verdict."""
    return f"{fixed(row['difference'], digits, True)} {interval(row, digits)} {row['verdict']}"


def unique(values: Iterable) -> list:
    """Returns values in their order, each once."""
    return list(dict.fromkeys(values))


def pivot(rows: Sequence[Row], keys: Sequence[str], form: Form, paper: Form | None = None) -> Grid:
    """Returns a table with one row a combination of `keys` and one column a dataset, or two with the paper's number.

    Args:
        rows: of the CSV table.
        keys: their columns.
        form: of a cell.
        paper: of the cell beside it, on sets of which the paper has a number.
    """
    heads = {row["dataset"]: f"{row['dataset']} ({row['prompts']} prompts)" for row in rows}
    published = {row["dataset"] for row in rows if paper and row["paper"]}
    forms = {name: [form, paper] if paper and name in published else [form] for name in heads}
    groups: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), {})[row["dataset"]] = row
    header = [key.replace("_", " ") for key in keys]
    header += [head for name in heads for head in (heads[name], "paper")[: len(forms[name])]]
    return grid(
        header, ([*key, *(show(one, of[name]) for name in heads for one in forms[name])] for key, of in groups.items())
    )


def _spread(row: Mapping[str, str]) -> str:
    return f"{fixed(row['mean'])} ± {fixed(row['std'])} ({row['seeds']} seeds)" if row["std"] else fixed(row["mean"])


def _paper(row: Mapping[str, str]) -> str:
    marks = ("†" if row.get("paper_origin") == "MiniLLM" else "") + ("‡" if row.get("paper_note") else "")
    return fixed(row["paper"]) + marks if row["paper"] else "n/a"


def beside_paper(rows: Sequence[Row], keys: Sequence[str]) -> Grid:
    """Returns the scores by dataset, each column followed by the paper's where it has a number."""
    return pivot(rows, keys, _spread, _paper)
