"""Ranking of the preference pairs' test set: how often a system finds the chosen response likelier than the rejected
one, log q of the whole responses, EOS included; in percent, with the 95% bootstrap interval over pairs. Grade: how many
concepts are wrong in the chosen and in the rejected response. Differences, in points, are paired over pairs, several
training seeds averaged pair by pair: every system against the one that it started from, and the runs of one start
against each other, the later minus the earlier; higher or lower where the whole interval lies on one side of 0.
"""

from collections.abc import Iterator, Mapping
from itertools import combinations
from statistics import fmean

from distill.config.slices.make_tables import MakeTables
from distill.evaluation.statistics import bootstrap, paired_bootstrap
from distill.report.differences import change
from distill.report.evidence import MEASURED, Evidence, Source
from distill.report.markdown import Cell, Part, fixed, fold_long, grid, number, show
from distill.report.markdown import change as change_text
from distill.report.measured import Rows
from distill.report.recipes import Systems, recipes
from distill.report.table import Table, View

ALL = "all"
FILE = "rankings.jsonl"


def ranked_pairs(systems: Systems) -> list[tuple[str, str]]:
    """Returns the pairs (recipe, other) that are compared: with the start, and among the runs of one start."""
    names = recipes(systems)
    groups: dict[str, list[str]] = {}
    for name in names:
        own = systems[name]
        start = next(
            (
                other
                for other in names
                if (systems[other].student, systems[other].run) == (own.student, own.options["start"])
            ),
            None,
        )
        if start not in (None, name):  # a base model is its own start
            groups.setdefault(start, []).append(name)
    return [
        pair
        for start, group in groups.items()
        for pair in (*((name, start) for name in group), *(two[::-1] for two in combinations(group, 2)))
    ]


def ranking_rows(rankings: Mapping[str, Rows], settings: MakeTables) -> Iterator[dict]:
    """Yields each system's accuracy on all pairs and by grade, then the differences of recipes on all pairs."""
    right = {
        system: {row["id"]: 100.0 * (row["chosen"] > row["rejected"]) for row in rows}
        for system, rows in rankings.items()
    }
    for system, rows in rankings.items():
        grades = sorted({row["grade"] for row in rows} - {""})
        for grade in (ALL, *grades):
            own = [right[system][row["id"]] for row in rows if grade in (ALL, row["grade"])]
            found = bootstrap(own, settings.seed)
            columns = {"accuracy": found.estimate, "lo": found.lo, "hi": found.hi, "pairs": found.n}
            yield {"system": system, "other": "", "grade": grade, "difference": None, "verdict": None} | columns
    members = recipes(settings.systems)
    pooled = {
        name: {pair: fmean(right[member][pair] for member in group) for pair in right[name]}
        for name, group in members.items()
    }
    for name, other in ranked_pairs(settings.systems):
        columns = change(paired_bootstrap(pooled[name], pooled[other], settings.seed))
        pairs = columns.pop("prompts")
        yield {"system": name, "other": other, "grade": ALL, "accuracy": None, "pairs": pairs} | columns


def _evidence(row: Mapping[str, str], column: str, settings: MakeTables) -> Evidence:
    members = recipes(settings.systems)
    names = [name for one in (row["system"], row["other"]) if one for name in members.get(one, [one])]
    if not row["other"]:
        names = [row["system"]]
    where = {} if row["grade"] == ALL else {"grade": row["grade"]}
    what = "log-probabilities of both responses by pair, measured by rank_pairs"
    return Evidence(MEASURED, [Source("rankings", name, FILE, what, where) for name in names])


def _interval(row: Mapping[str, str]) -> str:
    return f"[{fixed(row['lo'])}, {fixed(row['hi'])}]"


def _markdown(view: View) -> list[Part]:
    own = [row for row in view.rows if not row["other"]]
    grades = list(dict.fromkeys(row["grade"] for row in own))
    cells = {(row["system"], row["grade"]): row for row in own}
    body: list[list[str | Cell]] = []
    for system in dict.fromkeys(row["system"] for row in own):
        whole = cells[system, ALL]
        first = [show(number("accuracy"), whole), show(_interval, whole)]
        body.append([system, *first, *(show(number("accuracy"), cells[system, grade]) for grade in grades[1:])])
    parts = [*view.head(), *fold_long(grid(["system", "accuracy", "95% interval", *grades[1:]], body))]
    pairs: list[list[str | Cell]] = [
        [row["system"], row["other"], show(lambda row: change_text(row, 1), row)] for row in view.rows if row["other"]
    ]
    return [*parts, *fold_long(grid(["system", "other", "difference"], pairs))] if pairs else parts


TABLE = Table(
    order=155,
    title="Ranking of preference pairs",
    columns=("system", "other", "grade", "pairs", "accuracy", "difference", "lo", "hi", "verdict"),
    keys=("system", "other", "grade"),
    rows=lambda study: ranking_rows(study.measured.rankings, study.settings) if study.measured.rankings else [],
    evidence=_evidence,
    markdown=_markdown,
)
