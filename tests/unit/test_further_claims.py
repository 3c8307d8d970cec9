"""Claims of other papers put to made-up runs."""

import pytest

from distill.report.tables.further_claims import further_claim_rows
from small_tables import make_scores, make_settings

_TRAINING = {"steps": 4, "batch": 256, "micro_batch": 256, "learning_rate": 1e-3}
RUNS = {
    "grpo": {"method": "grpo"},
    "rkl": {"method": "rkl"},
    "kdrl": {"method": "kdrl"},
    "reg": {"method": "tgpo"},
    "mc": {"method": "tgpo", "form": "mc"},
    "guidance": {"method": "tgpo", "policy_gradient": False},
}
RUNS = {name: run | {"training": _TRAINING} for name, run in RUNS.items()}
SEEDS = {"further_seeds": [20]}


def rows_of(means, spread=0.0):
    settings = make_settings(RUNS, judge={"kind": "none"}, **SEEDS)
    scores = make_scores(settings, lambda system, *_: means.get(system, 0.0))
    wide = make_scores(settings, lambda system, *_: means.get(system, 0.0), spread)
    scores |= {cell: own for cell, own in wide.items() if cell[0].startswith("reg")}
    return list(further_claim_rows(scores, settings))


@pytest.mark.parametrize(
    ("gain", "spread", "far", "near"),
    [
        (5, 0, "holds", "does not hold"),
        (-5, 0, "does not hold", "does not hold"),
        (1, 0, "holds", "holds"),
        (0.1, 9, "cannot be told", "cannot be told"),
    ],
)
def test_a_claim_is_judged_by_its_interval(gain, spread, far, near):
    rows = [row for row in rows_of({"reg": gain, "reg.seed20": gain}, spread) if row["system"] == "reg"]
    assert {row["verdict"] for row in rows if row["claim"].startswith("far: ")} == {far}
    assert {row["verdict"] for row in rows if row["claim"].startswith("near: ")} == {near}
    assert all(row["difference"] == pytest.approx(gain) for row in rows)


def test_training_seeds_are_averaged_and_every_pair_of_runs_has_its_row():
    rows = rows_of({"reg": 1, "reg.seed20": 4})
    assert {row["difference"] for row in rows if row["system"] == "reg"} == {2.5}
    pairs = {(row["system"], row["against"]) for row in rows}
    assert pairs == {(first, second) for first in ("reg", "mc") for second in ("grpo", "rkl", "kdrl")}
    assert len(rows) == len(pairs) * 2 * 3 * 3  # far and near, sets, decodings


def test_without_its_runs_a_claim_has_no_row():
    settings = make_settings({"grpo": RUNS["grpo"]}, judge={"kind": "none"})
    assert list(further_claim_rows(make_scores(settings, lambda *_: 0.0), settings)) == []


def test_runs_of_other_lengths_are_not_compared():
    short = RUNS["reg"] | {"training": _TRAINING | {"steps": 2}}
    settings = make_settings({"reg": RUNS["reg"], "short": short, "rkl": RUNS["rkl"]}, judge={"kind": "none"})
    rows = further_claim_rows(make_scores(settings, lambda *_: 0.0), settings)
    assert {(row["system"], row["against"]) for row in rows} == {("reg", "rkl")}


def test_a_base_model_is_no_sft():
    settings = make_settings({"pairs": RUNS["grpo"]}, judge={"kind": "none"})
    tuned = settings.systems["phase1"]
    assert tuned.method == "sft"
    for start, expected in ((tuned, True), (tuned.model_copy(update={"run": "base"}), False)):
        pairs = settings.systems["pairs"].model_copy(update={"method": "dpo"})
        given = settings.model_copy(update={"systems": {"phase1": start, "pairs": pairs}})
        rows = further_claim_rows(make_scores(given, lambda *_: 0.0), given)
        assert any(row["against"] == "phase1" for row in rows) is expected
