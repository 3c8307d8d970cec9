"""Difference in {metric}, row system minus a control of the same student and training seed (phase 1, or a run of SFT,
KD, SeqKD or MiniLLM), with the 95% interval of a paired bootstrap over prompts (10,000 resamples, a prompt's seeds
averaged first). The p-value is two-sided and comes from the same resamples: twice the smaller share of differences at
or beyond 0. `<=`: no resample is on the other side, so the number is an upper bound. It is adjusted by Holm's method
for all comparisons of one student and training seed on one set in one decoding. Higher or lower: the adjusted p is
below 0.05; undecided otherwise. The interval is not adjusted, so it may leave out 0 all the same.
"""

from collections.abc import Iterator, Mapping
from itertools import product

from distill.config.slices.make_tables import MakeTables
from distill.report.differences import COLUMNS, tested
from distill.report.evidence import Evidence, scored
from distill.report.markdown import Part, change, fold_long, folded, pivot
from distill.report.recipes import Scores, comparison_families
from distill.report.table import Table, View
from distill.report.tables.pairs import p_value


def comparison_rows(scores: Scores, settings: MakeTables) -> Iterator[dict]:
    """Yields the difference in score of each pair, the pairs of one student and training seed on one set in one
    decoding tested together.
    """
    for (student, seed), pairs in comparison_families(settings.systems).items():
        about = {"student": student, "training_seed": seed}
        for dataset, decoding in product(settings.datasets, settings.decodings):
            for pair, columns in tested(pairs, scores, dataset, decoding, settings.seed):
                yield {"system": pair[0], "baseline": pair[1], "metric": settings.metrics[dataset]} | about | columns


def _evidence(row: Mapping[str, str], column: str, settings: MakeTables) -> Evidence:
    systems = [row["system"], row["baseline"]]
    if column == "p_adjusted":
        seed = int(row["training_seed"]) if row["training_seed"] else None
        family = comparison_families(settings.systems)[row["student"], seed]
        systems = [*dict.fromkeys(name for pair in family for name in pair)]
    return scored([(name, row["dataset"], row["decoding"]) for name in systems], by_prompt=True)


def _markdown(view: View) -> list[Part]:
    parts = view.head(f"Comparisons, {view.primary}", " Other decodings are in the CSV.")
    rows = [row for row in view.rows if row["decoding"] == view.primary]
    for is_further in (False, True):
        own = [row for row in rows if (row["baseline"] in view.further) is is_further]
        if own:
            whole = fold_long(pivot(own, ["system", "baseline"], lambda row: f"{change(row, 1)}, p {p_value(row)}"))
            parts += folded("Further training seeds", *whole) if is_further else whole
    return parts


TABLE = Table(
    order=60,
    title="Comparisons",
    columns=("system", "baseline", "student", "training_seed", "dataset", "metric", "decoding", *COLUMNS),
    keys=("system", "baseline", "dataset", "decoding"),
    given=("training_seed", "tests"),
    rows=lambda study: comparison_rows(study.scores, study.settings),
    evidence=_evidence,
    markdown=_markdown,
)
