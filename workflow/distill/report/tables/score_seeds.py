"""{scores} of every sampling seed."""

from collections.abc import Iterator, Mapping

from distill.config.slices.make_tables import MakeTables
from distill.report.evidence import of_row
from distill.report.measured import Rows, named
from distill.report.recipes import Cell
from distill.report.table import Table


def score_seed_rows(cells: Mapping[Cell, Rows], settings: MakeTables) -> Iterator[dict]:
    """Yields every seed's score."""
    for cell, rows in cells.items():
        for row in sorted(rows, key=lambda row: row["seed"]):
            yield named(cell) | {"metric": settings.metrics[cell[1]], "seed": row["seed"], "score": row["score"]}


TABLE = Table(
    order=30,
    title="{scores} of every sampling seed",
    columns=("system", "dataset", "metric", "decoding", "seed", "score"),
    keys=("system", "dataset", "decoding", "seed"),
    rows=lambda study: score_seed_rows(study.cells, study.settings),
    evidence=lambda row, column, settings: of_row(row, seed=int(row["seed"])),
    beside="scores",
)
