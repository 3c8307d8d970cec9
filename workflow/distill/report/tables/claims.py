"""What the paper claims, put to this study's runs: of each form of the objective the first bd run at the paper's
setting (p = 0.8, or 0.5 for OPT-1.3B, with the chi-square term). A figure is a difference in Rouge-L with its 95%
paired bootstrap interval over prompts, several training seeds averaged first. A claim holds where the whole interval
lies where the claim has it, and does not hold where no part of it does; otherwise, and where a run is missing, it
cannot be told. About as good: within 0.5; at least as good: not lower by as much as 0.5. On every set: the figure is
the smallest difference, and the claim fails if one interval lies below 0; the paper says so in words, but its own
Table 1 has SeqKD ahead of BD in two Vicuna cells (GPT-2 340M and OPT-1.3B). Speed: the time of all of MiniLLM's
updates over that of BD's, whichever checkpoints were selected; the interval is the range over training seeds, which
one seed does not give. There is no verdict on speed where either run keeps its start or may be below it: where its
interval against phase 1 on the first set in the primary decoding reaches -0.5. No correction is made for the number
of claims.

In this study a verdict says how a claim fares among tiny models on an invented world. It says nothing about the paper's
setting.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import inf
from statistics import fmean

from distill.config.generation import primary_decoding
from distill.config.paper import STUDENTS
from distill.config.slices.make_tables import MakeTables
from distill.evaluation.statistics import Interval, paired_bootstrap
from distill.report.evidence import COMPUTED, Evidence, Source, candidate_sets, cells_of, logged, scored
from distill.report.markdown import Part, fixed, grid, interval, percent, show, unique
from distill.report.measured import Study
from distill.report.published import METRIC, bellman_setting, paper_method, paper_p, place, published
from distill.report.recipes import Scores, Systems, beside, pooled, recipes, variants
from distill.report.table import Table, View, paragraphs
from distill.report.tables.training import trained

_, EMBEDDED = paragraphs(__doc__)
Claim = tuple[str, str]
"""A claim and what the paper's tables have for it."""
HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot be told"
ABOUT = 0.5
"""`About` as good: within so much Rouge-L; `at least` as good: not lower by so much (non-inferiority). The paper's own
differences that it calls so are up to 0.4."""
MASS = {7: (0.9, inf, "at least 90%"), 50: (0.95, 0.97, "about 96%")}
"""Figure 1: bounds of the mass of the k most probable tokens, `about` being within one hundredth."""
_DOLLY = "dolly"
_EVERYWHERE = ("KD", "SeqKD")
_NO_SET = "evaluation set that Rouge-L scores"
_ABOVE = (0.0, inf)
_NOT_BELOW = (-ABOUT, inf)
_MINILLM = (
    (("GPT-2",), "about as good as", (-ABOUT, ABOUT)),
    (("OPT", "Qwen-2.5"), "above", _ABOVE),
)
"""What the paper finds against MiniLLM, by family; a study of none of them sees both."""


def judge(lo: float, hi: float, low: float, high: float = inf) -> tuple[str, str]:
    """Returns verdict and reason on the claim that a figure with interval [lo, hi] lies above low and below high."""
    target = f"above {low:.3g}" if high == inf else f"between {low:.3g} and {high:.3g}"
    if low < lo and hi < high:
        return HOLDS, f"the interval lies {target}"
    if hi < low or high < lo:
        return FAILS, f"no part of the interval lies {target}"
    return OPEN, f"the interval lies neither wholly {target} nor wholly elsewhere"


@dataclass(frozen=True)
class Found:
    """What the claims are judged by.

    Attributes:
        settings: the systems.
        scores: by prompt.
        training: rows of training.csv by run.
        shared_seconds: spent once on teacher samples and candidate sets; None if unknown.
        sorted_mass: mass of the teacher's k most probable tokens, k = 1, 2, ..; empty if not measured.
    """

    settings: MakeTables
    scores: Scores
    training: Mapping[str, Mapping]
    shared_seconds: float | None
    sorted_mass: Sequence[float]


def claim_rows(found: Found) -> Iterator[dict]:
    """Yields the claims on each student's first bd run of either form of the objective at the paper's setting, then
    those on the teacher.

    Several training seeds are averaged prompt by prompt before the bootstrap over prompts.
    """
    settings, systems = found.settings, found.settings.systems
    pool = pooled(found.scores, systems)
    judged: set[tuple[str, str]] = set()
    for name in recipes(systems):
        system = systems[name]
        if bellman_setting(system) == (paper_p(place(system, settings.paper)), "printed"):
            key = system.student, system.options["bellman"]["objective"]
            if key not in judged:
                judged.add(key)
                yield from _Claims(found, pool, name).rows()
    yield from _mass_rows(found.sorted_mass)


def claimed_sets(settings: MakeTables) -> list[str]:
    """Returns the sets that the claims on scores are judged by: those of the paper's metric."""
    return [dataset for dataset in settings.datasets if settings.metrics[dataset] == METRIC]


def beside_method(systems: Systems, name: str, method: str) -> str | None:
    """Returns the first system of the same student that is the paper's run of a method; None if there is none."""
    return beside(systems, name, lambda system: paper_method(system) == method)


class _Claims:
    """The claims on one bd run."""

    def __init__(self, found: Found, pool: Scores, name: str):
        self.found, self.pool, self.name = found, pool, name
        self.settings, self.systems = found.settings, found.settings.systems
        self.datasets = claimed_sets(self.settings)
        self.others = {
            method: beside_method(self.systems, name, method) for method in ("SFT", "KD", "SeqKD", "MiniLLM")
        }

    def rows(self) -> Iterator[dict]:
        """Yields every claim."""
        for method in ("SFT", "KD", "SeqKD"):
            claim = f"BD is above {method} on Dolly", _range(_method_gains(method, dataset=_DOLLY))
            yield from self._differences(claim, self.name, self.others[method], f"{method} run", [_DOLLY])
        paper = self.settings.paper
        for families, relation, bounds in _MINILLM:
            if paper is None or paper.family in families:
                gains = _range(_method_gains("MiniLLM", families, dataset=_DOLLY))
                claim = f"BD is {relation} MiniLLM on Dolly ({' and '.join(families)})", gains
                other = self.others["MiniLLM"]
                yield from self._differences(claim, self.name, other, "MiniLLM run", [_DOLLY], bounds)
        yield from self._everywhere()
        yield from self._options()
        yield from self._times()

    def _row(self, claim: Claim, system: str, against: str | None, quantity: str, **cells: object) -> dict:
        own = self.systems[self.name]
        who = {"student": own.student, "objective": own.options["bellman"]["objective"], "system": system}
        empty = dict.fromkeys(("dataset", "decoding", "figure", "lo", "hi"))
        what = {"claim": claim[0], "paper": claim[1], "against": against, "quantity": quantity}
        return empty | what | who | cells

    def _interval(self, first: str, second: str, dataset: str, decoding: str) -> Interval:
        theirs, others = (self.pool[name, dataset, decoding] for name in (first, second))
        return paired_bootstrap(theirs, others, self.settings.seed)

    def _differences(
        self,
        claim: Claim,
        first: str | None,
        second: str | None,
        missing: str,
        datasets: Sequence[str],
        bounds: tuple[float, float] = _ABOVE,
    ) -> Iterator[dict]:
        """Judges the difference in Rouge-L, first minus second, on each set in each decoding."""
        absent = [dataset for dataset in datasets if dataset not in self.settings.datasets]
        if first is None or second is None or absent:
            what = missing if first is None or second is None else f"evaluation set {absent[0]}"
            yield self._row(claim, self.name, None, "Rouge-L", verdict=OPEN, reason=f"there is no {what}")
            return
        for dataset in datasets:
            if dataset not in self.datasets:
                reason = f"{dataset} is scored by {self.settings.metrics[dataset]}, and the claim is about Rouge-L"
                yield self._row(claim, first, second, "Rouge-L", dataset=dataset, verdict=OPEN, reason=reason)
        for dataset, decoding in product(filter(self.datasets.__contains__, datasets), self.settings.decodings):
            interval = self._interval(first, second, dataset, decoding)
            verdict, reason = judge(interval.lo, interval.hi, *bounds)
            cells = {"dataset": dataset, "decoding": decoding, "verdict": verdict, "reason": reason}
            yield self._row(claim, first, second, "Rouge-L", **cells, **_figure(interval))

    def _everywhere(self) -> Iterator[dict]:
        """Judges `above KD and SeqKD on every set` by all differences; the figure is the smallest."""
        claim = "BD is above KD and SeqKD on every set", _range(_method_gains("KD") + _method_gains("SeqKD"))
        others = {method: other for method in _EVERYWHERE if (other := self.others[method])}
        missing = [f"{method} run" for method in _EVERYWHERE if method not in others]
        missing += [] if self.datasets else [_NO_SET]
        if missing:
            reason = f"there is no {missing[0]}"
            yield self._row(claim, self.name, None, "Rouge-L", verdict=OPEN, reason=reason)
            return
        for decoding in self.settings.decodings:
            intervals = {
                (other, dataset): self._interval(self.name, other, dataset, decoding)
                for other, dataset in product(others.values(), self.datasets)
            }
            (other, dataset), least = min(intervals.items(), key=lambda entry: entry[1].estimate)
            above, below = (
                sum(test(interval) for interval in intervals.values())
                for test in (lambda interval: interval.lo > 0, lambda interval: interval.hi < 0)
            )
            verdict = FAILS if below else HOLDS if above == len(intervals) else OPEN
            reason = f"of {len(intervals)} intervals {above} lie above 0 and {below} below; the least is on {dataset}"
            if left_out := [name for name in self.settings.datasets if name not in self.datasets]:
                reason += f"; {', '.join(left_out)} left out, not scored by Rouge-L"
            cells = {"decoding": decoding, "verdict": verdict, "reason": reason}
            yield self._row(claim, self.name, other, "Rouge-L", **cells, **_figure(least))

    def _variants(self, key: str, value: object, *others: str) -> list[str | None]:
        names = variants(self.systems, self.name, key, *others)
        return [name for name in names if self.systems[name].options["bellman"][key] == value] or [None]

    def _options(self) -> Iterator[dict]:
        """Judges what p and the chi-square term are said to do, on every set."""

        def missing(what: str) -> str:
            return f"bd run like {self.name} {what}"

        wide, narrow = (self._variants("p", p)[0] for p in (0.8, 0.5))
        datasets = self.settings.datasets
        for p, name in ((0.8, wide), (0.5, narrow)):
            claim = f"p = {p} is above p = 1", _range(_p_gains(p, 1.0))
            # At p = 1 the floor of Q matters, so its scopes are told apart.
            for other in self._variants("p", 1, "clip_scope"):
                yield from self._differences(claim, name, other, missing(f"with p = {p} or p = 1"), datasets)
        claim = "p = 0.8 is at least as good as p = 0.5", _range(_p_gains(0.8, 0.5))
        yield from self._differences(claim, wide, narrow, missing("with p = 0.8 or p = 0.5"), datasets, _NOT_BELOW)
        claim = "the chi-square term raises Rouge-L", _range(_chi_square_gains())
        without = self._variants("chi2", "none")[0]
        yield from self._differences(claim, self.name, without, missing("without the chi-square term"), datasets)

    def _times(self) -> Iterator[dict]:
        """Judges the ratio of the times of all updates, training seed by training seed.

        Which checkpoint was selected does not enter. Time is a merit of a run only where its training did no harm:
        there is no verdict where either run keeps its start or is below it.
        """
        ratios, other = _time_ratios(), self.others["MiniLLM"]
        span = f"{min(ratios):.1f} to {max(ratios):.1f} times"
        pairs, both = (self._timed_pairs(other), [self.name, other]) if other else ([], [])
        harm = next(filter(None, map(self._harm, both)), None) if pairs else None
        for shared, addition in ((0.0, ""), (self.found.shared_seconds, ", samples and sets included")):
            claim = f"BD is at least {min(ratios):.1f} times as fast as MiniLLM{addition}", span
            found = [] if shared is None else [theirs / (ours + shared) for ours, theirs in pairs]
            cells: dict[str, object] = {"verdict": OPEN, "figure": fmean(found) if found else None}
            if len(found) > 1:
                cells |= {"lo": min(found), "hi": max(found)}
                cells["verdict"], reason = judge(min(found), max(found), min(ratios))
                reason += "; it is the range over training seeds"
            elif found:
                reason = "one training seed gives one timing, which has no interval"
            else:
                reason = "there is no MiniLLM run" if not pairs else "the time of samples and sets is not on record"
            if found:
                cells["verdict"], reason = (OPEN, harm) if harm else (cells["verdict"], reason)
                reason += f"; {' and '.join(map(self._pace, both))}"
            yield self._row(claim, self.name, other, "time ratio", **cells, reason=reason)

    def _rows_of(self, recipe: str) -> dict[int | None, Mapping]:
        """Returns the training rows of a recipe by training seed."""
        members = recipes(self.systems)[recipe]
        return {self.systems[name].seed: self.found.training[name] for name in members}

    def _harm(self, name: str) -> str | None:
        """Returns why a run's time is no merit: it keeps its start, or may be below it in Rouge-L; None if neither.

        The start's level is that of the run it started from, phase 1's where that was the base of a student that has
        a phase 1, on the first set that Rouge-L scores in the primary decoding, with the margin that "about" has.
        """
        kept = [row["run"] for row in self._rows_of(name).values() if row["selected_update"] == 0]
        if kept:
            return f"{kept[0]} keeps its start"
        if not self.datasets:
            return f"there is no {_NO_SET}"
        dataset, decoding = self.datasets[0], primary_decoding(self.settings.decodings)
        given = self.systems[name].options["start"]
        runs = ("phase1", "base") if given == "base" else (given,)
        start = beside(self.systems, name, lambda system: system.run in runs)
        assert start is not None, "a run starts from one of the study"
        interval = self._interval(name, start, dataset, decoding)
        if interval.lo > -ABOUT:
            return None
        bounds = f"{interval.estimate:+.1f} [{interval.lo:+.1f}, {interval.hi:+.1f}]"
        verb = "is" if interval.hi < 0 else "may be"
        return f"{name} {verb} below its start, {start}: {bounds} on {dataset} ({decoding})"

    def _pace(self, name: str) -> str:
        """Returns what an update takes, on average over training seeds."""
        rows = self._rows_of(name).values()
        return f"{name} takes {fmean(row['seconds_per_update'] for row in rows):.2g} s an update"

    def _timed_pairs(self, other: str) -> list[tuple[float, float]]:
        """Returns the seconds of this run and of another for each training seed that both have."""
        ours, theirs = map(self._rows_of, (self.name, other))
        return [(row["seconds"], theirs[seed]["seconds"]) for seed, row in ours.items() if seed in theirs]


def _figure(interval: Interval) -> dict[str, float]:
    return {"figure": interval.estimate, "lo": interval.lo, "hi": interval.hi}


def _mass_rows(sorted_mass: Sequence[float]) -> Iterator[dict]:
    names = ("student", "objective", "against", "dataset", "decoding", "figure", "lo", "hi")
    for k, (low, high, text) in MASS.items():
        row = dict.fromkeys(names) | {"claim": f"the teacher's top {k} tokens hold {text} of its mass", "paper": text}
        row |= {"system": "teacher", "quantity": "mass"}
        if len(sorted_mass) < k:
            yield row | {"verdict": OPEN, "reason": "the mass of so many tokens was not measured"}
            continue
        mass = sorted_mass[k - 1]
        verdict, _ = judge(mass, mass, low, high)
        yield row | {"figure": mass, "verdict": verdict, "reason": "mean over all states, which has no interval"}


def _range(values: Sequence[float]) -> str:
    return f"{min(values):+.1f} to {max(values):+.1f}"


def _gains(table: str, better: Mapping[str, str], worse: Mapping[str, str]) -> list[float]:
    """Returns the differences in Rouge-L between rows of a table that are alike but for the cells given."""

    def by_rest(cells: Mapping[str, str]) -> dict[tuple, float]:
        rows = [row for row in published(table) if cells.items() <= row.items()]
        return {tuple(row[key] for key in ("family", "student", "dataset")): float(row["rouge_l"]) for row in rows}

    first, second = by_rest(better), by_rest(worse)
    return [first[key] - second[key] for key in first if key in second]


def _method_gains(method: str, families: Sequence[str] = tuple(STUDENTS), **cells: str) -> list[float]:
    """Returns BD's differences to a method in Table 1."""
    rows = ({"family": family, **cells} for family in families)
    return [gain for own in rows for gain in _gains("table1", own | {"method": "BD"}, own | {"method": method})]


def _p_gains(better: float, worse: float) -> list[float]:
    return _gains("table2", {"p": str(better)}, {"p": str(worse)})


def _chi_square_gains() -> list[float]:
    return _gains("table4", {"chi2": "with"}, {"chi2": "without"})


def _time_ratios() -> list[float]:
    hours = {(row["family"], row["method"]): float(row["hours"]) for row in published("table3")}
    return [hours[family, "MiniLLM"] / hours[family, "BD"] for family, method in hours if method == "BD"]


def _rows(study: Study) -> Iterator[dict]:
    measured = study.measured
    shared = 3600 * sum(measured.shared.values()) if len(measured.shared) == 2 else None
    mass = measured.sets.get("sorted_mass", []) if measured.sets else []
    return claim_rows(Found(study.settings, study.scores, {row["run"]: row for row in trained(study)}, shared, mass))


def _evidence(row: Mapping[str, str], column: str, settings: MakeTables) -> Evidence:
    if row["quantity"] == "mass":
        return candidate_sets()
    if row["quantity"] == "time ratio":
        members = [name for recipe in (row["system"], row["against"]) for name in recipes(settings.systems)[recipe]]
        found = logged(COMPUTED, members, "seconds of each update")
        # The ratio with what is shared is the only one that rests on records.
        return replace(found, sources=[*found.sources, Source("hours")]) if "included" in row["claim"] else found
    if row["dataset"]:
        return scored(cells_of(row, settings, row["against"]), by_prompt=True)
    # The claim on every set rests on all of them, whichever is shown.
    others = (beside_method(settings.systems, row["system"], method) for method in _EVERYWHERE)
    return scored(cells_of(row, settings, *others, datasets=claimed_sets(settings)), by_prompt=True)


def _cell(row: Mapping[str, str]) -> str:
    if row["quantity"] == "mass":
        return f"{percent(row['figure'])}: {row['verdict']}"
    is_ratio = row["quantity"] == "time ratio"
    bounds = f" [{fixed(row['lo'])}, {fixed(row['hi'])}]" if is_ratio and row["lo"] else ""
    bounds = bounds if is_ratio else f" {interval(row)}"
    return f"{fixed(row['figure'], 1, not is_ratio)}{bounds}: {row['verdict']}"


def _markdown(view: View) -> list[Part]:
    decodings, scores = [*view.settings.decodings], view.tables["scores"]
    dataset = next((row["dataset"] for row in scores if row["metric"] == METRIC), scores[0]["dataset"])
    parts = view.head(more=" Further sets are in the CSV.")
    keys = ["claim", *["paper"] * (not view.settings.embedded), "system", "against"]
    rows = [row for row in view.rows if row["dataset"] in ("", dataset)]
    for student, objective in unique((row["student"], row["objective"]) for row in rows):
        own = [row for row in rows if (row["student"], row["objective"]) == (student, objective)]
        parts.append(f"### Objective {objective}, {student}, {dataset}" if objective else "### The teacher")
        lines: dict[tuple[str, ...], dict] = {}
        missing: dict[str, list[str]] = {}
        for row in own:
            if row["figure"]:
                line = lines.setdefault(tuple(row[key] for key in keys), {})
                line[row["decoding"] or decodings[0]] = show(_cell, row)
            # What an update takes stands in the reason.
            if not row["figure"] or row["quantity"] == "time ratio":
                missing.setdefault(f"{row['verdict'].capitalize()}, {row['reason']}", []).append(row["claim"])
        body = ([*key, *(cells.get(name, "") for name in decodings)] for key, cells in lines.items())
        parts += [grid([*keys, *decodings], body)] if lines else []
        parts += ["\n".join(f"- {why}: {'; '.join(unique(what))}." for why, what in missing.items())] if missing else []
    return parts


TABLE = Table(
    order=50,
    title="The paper's claims",
    columns=(
        *("claim", "paper", "student", "objective", "system", "against", "dataset", "decoding", "quantity", "figure"),
        *("lo", "hi", "verdict", "reason"),
    ),
    keys=("claim", "student", "objective", "system", "against", "dataset", "decoding"),
    of_paper=True,
    is_time=lambda row: row.get("quantity") == "time ratio",
    rows=_rows,
    evidence=_evidence,
    notes=lambda rows, embedded: [EMBEDDED] if embedded else [],
    markdown=_markdown,
)
