"""Every bd run. Dev: {dev} of the selected checkpoint on dev data. Differences are paired by prompt, with the 95%
bootstrap interval over prompts, not adjusted for their number. Several training seeds are averaged; ± is then over
them.
"""

from collections.abc import Iterator, Mapping
from itertools import product
from statistics import fmean

from distill.config.generation import primary_decoding
from distill.config.slices.make_tables import MakeTables
from distill.evaluation.selection import selecting_metric
from distill.evaluation.statistics import mean_std, paired_bootstrap
from distill.metrics.registry import load_metric
from distill.report.evidence import SCORED, Evidence, cells_of, dev_answers, entropies, scored
from distill.report.markdown import Forms, Part, fixed, interval, number, table
from distill.report.measured import Rows, Study, spread
from distill.report.options import chi_square_of
from distill.report.recipes import Cell, Scores, beside, pooled, recipes
from distill.report.table import Table, View

OTHERS = {
    "over_phase1": lambda system: system.run == "phase1",
    "over_seqkd": lambda system: system.method == "seqkd",
}
"""Which system of the same student a difference is to: the first of these."""


def ablation_rows(
    cells: Mapping[Cell, Rows],
    scores: Scores,
    entropies: Mapping[str, Mapping[str, float]],
    dev_scores: Mapping[str, tuple[str, float] | None],
    settings: MakeTables,
) -> Iterator[dict]:
    """Yields every bd run with its options, its scores, and its difference to phase 1 and to the first SeqKD run of its
    student, with a 95% bootstrap interval over prompts. Several training seeds are averaged, in a difference prompt by
    prompt.

    Args:
        cells: seed rows.
        scores: by prompt.
        entropies: {system: {dataset: mean entropy along its own answers}}, of the primary decoding.
        dev_scores: metric and dev score of each system's selected checkpoint; None where dev loss or no score chose it.
        settings: the systems.
    """
    systems, pool = settings.systems, pooled(scores, settings.systems)
    primary = primary_decoding(settings.decodings)
    for name, members in recipes(systems).items():
        options = systems[name].options
        if systems[name].method != "bd":
            continue
        others = {key: beside(systems, name, is_wanted) for key, is_wanted in OTHERS.items()}
        dev = [found for member in members if (found := dev_scores[member]) is not None]
        for dataset, decoding in product(settings.datasets, settings.decodings):
            rows = [row for member in members for row in cells[member, dataset, decoding]]
            test = mean_std([spread(cells[member, dataset, decoding])["mean"] for member in members])
            measured = [entropies[member][dataset] for member in members if dataset in entropies[member]]
            differences: dict[str, float | None] = {}
            for key, other in others.items():
                difference = (
                    paired_bootstrap(pool[name, dataset, decoding], pool[other, dataset, decoding], settings.seed)
                    if other
                    else None
                )
                values = (difference.estimate, difference.lo, difference.hi) if difference else (None,) * 3
                differences |= dict(zip((key, f"{key}_lo", f"{key}_hi"), values, strict=True))
            yield {
                "system": name,
                "student": systems[name].student,
                "training_seeds": test.n,
                **{key: options["bellman"][key] for key in ("objective", "p", "clip_scope", "alpha")},
                "remainder": "with" if options["bellman"]["remainder"] else "without",
                "chi2": chi_square_of(systems[name]),
                "plain_text_weight": options["plain_text_weight"],
                "dataset": dataset,
                "decoding": decoding,
                "metric": settings.metrics[dataset],
                "dev_metric": dev[0][0] if len(dev) == len(members) else None,
                "dev_score": fmean(score for _, score in dev) if len(dev) == len(members) else None,
                "score": test.mean,
                "score_std": test.std,
                **differences,
                "entropy": fmean(measured) if measured and decoding == primary else None,
                "mean_tokens": fmean(row["mean_tokens"] for row in rows),
            }


def _rows(study: Study) -> Iterator[dict]:
    dev_scores = {
        run: (metric, selection["scores"][str(selection["update"])][selection["rule"]])
        if (metric := selecting_metric(selection["rule"]))
        else None
        for run, selection in study.measured.selections.items()
    }
    return ablation_rows(study.cells, study.scores, study.measured.entropies, dev_scores, study.settings)


def _evidence(row: Mapping[str, str], column: str, settings: MakeTables) -> Evidence:
    systems, members = settings.systems, recipes(settings.systems)[row["system"]]
    if column == "dev_score":
        return Evidence(SCORED, [source for run in members for source in dev_answers(run)], runs=members)
    if column == "entropy":
        return entropies(members)
    key = next((key for key in OTHERS if column.startswith(key)), None)
    other = [beside(systems, row["system"], OTHERS[key])] if key else []
    return scored(cells_of(row, settings, *other), by_prompt=bool(key))


def _over(row: Mapping[str, str], key: str) -> str:
    return f"{fixed(row[key], 1, True)} {interval(row, prefix=f'{key}_')}" if row[key] else ""


def _chi_square(row: Mapping[str, str]) -> str:
    named = {"with": "alpha {}", "centred": "centred, alpha {}"}.get(row["chi2"])
    return named.format(row["alpha"]) if named else "without"


def _score(row: Mapping[str, str]) -> str:
    spread = f" ± {fixed(row['score_std'])} ({row['training_seeds']} seeds)" if row["score_std"] else ""
    return fixed(row["score"]) + spread


FORMS: Forms = {
    "system": "system",
    "objective": lambda row: row["objective"] + (", remainder" if row["remainder"] == "with" else ""),
    "p": "p",
    "clip scope": "clip_scope",
    "chi-square": _chi_square,
    "plain text": "plain_text_weight",
    "dev": number("dev_score"),
    "{score}": _score,
    "over phase1": lambda row: _over(row, "over_phase1"),
    "over SeqKD": lambda row: _over(row, "over_seqkd"),
    "entropy": number("entropy", 2),
    "tokens": number("mean_tokens"),
}


def _markdown(view: View) -> list[Part]:
    dataset = view.rows[0]["dataset"]
    rows = [row for row in view.rows if (row["dataset"], row["decoding"]) == (dataset, view.primary)]
    title = f"Bellman Distill's options, {dataset}, {view.primary}"
    forms = {head.format(score=load_metric(rows[0]["metric"]).title): form for head, form in FORMS.items()}
    return [*view.head(title, " Other sets and decodings are in the CSV."), *table(forms, rows)]


TABLE = Table(
    order=110,
    title="Ablations",
    columns=(
        *("system", "student", "training_seeds", "objective", "remainder", "p", "clip_scope", "chi2", "alpha"),
        *("plain_text_weight", "dataset", "metric", "decoding", "dev_metric", "dev_score", "score", "score_std"),
        *(f"{key}{end}" for key in OTHERS for end in ("", "_lo", "_hi")),
        *("entropy", "mean_tokens"),
    ),
    keys=("system", "dataset", "decoding"),
    given=("training_seeds", "p", "alpha", "plain_text_weight"),
    rows=_rows,
    evidence=_evidence,
    markdown=_markdown,
)
