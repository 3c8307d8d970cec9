"""What other papers claim, put to this study's runs: difference in the set's metric between two recipes, all training
seeds averaged prompt by prompt, with the 95% interval of a paired bootstrap over prompts. A claim holds where the whole
interval lies where the claim has it, and does not hold where no part of it does; otherwise it cannot be told. `far` and
`near` claims are about students whose text is far from the teacher's, and near it: of the two, the one that fits the
study counts. Not different: by less than 2. Runs of as many updates are compared. No correction is made for the number
of claims.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import inf

from distill.config.slices.make_tables import MakeTables
from distill.config.slices.reported_system import ReportedSystem
from distill.config.training import Length
from distill.evaluation.statistics import paired_bootstrap
from distill.report.evidence import Evidence, cells_of, scored
from distill.report.markdown import Part, fixed, fold_long, interval, pivot
from distill.report.recipes import Scores, Systems, pooled, recipes
from distill.report.table import Table, View
from distill.report.tables.claims import judge

_ABOVE, _ALIKE = (0.0, inf), (-2.0, 2.0)


@dataclass(frozen=True)
class Claim:
    """A claim on two runs of one student.

    Attributes:
        paper: whose it is.
        words: the claim.
        first, second: which runs it is about.
        bounds: where their difference lies, first minus second.
        at_equal_length: whether it is about runs of as many updates.
    """

    paper: str
    words: str
    first: Callable[[ReportedSystem], bool]
    second: Callable[[ReportedSystem], bool]
    bounds: tuple[float, float] = _ABOVE
    at_equal_length: bool = True


def _of(method: str, **options: object) -> Callable[[ReportedSystem], bool]:
    """Returns what tells the runs of a method; a base model, which was never tuned, is none."""
    return lambda run: run.run != "base" and run.method == method and options.items() <= run.options.items()


def _tgpo_claims() -> Iterator[Claim]:
    tgpo = _of("tgpo", policy_gradient=True)
    for method in ("grpo", "rkl", "kdrl"):
        yield Claim("TGPO", f"far: TGPO is above {method.upper()}", tgpo, _of(method))
    for method in ("grpo", "rkl", "kdrl"):
        yield Claim("TGPO", f"near: TGPO is not different from {method.upper()}", tgpo, _of(method), _ALIKE)


def _tvkd_claims() -> Iterator[Claim]:
    tvkd = _of("tvkd", variant="shaping", control=None)
    # Of the teacher the precondition, of a student what pairs are worth at all: runs of another length.
    yield Claim("TVKD", "DPO is above SFT", _of("dpo"), _of("sft"), at_equal_length=False)
    yield Claim("TVKD", "TVKD is above DPO", tvkd, _of("dpo"))
    for control in ("shuffled", "constant"):
        words = f"TVKD is above its {control} offsets"
        yield Claim("TVKD", words, tvkd, _of("tvkd", variant="shaping", control=control))


CLAIMS = (*_tgpo_claims(), *_tvkd_claims())


def further_claim_rows(scores: Scores, settings: MakeTables) -> Iterator[dict]:
    """Yields the row of each claim for each pair of recipes of one student that it is about, set and decoding."""
    systems, pool = settings.systems, pooled(scores, settings.systems)
    for claim in CLAIMS:
        for first, second in _pairs(claim, systems):
            for dataset, decoding in product(settings.datasets, settings.decodings):
                own, other = (pool[name, dataset, decoding] for name in (first, second))
                found = paired_bootstrap(own, other, settings.seed)
                verdict, reason = judge(found.lo, found.hi, *claim.bounds)
                yield {
                    "paper": claim.paper,
                    "claim": claim.words,
                    "student": systems[first].student,
                    "system": first,
                    "against": second,
                    "dataset": dataset,
                    "metric": settings.metrics[dataset],
                    "decoding": decoding,
                    "prompts": len(pool[first, dataset, decoding]),
                    "difference": found.estimate,
                    "lo": found.lo,
                    "hi": found.hi,
                    "verdict": verdict,
                    "reason": reason,
                }


def _pairs(claim: Claim, systems: Systems) -> Iterator[tuple[str, str]]:
    for first, second in product(recipes(systems), repeat=2):
        own, other = systems[first], systems[second]
        is_pair = own.student == other.student and claim.first(own) and claim.second(other)
        if is_pair and not (claim.at_equal_length and _length(own) != _length(other)):
            yield first, second


def _length(system: ReportedSystem) -> Length | None:
    return system.training.length if system.training else None


def _markdown(view: View) -> list[Part]:
    rows = [row for row in view.rows if row["decoding"] == view.primary]
    if not rows:
        return []
    head = view.head(f"Further papers' claims, {view.primary}", " Other decodings are in the CSV.")
    return [*head, *fold_long(pivot(rows, ["claim", "system", "against"], _cell))]


def _cell(row: Mapping[str, str]) -> str:
    return f"{fixed(row['difference'], 1, True)} {interval(row)}: {row['verdict']}"


def _evidence(row: Mapping[str, str], column: str, settings: MakeTables) -> Evidence:
    return scored(cells_of(row, settings, row["against"]), by_prompt=True)


TABLE = Table(
    order=55,
    title="Further papers' claims",
    columns=(
        *("paper", "claim", "student", "system", "against", "dataset", "metric", "decoding", "prompts"),
        *("difference", "lo", "hi", "verdict", "reason"),
    ),
    keys=("claim", "system", "against", "dataset", "decoding"),
    rows=lambda study: further_claim_rows(study.scores, study.settings),
    evidence=_evidence,
    markdown=_markdown,
)
