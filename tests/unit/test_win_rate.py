"""Win rates from verdicts on both orders."""

import random
from dataclasses import asdict

import pytest

from distill.errors import DataError
from distill.evaluation.win_rate import win_rate


def verdict(prompt, order, winner, unparsable=False):
    first, second = ("bd", "kd") if order == "ab" else ("kd", "bd")
    return {
        "id": prompt,
        "order": order,
        "system_a": first,
        "system_b": second,
        "winner": winner,
        "unparsable": unparsable,
    }


def both(prompt, winner_ab, winner_ba):
    return [verdict(prompt, "ab", winner_ab), verdict(prompt, "ba", winner_ba)]


def some_verdicts(n=40):
    generator = random.Random(7)
    return [row for i in range(n) for row in both(f"p{i}", *generator.choices(["bd", "kd", "tie"], [5, 3, 2], k=2))]


def test_win_rate_counts_ties_as_halves_and_averages_both_orders():
    rows = both("p1", "bd", "bd") + both("p2", "bd", "kd") + both("p3", "tie", "bd") + both("p4", "tie", "tie")
    rows[-1]["unparsable"] = True
    result = asdict(win_rate(rows, "bd", "kd"))
    assert 0.25 < result.pop("lo") < 0.6875 < result.pop("hi") <= 1
    assert result == {
        "system": "bd",
        "opponent": "kd",
        "win_rate": 0.6875,
        "win_rate_first": 0.75,
        "win_rate_second": 0.625,
        "wins": 0.5,
        "ties": 0.375,
        "losses": 0.125,
        "consistency": 0.5,
        "unparsable": 1,
        "refused": 0,
        "n": 4,
    }


def test_a_prompt_that_the_server_refused_in_one_order_counts_nowhere():
    rows = both("p1", "bd", "kd") + both("p2", "bd", "bd") + both("p3", "bd", "bd")
    rows[3] |= {"winner": None, "refused": "content_filter"}
    result = win_rate(rows, "bd", "kd")
    assert (result.win_rate, result.n, result.refused) == (0.75, 2, 1)


def test_swapping_the_systems_gives_one_minus_the_win_rate():
    ours, theirs = win_rate(some_verdicts(), "bd", "kd"), win_rate(some_verdicts(), "kd", "bd")
    assert theirs.win_rate == pytest.approx(1 - ours.win_rate)
    assert (theirs.lo, theirs.hi) == pytest.approx((1 - ours.hi, 1 - ours.lo))
    assert (theirs.wins, theirs.ties, theirs.losses) == (ours.losses, ours.ties, ours.wins)
    assert theirs.win_rate_first == pytest.approx(1 - ours.win_rate_second)
    assert theirs.consistency == ours.consistency
    assert 0 < ours.lo < ours.win_rate < ours.hi < 1 and ours.win_rate != 0.5


def test_a_judge_that_only_looks_at_the_place_gives_one_half_and_no_consistency():
    result = win_rate([row for i in range(10) for row in both(f"p{i}", "bd", "kd")], "bd", "kd")
    assert (result.win_rate, result.lo, result.hi, result.consistency) == (0.5, 0.5, 0.5, 0)
    assert (result.win_rate_first, result.win_rate_second) == (1, 0)


def test_win_rate_does_not_depend_on_the_order_of_rows():
    assert win_rate(some_verdicts(), "bd", "kd") == win_rate(some_verdicts()[::-1], "bd", "kd")


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([], "found no verdict"),
        (both("p1", "bd", "bd")[:1], "one order only at prompt p1"),
        (both("p1", "bd", "bd") * 2, "two with bd as answer A at prompt p1"),
        (both("p1", "bd", "bd") + both("p2", "minillm", "bd"), "won by minillm at prompt p2"),
        ([{**row, "system_a": "sft"} for row in both("p1", "bd", "bd")], "found sft against kd"),
    ],
)
def test_incomplete_or_foreign_verdicts_are_errors(rows, found):
    with pytest.raises(DataError, match=f"^verdicts.jsonl: expected .*{found}"):
        win_rate(rows, "bd", "kd", place="verdicts.jsonl")
