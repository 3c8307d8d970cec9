"""tables.md: the tables for people, in Markdown, and which numbers of the CSV files each of its cells shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distill.config.slices.render_tables import RenderTables
from distill.markdown import as_text
from distill.pages import captions
from distill.pages.limits import limits
from distill.report.markdown import Cell, Grid, Part, Row
from distill.report.table import View
from distill.report.tables import TABLES


@dataclass(frozen=True)
class Line:
    """A row of a table of the page: the CSV tables that its part links, the table's header, and its cells."""

    tables: Sequence[str]
    header: Sequence[str]
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Page:
    """The page's text, and the rows of its tables by line, from 1."""

    text: str
    lines: Mapping[int, Line]


def render(tables: Mapping[str, Sequence[Mapping[str, str]]], settings: RenderTables, folder: str) -> Page:
    """Returns the page; a table without rows has no part.

    Args:
        tables: the CSV tables by name.
        settings: title and what the page says of the study.
        folder: where the CSV files lie, as seen from the page.
    """
    texts: list[str] = []
    lines: dict[int, Line] = {}

    def add(part: Part, linked: Sequence[str] = ()) -> None:
        if isinstance(part, Grid):
            first = sum(text.count("\n") + 2 for text in texts) + 3  # below header and rule
            lines.update({first + i: Line(linked, part.header, cells) for i, cells in enumerate(part.rows)})
            part = part.text()
        texts.append(part)

    rows = {name: [Row(row, name, index) for index, row in enumerate(own)] for name, own in tables.items()}
    for text in (
        f"# {as_text(settings.title)}",
        captions.EMBEDDED if settings.embedded else captions.STUDY,
        captions.SYSTEMS,
    ):
        add(text)
    for name, table in TABLES.items():
        if rows[name] and not table.beside:
            linked = [name, *(other for other, one in TABLES.items() if one.beside == name)]
            for part in View(table, rows[name], rows, settings).part():
                add(part, linked)
            add(f"Full precision: {', '.join(f'[{file}.csv]({folder}/{file}.csv)' for file in linked)}")
    judges = (as_text(row["judge"]) for row in tables["win_rates"])
    items = limits(judges, (row["metric"] for row in tables["scores"]), settings.deepspeed, settings.sampling)
    add("## Not comparable, or not reproducible bit for bit")
    add("\n".join(f"- {item}" for item in items))
    return Page("\n\n".join(texts) + "\n", lines)
