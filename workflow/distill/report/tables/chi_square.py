"""The paper's Table 4: Bellman Distill with and without the chi-square term, all else equal."""

from collections.abc import Iterator, Mapping

from distill.config.slices.make_tables import MakeTables
from distill.report import published
from distill.report.evidence import of_row
from distill.report.markdown import beside_paper
from distill.report.measured import Rows
from distill.report.options import chi_square_of, groups, option_rows
from distill.report.recipes import Cell
from distill.report.table import Table


def chi_square_rows(cells: Mapping[Cell, Rows], settings: MakeTables) -> Iterator[dict]:
    """Yields the score with, without and with the centred chi-square term (paper, Table 4) of bd runs that differ in it
    alone."""
    for group in groups(settings, "chi2"):
        chi2 = {name: chi_square_of(settings.systems[name]) for name in group}
        options = {name: {"chi2": chi2[name]} for name in sorted(group, key=chi2.__getitem__)}
        yield from option_rows(group, cells, settings, options, published.chi_square_row)


TABLE = Table(
    order=100,
    title="Chi-square term",
    columns=("group", "system", "chi2", "dataset", "metric", "decoding", "mean", "std", "seeds", "prompts", "paper"),
    keys=("group", "system", "dataset", "decoding"),
    rows=lambda study: chi_square_rows(study.cells, study.settings),
    paper=("paper", "table4", published.chi_square_row),
    evidence=of_row,
    markdown=lambda view: [
        *view.head(f"Chi-square term, {view.primary}"),
        beside_paper(view.shown, ["system", "chi2"]),
    ],
)
