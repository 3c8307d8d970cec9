"""The paper's Table 2: Bellman Distill by p, all else equal. With 50,000 tokens and more the floor of Q puts most of
the projected policy on floored tokens at p = 1, so that clip scope `all` partly measures the floor there; `selected`
leaves V unfloored.
"""

from collections.abc import Iterator, Mapping

from distill.config.slices.make_tables import MakeTables
from distill.report import published
from distill.report.evidence import of_row
from distill.report.markdown import beside_paper
from distill.report.measured import Rows
from distill.report.options import groups, option_rows
from distill.report.recipes import Cell
from distill.report.table import Table


def p_rows(cells: Mapping[Cell, Rows], settings: MakeTables) -> Iterator[dict]:
    """Yields the score by p (paper, Table 2), largest first, of bd runs that differ in p and clip_scope alone."""
    for group in groups(settings, "p", "clip_scope"):
        bellman = {name: settings.systems[name].options["bellman"] for name in group}
        order = sorted(group, key=lambda name: (-bellman[name]["p"], bellman[name]["clip_scope"]))
        options = {name: {key: bellman[name][key] for key in ("p", "clip_scope")} for name in order}
        yield from option_rows(group, cells, settings, options, published.p_row)


TABLE = Table(
    order=90,
    title="Values of p",
    columns=(
        "group",
        "system",
        "p",
        "clip_scope",
        "dataset",
        "metric",
        "decoding",
        "mean",
        "std",
        "seeds",
        "prompts",
        "paper",
    ),
    keys=("group", "system", "dataset", "decoding"),
    given=("p",),
    rows=lambda study: p_rows(study.cells, study.settings),
    paper=("paper", "table2", published.p_row),
    evidence=of_row,
    markdown=lambda view: [*view.head(f"p, {view.primary}"), beside_paper(view.shown, ["system", "p", "clip_scope"])],
)
