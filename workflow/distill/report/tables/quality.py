"""What stands behind a {score}: a gain with lower entropy or shorter answers may be sharpening rather than
distillation. Tokens: mean length, EOS included. Finished: share of answers that ended by themselves. Distinct-n:
different n-grams over all n-grams of one seed's answers. Exact match in percent. Entropy: mean over the states of a
model's own answers, in nats, first seed. Means over seeds; other decodings are in the CSV.
"""

from collections.abc import Iterator, Mapping
from statistics import fmean

from distill.config.slices.make_tables import MakeTables
from distill.metrics.registry import load_metric
from distill.report.evidence import Evidence, entropies, of_row
from distill.report.markdown import Forms, Part, columns_of, fixed, folded, number, share, unique
from distill.report.measured import Rows, named
from distill.report.recipes import Cell
from distill.report.table import Table, View

MEANS = ("mean_tokens", "finished", "distinct_1", "distinct_2", "exact_match")


def quality_rows(
    cells: Mapping[Cell, Rows], entropies: Mapping[str, Mapping[str, float]], primary: str
) -> Iterator[dict]:
    """Yields means over seeds of what goes with the scores, and the entropy in nats, which the primary decoding has.

    Args:
        cells: seed rows.
        entropies: {system: {dataset: mean entropy along its own answers}}.
        primary: name of the primary decoding.
    """
    for cell, rows in cells.items():
        system, dataset, decoding = cell
        entropy = entropies.get(system, {}).get(dataset) if decoding == primary else None
        yield named(cell) | {name: fmean(row[name] for row in rows) for name in MEANS} | {"entropy": entropy}


def _evidence(row: Mapping[str, str], column: str, settings: MakeTables) -> Evidence:
    return entropies([row["system"]]) if column == "entropy" else of_row(row, column, settings)


def _markdown(view: View) -> list[Part]:
    scores = {(row["system"], row["dataset"], row["decoding"]): row for row in view.tables["scores"]}
    forms: Forms = {
        "system": "system",
        "{score}": lambda row: fixed(scores[row["system"], row["dataset"], row["decoding"]].watched(row.reads)["mean"]),
        "tokens": number("mean_tokens"),
        "finished": share("finished"),
        "distinct-1": number("distinct_1", 3),
        "distinct-2": number("distinct_2", 3),
        "exact match": number("exact_match"),
        "entropy": number("entropy", 2),
    }
    parts = view.head(f"Quality of the answers, {view.primary}")
    for dataset in unique(row["dataset"] for row in view.shown):
        own = [row for row in view.shown if row["dataset"] == dataset]
        score = load_metric(scores[own[0]["system"], dataset, view.primary]["metric"]).title
        whole = columns_of({head.format(score=score): form for head, form in forms.items()}, own)
        parts += [f"### {dataset}", whole] if dataset == view.shown[0]["dataset"] else folded(dataset, whole)
    return parts


TABLE = Table(
    order=80,
    title="Quality of the answers",
    columns=("system", "dataset", "decoding", *MEANS, "entropy"),
    keys=("system", "dataset", "decoding"),
    rows=lambda study: quality_rows(study.cells, study.measured.entropies, study.primary),
    evidence=_evidence,
    markdown=_markdown,
)
