"""{measure}, mean over prompts; ± is the sample standard deviation over sampling seeds of one trained model, not over
training seeds.

`paper`: the published number of the same model, method and set (Table 1); n/a where there is none. † The paper copied
it from MiniLLM's paper, which scored at temperature 1 and top-p 1: it goes with that decoding alone. ‡ Equal to another
row of the paper digit for digit: do not take it as a target. For its own rows the paper states temperature 1 and no
top-p; its released scripts use 0.8. So they go with neither decoding for certain.
"""

from collections.abc import Iterator, Mapping, Sequence

from distill.config.generation import Decoding
from distill.config.slices.make_tables import MakeTables
from distill.config.slices.reported_system import ReportedSystem
from distill.report import published
from distill.report.evidence import of_row
from distill.report.markdown import Part, beside_paper, folded
from distill.report.measured import Rows, named, spread
from distill.report.recipes import Cell
from distill.report.table import Table, View, paragraphs

_, PAPER = paragraphs(__doc__)


def _paper_cells(system: ReportedSystem, settings: MakeTables, dataset: str, decoding: str) -> dict:
    row = published.score_row(system, settings.paper, dataset)
    if row is None or not published.goes_with(settings, dataset, decoding):
        names = ("family", "paper_student", "paper", "paper_note")
        return dict.fromkeys(names) | dict.fromkeys(("paper_origin", "comparable"), "n/a")
    return {
        "family": row["family"],
        "paper_student": row["student"],
        "paper": float(row["rouge_l"]),
        "paper_origin": row["origin"],
        "comparable": published.comparable(row, settings.decodings[decoding]),
        "paper_note": row["note"],
    }


def score_rows(cells: Mapping[Cell, Rows], settings: MakeTables) -> Iterator[dict]:
    """Yields the score of every system, with the paper's number (Table 1) where it has one, at temperature 1 as it."""
    for cell, rows in cells.items():
        system = settings.systems[cell[0]]
        about = {"student": system.student, "training_seed": system.seed, "method": system.method}
        about["metric"] = settings.metrics[cell[1]]
        yield named(cell) | about | spread(rows) | _paper_cells(system, settings, *cell[1:])


def _notes(rows: Sequence[Mapping[str, str]], embedded: bool) -> list[str]:
    return [PAPER] if any(row["paper"] for row in rows) else []


def describe(name: str, decoding: Decoding, primary: bool) -> str:
    """Returns a decoding's name with its settings, as headings say it."""
    how = (
        "temperature 0"
        if decoding.temperature == 0
        else f"temperature {decoding.temperature:g}, top-p {decoding.top_p:g}"
    )
    return f"{name} ({how}{', primary' if primary else ''})"


def _markdown(view: View) -> list[Part]:
    parts = view.head("{scores}")
    for name, decoding in view.settings.decodings.items():
        main, further = (
            [row for row in view.rows if row["decoding"] == name and (row["system"] in view.further) is is_further]
            for is_further in (False, True)
        )
        title = f"{view.words['scores']}, {describe(name, decoding, name == view.primary)}"
        if name != view.primary:
            parts += folded(title, beside_paper(main, ["system"]))
            continue
        parts += [f"### {title}", beside_paper(main, ["system"])]
        if further:
            parts += folded(f"{title}, further training seeds", beside_paper(further, ["system"]))
    return parts


TABLE = Table(
    order=10,
    title="{scores}",
    columns=(
        *(
            "system",
            "student",
            "training_seed",
            "method",
            "dataset",
            "metric",
            "decoding",
            "mean",
            "std",
            "seeds",
            "prompts",
        ),
        *("family", "paper_student", "paper", "paper_origin", "comparable", "paper_note"),
    ),
    keys=("system", "dataset", "decoding"),
    given=("training_seed",),
    rows=lambda study: score_rows(study.cells, study.settings),
    paper=("paper", "table1", published.score_row),
    evidence=of_row,
    notes=_notes,
    markdown=_markdown,
)
