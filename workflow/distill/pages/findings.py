"""What a study found, in three sentences that are written from its tables."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev

from distill.metrics.registry import load_metric
from distill.report.markdown import fixed, interval, percent
from distill.report.tables.win_rates import OVERLAP_JUDGE

Table = Sequence[Mapping[str, str]]
Tables = Mapping[str, Table]
VERDICTS = {"higher": "is ahead of", "lower": "is behind", "undecided": "cannot be told from"}
_OPPOSITE = {"higher": "lower", "lower": "higher", "undecided": "undecided"}


@dataclass(frozen=True)
class Score:
    """A system's mean score in a cell; its deviation is over training seeds, of one over sampling seeds, or None."""

    mean: float
    std: float | None


@dataclass(frozen=True)
class Finding:
    """A sentence, with `code` marked as in captions, and the table that its numbers are from."""

    text: str
    table: str


@dataclass(frozen=True)
class Outcome:
    """The tables of a study, read by recipe: systems that differ in their training seed alone are one.

    Attributes:
        tables: the CSV tables by name.
        recipes: each system's name without its training seed.
    """

    tables: Tables
    recipes: Mapping[str, str]

    def recipe(self, system: str) -> str:
        """Returns a system's name without its training seed."""
        return self.recipes.get(system, system)

    @cached_property
    def scores(self) -> dict[tuple[str, str, str], Score]:
        """Returns each recipe's score by (recipe, dataset, decoding)."""
        cells: dict[tuple[str, str, str], list[Mapping[str, str]]] = {}
        for row in self.tables["scores"]:
            cells.setdefault((self.recipe(row["system"]), row["dataset"], row["decoding"]), []).append(row)
        return {cell: self._score(rows) for cell, rows in cells.items()}

    @staticmethod
    def _score(rows: Table) -> Score:
        means = [float(row["mean"]) for row in rows]
        if len(rows) > 1:
            return Score(fmean(means), stdev(means))
        return Score(means[0], float(rows[0]["std"]) if rows[0]["std"] else None)

    @cached_property
    def teachers(self) -> list[str]:
        """Returns the systems that belong to no student."""
        return [*dict.fromkeys(row["system"] for row in self.tables["scores"] if not row["student"])]

    @cached_property
    def baselines(self) -> list[str]:
        """Returns the recipes that others are compared with."""
        return [*dict.fromkeys(self.recipe(row["baseline"]) for row in self.tables["comparisons"])]

    def compared(self, system: str, other: str, dataset: str, decoding: str) -> list[dict[str, str]]:
        """Returns the comparisons of two recipes, a row a training seed, each as system minus other."""
        found = []
        for row in self.tables["comparisons"]:
            if (row["dataset"], row["decoding"]) == (dataset, decoding):
                pair = self.recipe(row["system"]), self.recipe(row["baseline"])
                if pair in ((system, other), (other, system)):
                    found.append(_directed(row, pair == (system, other)))
        return found

    def pair(self, system: str, other: str) -> dict[str, str] | None:
        """Returns the pair of two recipes on the first set in the primary decoding, as system minus other."""
        for row in self.tables["pairs"]:
            pair = row["system"], row["other"]
            if pair in ((system, other), (other, system)):
                return _directed(row, pair == (system, other))
        return None

    def best(self, names: Iterable[str], dataset: str, decoding: str) -> str | None:
        """Returns the one with the highest mean score; None of none."""
        own = [name for name in names if (name, dataset, decoding) in self.scores]
        return max(own, key=lambda name: self.scores[name, dataset, decoding].mean, default=None)

    def main(self) -> tuple[str, str] | None:
        """Returns the first student's recipe that the findings are about, and what it is; None without comparisons.

        It is a run of BD, where the study has none another run that is no baseline; of several the one with the best
        score on dev data, which test data do not enter. Where every run is a baseline it is the one with the highest
        score.
        """
        first = next((row["student"] for row in self.tables["scores"] if row["student"]), "")
        methods = {
            self.recipe(row["system"]): row["method"] for row in self.tables["scores"] if row["student"] == first
        }
        others = [name for name in methods if name not in self.baselines]
        bellman = [name for name in others if methods[name] == "bd"]
        names, kind = bellman or others, "BD run" if bellman else "run that is no baseline"
        if not self.baselines or not methods:
            return None
        if not names:
            scores = next(iter(self.tables["scores"]))
            return self.best(methods, scores["dataset"], scores["decoding"]) or "", "the run with the highest score"
        if len(names) == 1:
            return names[0], f"the {kind}"
        dev: dict[str, list[float]] = {}
        for row in self.tables["selection"]:
            if row["chosen"] == "yes" and row["dev_score"]:
                dev.setdefault(self.recipe(row["run"]), []).append(float(row["dev_score"]))
        scored = [name for name in names if name in dev]
        if not scored:
            return names[0], f"the first {kind}"
        return max(scored, key=lambda name: fmean(dev[name])), f"the {kind} with the highest dev score"


def _directed(row: Mapping[str, str], as_it_is: bool) -> dict[str, str]:
    """Returns a tested difference as it is, or the other way round."""
    if as_it_is:
        return dict(row)
    turned = {"difference": row["difference"], "lo": row["hi"], "hi": row["lo"]}
    return {
        **row,
        **{name: repr(-float(value)) for name, value in turned.items()},
        "verdict": _OPPOSITE[row["verdict"]],
    }


def findings(outcome: Outcome) -> list[Finding]:
    """Returns what the study found of its main run: against the best baseline, the teacher, and by the judge."""
    main = outcome.main()
    if main is None:
        return [Finding("This study compares no run with a baseline.", "scores")]
    name, kind = main
    against = _against_baselines(outcome, name, kind)
    return [*against, *_against_teacher(outcome, name), _judged(outcome, name)]


def _difference(row: Mapping[str, str]) -> str:
    return f"{fixed(row['difference'], 1, True)} {interval(row)}"


def _against_baselines(outcome: Outcome, name: str, kind: str) -> list[Finding]:
    rows = {other: row for other in outcome.baselines if (row := outcome.pair(name, other))}
    if not rows:
        return []
    dataset, decoding = ((row := next(iter(rows.values())))["dataset"], row["decoding"])
    best = outcome.best(rows, dataset, decoding)
    assert best is not None, "every system of a pair has scores"
    row = rows[best]
    kept = any(
        outcome.recipe(one["run"]) == name and one["selected_update"] == "0" for one in outcome.tables["training"]
    )
    text = (
        f"`{name}`, {kind}, {VERDICTS[row['verdict']]} the best baseline, `{best}`, on {dataset}: "
        f"{_difference(row)} {load_metric(row['metric']).title} ({row['prompts']} prompts, `{decoding}`, "
        f"Holm's correction for {row['tests']} pairs)"
    )
    others = [rows[other]["verdict"] for other in rows if other != best]
    counts = {verdict: others.count(verdict) for verdict in VERDICTS if verdict in others}
    told = [f"{VERDICTS[verdict]} {number}" for verdict, number in counts.items()]
    if len(others) == 1:
        text += f"; it {VERDICTS[others[0]]} the other baseline"
    elif len(told) == 1:
        text += (
            f"; it {VERDICTS[others[0]]} {'any' if others[0] == 'undecided' else 'each'} of the {len(others)} others"
        )
    elif told:
        text += f"; of the {len(others)} others it {', '.join(told[:-1])} and {told[-1]}"
    text += "; it kept its start, since no checkpoint was better on dev data" if kept else ""
    return [Finding(f"{text}.", "pairs")]


def _against_teacher(outcome: Outcome, name: str) -> list[Finding]:
    for teacher in outcome.teachers:
        if row := outcome.pair(name, teacher):
            own, its = (outcome.scores[one, row["dataset"], row["decoding"]].mean for one in (name, teacher))
            share = f"reaches {percent(repr(own / its))} of the score of `{teacher}` ({own:.1f} of {its:.1f})"
            difference = f"{VERDICTS[row['verdict']]} it: {_difference(row)}"
            return [Finding(f"`{name}` {share} and {difference}.", "pairs")]
    return []


def _judged(outcome: Outcome, name: str) -> Finding:
    rows = [row for row in outcome.tables["win_rates"] if outcome.recipe(row["system"]) == name]
    if not rows:
        return Finding(f"No judge compared the answers of `{name}` with others.", "scores")
    best = outcome.best({outcome.recipe(row["opponent"]) for row in rows}, rows[0]["dataset"], rows[0]["decoding"])
    row = next(row for row in rows if best in (None, outcome.recipe(row["opponent"])))
    lo, hi = float(row["lo"]), float(row["hi"])
    verdict = "higher" if lo > 0.5 else "lower" if hi < 0.5 else "undecided"
    text = (
        f"By the judge, {row['judge']}, `{name}` {VERDICTS[verdict]} `{row['opponent']}`: its win rate is "
        f"{percent(row['win_rate'])} [{percent(row['lo'])}, {percent(row['hi'])}] ({row['prompts']} prompts)"
    )
    text += "; this judge measures once more what the score measures" if row["judge"] == OVERLAP_JUDGE else ""
    return Finding(f"{text}.", "win_rates")
