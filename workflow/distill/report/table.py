"""What a table is: its columns and rows, its words, its part of tables.md, and what stands behind its cells."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from distill.config.generation import primary_decoding
from distill.config.slices.make_tables import MakeTables
from distill.config.slices.render_tables import RenderTables
from distill.report.evidence import SET, Evidence, Source, of_paper
from distill.report.markdown import Part, Row, rounded, table
from distill.report.measured import Study


def paragraphs(docstring: str) -> list[str]:
    """Returns the paragraphs of a docstring, each on one line: a table's caption, then its further words."""
    return [" ".join(text.split()) for text in docstring.split("\n\n")]


@dataclass(frozen=True)
class Table:
    """A table of the study; its file's name is its name.

    Its words are the docstring of its file, which no digest of code holds: an edit makes the pages again, not the rows.

    Attributes:
        order: place among the tables, in tables.md and in the report.
        title: heading in the report, and in tables.md unless `markdown` has another.
        columns: names of the columns of the CSV file.
        keys: columns that tell the rows apart.
        rows: the study's rows, each with every column; nothing is rounded.
        evidence: what stands behind a number, told by its row as text, its column and the settings of the tables.
        given: columns of numbers that the config gives.
        paper: the column of the paper's numbers, their table, and what finds a system's row there on a set.
        times: columns of measured times, which no rerun repeats.
        is_time: whether a whole row is a measured time.
        notes: what follows the caption, told by the rows and by whether the study is the embedded one.
        markdown: the table's part of tables.md; by default heading, caption and all columns.
        beside: the table in whose part of tables.md this one is linked, and whose caption it has.
        caption: what stands below the heading: the first paragraph of the docstring. In the report, {COLUMN} is the
            first row's value.
    """

    order: int
    title: str
    columns: tuple[str, ...]
    keys: tuple[str, ...]
    rows: Callable[[Study], Iterable[Mapping]]
    evidence: Callable[[Mapping[str, str], str, MakeTables], Evidence]
    given: tuple[str, ...] = ()
    paper: tuple[str, str, Callable] | None = None
    times: tuple[str, ...] = ()
    is_time: Callable[[Mapping[str, str]], bool] = lambda row: False
    notes: Callable[[Sequence[Mapping[str, str]], bool], list[str]] = lambda rows, embedded: []
    markdown: Callable[["View"], list[Part]] | None = None
    beside: str | None = None
    caption: str = ""

    def behind(self, row: Mapping[str, str], column: str, settings: MakeTables) -> Evidence:
        """Returns what stands behind the number of a row."""
        if column in self.given:
            return Evidence(SET, [Source("settings")])
        if self.paper and column == self.paper[0]:
            _, table, find = self.paper
            return of_paper(table, find(settings.systems[row["system"]], settings.paper, row.get("dataset")))
        return self.evidence(row, column, settings)


@dataclass(frozen=True)
class View:
    """What a table's part of tables.md is made from; `rows` are the table's own, `tables` those of all."""

    table: Table
    rows: Sequence[Row]
    tables: Mapping[str, Sequence[Row]]
    settings: RenderTables

    @property
    def primary(self) -> str:
        """The name of the primary decoding."""
        return primary_decoding(self.settings.decodings)

    @cached_property
    def further(self) -> set[str]:
        """The systems of further training seeds."""
        first: dict[str, str] = {}
        return {
            row["system"]
            for row in self.tables["rouge"]
            if first.setdefault(row["student"], row["training_seed"]) != row["training_seed"]
        }

    @property
    def shown(self) -> list[Row]:
        """The rows of the primary decoding and the first training seeds; the CSV has all."""
        return [row for row in self.rows if row["decoding"] == self.primary and row["system"] not in self.further]

    def head(self, title: str | None = None, more: str = "") -> list[Part]:
        """Returns heading, caption, `more` at its end, and notes."""
        notes = self.table.notes(self.rows, self.settings.embedded)
        return [f"## {title or self.table.title}", self.table.caption + more, *notes]

    def part(self) -> list[Part]:
        """Returns the table's part of the page."""
        if self.table.markdown:
            return self.table.markdown(self)
        texts = {column: rounded([row[column] for row in self.rows]) for column in self.table.columns}
        forms = {column: lambda row, of=column: row[of] and texts[of][row.index] for column in self.table.columns}
        return [*self.head(), *table(forms, self.rows)]
