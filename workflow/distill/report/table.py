"""What a table is: its columns and rows, its words, its part of tables.md, and what stands behind its cells."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from distill.config.generation import primary_decoding
from distill.config.slices.make_tables import MakeTables
from distill.config.slices.render_tables import RenderTables
from distill.metrics.registry import load_metric
from distill.report.evidence import SET, Evidence, Source, of_paper
from distill.report.markdown import Part, Row, rounded, table
from distill.report.measured import Study

Rows = Sequence[Mapping[str, str]]


def paragraphs(docstring: str) -> list[str]:
    """Returns the paragraphs of a docstring, each on one line: a table's caption, then its further words."""
    return [" ".join(text.split()) for text in docstring.split("\n\n")]


def metric_words(rows: Rows, tables: Mapping[str, Rows]) -> dict[str, str]:
    """Returns what stands for the placeholders in the words of a table or figure that speaks of scores.

    `{metric}` in a sentence, `{score}` and `{scores}` in heads, `{dev}` for dev answers: the title of the metric where
    all rows have one. `{measure}` says what each metric measures.

    Args:
        rows: with a column `metric`; else those of the table of scores count.
        tables: the rows of all tables.
    """
    own = rows if rows and "metric" in rows[0] else tables["scores"]
    sets: dict[str, dict[str, None]] = {}
    for row in own:
        if row["metric"]:
            sets.setdefault(row["metric"], {})[row.get("dataset", "")] = None
    captions = {name: load_metric(name).caption.removesuffix(".") for name in sets}
    several = "; ".join(f"{captions[name]} ({', '.join(datasets)})" for name, datasets in sets.items())
    names = {"metric": "the set's metric", "score": "score", "scores": "Scores"}
    return {name: metric_title(sets, word) for name, word in names.items()} | {
        "dev": metric_title({row["dev_metric"] for row in rows if row.get("dev_metric")} or sets, "score"),
        "measure": next(iter(captions.values())) if len(sets) == 1 else several,
    }


def metric_title(metrics: Collection[str], several: str) -> str:
    """Returns the title of the only one of some metrics, or a word for several or none."""
    return load_metric(next(iter(metrics))).title if len(metrics) == 1 else several


def worded(text: str, words: Mapping[str, str]) -> str:
    """Returns a text with words in the place of their names in braces; other braces stay."""
    for name, word in words.items():
        text = text.replace(f"{{{name}}}", word)
    return text


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
        times: columns of measured times and of the machine that they are of, which no rerun repeats.
        is_time: whether a whole row is a measured time.
        notes: what follows the caption, told by the rows and by whether the study is the embedded one.
        markdown: the table's part of tables.md; by default heading, caption and all columns.
        of_paper: whether it is about the paper, so that a report names it only where the study repeats its models.
        beside: the table in whose part of tables.md this one is linked, and whose caption it has.
        caption: what stands below the heading: the first paragraph of the docstring. In it and in the title, the words
            of `metric_words` stand for their placeholders; in the report, also the first row's value for {COLUMN}.
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
    of_paper: bool = False
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
            for row in self.tables["scores"]
            if first.setdefault(row["student"], row["training_seed"]) != row["training_seed"]
        }

    @property
    def shown(self) -> list[Row]:
        """The rows of the primary decoding and the first training seeds; the CSV has all."""
        return [row for row in self.rows if row["decoding"] == self.primary and row["system"] not in self.further]

    @cached_property
    def words(self) -> dict[str, str]:
        """What stands for the placeholders of the table's words."""
        return metric_words(self.rows, self.tables)

    def head(self, title: str | None = None, more: str = "") -> list[Part]:
        """Returns heading, caption, `more` at its end, and notes."""
        notes = self.table.notes(self.rows, self.settings.embedded)
        parts = (f"## {title or self.table.title}", self.table.caption + more)
        return [*(worded(part, self.words) for part in parts), *notes]

    def part(self) -> list[Part]:
        """Returns the table's part of the page."""
        if self.table.markdown:
            return self.table.markdown(self)
        texts = {column: rounded([row[column] for row in self.rows]) for column in self.table.columns}
        forms = {column: lambda row, of=column: row[of] and texts[of][row.index] for column in self.table.columns}
        return [*self.head(), *table(forms, self.rows)]
