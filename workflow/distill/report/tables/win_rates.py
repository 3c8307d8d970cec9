"""Share of prompts won by the system, a tie counting one half, averaged over both orders of presentation, with its 95%
bootstrap interval over prompts. Wins, ties and losses are shares of all verdicts. Consistent: prompts on which both
orders give the same winner. Unparsable replies count as ties. Refused: further prompts that the judge's server refused
in one order or both; they count nowhere.

**Judge: reference overlap.** No language model judged. The answer with the higher {metric} against the references wins,
so these rates measure once more what {metric} measures and are no independent evidence.
"""

from collections.abc import Iterable, Mapping, Sequence

from distill.config.slices.make_tables import MakeTables
from distill.markdown import as_text
from distill.metrics.registry import load_metric
from distill.report.evidence import COUNTED, MEASURED, SET, Evidence, Source
from distill.report.markdown import Forms, Part, percent, share, table, unique
from distill.report.table import Table, View, paragraphs, worded

_, OVERLAP = paragraphs(__doc__)
OVERLAP_JUDGE = "reference overlap"


def win_rate_rows(win_rates: Iterable[Mapping], systems: Sequence[str]) -> list[dict]:
    """Returns the win rates (win_rate.json of judge_pair) in the order of the systems."""
    return sorted(
        ({**row, "prompts": row["n"]} for row in win_rates),
        key=lambda row: (systems.index(row["system"]), systems.index(row["opponent"])),
    )


def _evidence(row: Mapping[str, str], column: str, settings: MakeTables) -> Evidence:
    pair = (row["system"], row["opponent"])
    name = "-".join(pair)
    if column == "spent_usd":
        what = "what the judge cost, lost replies included"
        return Evidence(MEASURED, [Source("verdicts", name, "win_rate.json", what)])
    if column == "seed":
        return Evidence(SET, [Source("settings", name)])
    found = Source("verdicts", name, "verdicts.jsonl", f"verdicts of {row['judge']}, each prompt in both orders")
    answers = [(system, row["dataset"], row["decoding"]) for system in pair]
    return Evidence(COUNTED, [found], answers, int(row["seed"]))


def _overlap(row: Mapping[str, str]) -> str:
    return worded(OVERLAP, {"metric": load_metric(row["metric"]).title})


def _notes(rows: Sequence[Mapping[str, str]], embedded: bool) -> list[str]:
    return [_overlap(row) for row in rows if row["judge"] == OVERLAP_JUDGE][:1]


FORMS: Forms = {
    "system": "system",
    "against": "opponent",
    "prompts": "prompts",
    "win rate": lambda row: f"{percent(row['win_rate'])} [{percent(row['lo'])}, {percent(row['hi'])}]",
    "wins": share("wins"),
    "ties": share("ties"),
    "losses": share("losses"),
    "consistent": share("consistency"),
    "unparsable": "unparsable",
    "refused": "refused",
}


def _markdown(view: View) -> list[Part]:
    parts = view.head()[:2]  # each judge has its own note
    for judge in unique(row["judge"] for row in view.rows):
        own = [row for row in view.rows if row["judge"] == judge]
        where = f"Answers to {own[0]['dataset']}, {own[0]['decoding']}, seed {own[0]['seed']}."
        parts += [
            f"{_overlap(own[0]) if judge == OVERLAP_JUDGE else f'**Judge: {as_text(judge)}.**'} {where}",
            *table(FORMS, own),
        ]
    return parts


TABLE = Table(
    order=160,
    title="Win rates",
    columns=(
        *("system", "opponent", "judge", "metric", "dataset", "decoding", "seed", "prompts", "win_rate", "lo", "hi"),
        *("wins", "ties", "losses", "win_rate_first", "win_rate_second", "consistency", "unparsable", "refused"),
        "spent_usd",
    ),
    keys=("system", "opponent", "judge", "dataset", "decoding"),
    rows=lambda study: win_rate_rows(study.measured.win_rates, [*study.settings.systems]),
    evidence=_evidence,
    notes=_notes,
    markdown=_markdown,
)
