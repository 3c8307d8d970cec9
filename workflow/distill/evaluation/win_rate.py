"""The win rate of one system over another, from verdicts on both orders of presentation."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from distill.config.slices.judge_pair import JudgePair
from distill.errors import DataError
from distill.evaluation.statistics import bootstrap


@dataclass(frozen=True)
class WinRate:
    """How often `system` beats `opponent`; every rate and share is in [0, 1].

    Attributes:
        win_rate: mean of the two orders' win rates, a tie counting one half (paper: both orders averaged).
        lo: lower end of the 95% bootstrap interval over prompts.
        hi: upper end of it.
        win_rate_first: the win rate where `system` stood first as answer A.
        win_rate_second: the win rate where it stood second.
        wins: share of all verdicts, both orders, that it won.
        ties: share of ties.
        losses: share that it lost.
        consistency: share of prompts on which both orders name the same winner, or both a tie.
        unparsable: number of verdicts that count as ties because no reply could be read.
        refused: number of prompts that the judge's server refused in one order or both; they count nowhere.
        n: number of prompts that were judged.
    """

    system: str
    opponent: str
    win_rate: float
    lo: float
    hi: float
    win_rate_first: float
    win_rate_second: float
    wins: float
    ties: float
    losses: float
    consistency: float
    unparsable: int
    refused: int
    n: int


def win_rate(
    verdicts: Iterable[Mapping], system: str, opponent: str, seed: int = 0, place: str = "verdicts"
) -> WinRate:
    """Returns the win rate of `system` over `opponent`; swapping the two names gives 1 minus it.

    Args:
        verdicts: verdict rows of this pair, each prompt in both orders.
        system: the run whose wins count.
        opponent: the run it meets.
        seed: of the bootstrap.
        place: where the verdicts come from; the errors begin with it.

    Raises:
        DataError: there is no verdict, a row is of another pair, or a prompt was not judged once in each order.
    """
    score = {system: 1.0, "tie": 0.5, opponent: 0.0}
    winners: dict[str, dict[str, str]] = defaultdict(dict)  # prompt -> system shown first -> winner
    unparsable = 0
    rows = list(verdicts)
    refused = {row["id"] for row in rows if row.get("refused")}  # verdicts of an older study have none
    for row in rows:
        if row["id"] in refused:
            continue
        if {row["system_a"], row["system_b"]} != {system, opponent} or row["winner"] not in score:
            raise DataError(
                f"{place}: expected verdicts on {system} against {opponent}, found {row['system_a']} against "
                f"{row['system_b']} won by {row['winner']} at prompt {row['id']}; judge the pair again"
            )
        if row["system_a"] in winners[row["id"]]:
            raise DataError(
                f"{place}: expected one verdict an order, found two with {row['system_a']} as answer A at prompt "
                f"{row['id']}; delete the file and judge the pair again"
            )
        winners[row["id"]][row["system_a"]] = row["winner"]
        unparsable += row["unparsable"]
    halves = [prompt for prompt, by_first in winners.items() if len(by_first) < 2]
    if halves or not winners:
        found = f"one order only at prompt {halves[0]}" if halves else "no verdict"
        if refused:
            found += f" and {len(refused)} prompts that the server refused"
        raise DataError(f"{place}: expected every prompt judged in both orders, found {found}; judge the pair again")

    interval = bootstrap(
        [fmean(score[winner] for winner in winners[prompt].values()) for prompt in sorted(winners)], seed
    )
    counts = Counter(winner for by_first in winners.values() for winner in by_first.values())
    total = counts.total()
    return WinRate(
        system=system,
        opponent=opponent,
        win_rate=interval.estimate,
        lo=interval.lo,
        hi=interval.hi,
        win_rate_first=fmean(score[by_first[system]] for by_first in winners.values()),
        win_rate_second=fmean(score[by_first[opponent]] for by_first in winners.values()),
        wins=counts[system] / total,
        ties=counts["tie"] / total,
        losses=counts[opponent] / total,
        consistency=fmean(len(set(by_first.values())) == 1 for by_first in winners.values()),
        unparsable=unparsable,
        refused=len(refused),
        n=interval.n,
    )


def win_rate_of(
    settings: JudgePair, verdicts: Sequence[Mapping], spent_usd: float, place: str = "verdicts"
) -> dict[str, Any]:
    """Returns win_rate.json: the rates of a judged pair with its judge, what was judged, and what was spent.

    Raises:
        DataError: as `win_rate`.
    """
    judge = settings.judge
    return {
        **asdict(win_rate(verdicts, *settings.pair, place=place)),
        "judge": ", ".join(sorted({row["model"] for row in verdicts})),
        "wording": judge.wording if judge.kind == "openai" else None,
        "metric": judge.metric if judge.kind == "overlap" else None,
        **judge.model_dump(include={"dataset", "decoding", "seed"}),
        "spent_usd": spent_usd,
    }
