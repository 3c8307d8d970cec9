"""The paper's claims put to made-up runs."""

import re
from math import inf

import pytest

from distill.report.tables.claims import FAILS, HOLDS, OPEN, Found, claim_rows, judge
from small_tables import RUNS, STUDENT, bd, make_scores, make_settings

OPTIONS = {
    "bd_p05": bd(p=0.5),
    "bd_full": bd(p=1.0),
    "bd_full_selected": bd(p=1.0, clip_scope="selected"),
    "bd_linear": bd(chi2="none"),
}
MASS = [0.5, 0.7, 0.8, 0.85, 0.88, 0.9, 0.92] + [0.96] * 43


@pytest.mark.parametrize(
    ("interval", "bounds", "verdict"),
    [
        ((0.1, 0.9), (0.0, inf), HOLDS),
        ((-0.1, 0.9), (0.0, inf), OPEN),
        ((0.0, 0.9), (0.0, inf), OPEN),
        ((-0.9, -0.1), (0.0, inf), FAILS),
        ((-0.2, 0.4), (-0.5, 0.5), HOLDS),
        ((-0.2, 0.6), (-0.5, 0.5), OPEN),
        ((-0.9, 0.9), (-0.5, 0.5), OPEN),
        ((0.6, 0.9), (-0.5, 0.5), FAILS),
    ],
)
def test_a_verdict_needs_the_whole_interval_on_one_side(interval, bounds, verdict):
    assert judge(*interval, *bounds)[0] == verdict


def training(settings, seconds=None, selected=None):
    """Returns the training rows of all systems: 4 updates in 100 s, the last one selected."""
    return {
        name: {"run": name, "seconds": taken, "seconds_per_update": taken / 4, "selected_update": 4}
        | {"selected_update": (selected or {}).get(name, 4)}
        for name in settings.systems
        for taken in [(seconds or {}).get(name, 100.0)]
    }


def claims(settings, means, spread=0.0, seconds=None, shared=None, mass=(), selected=None):
    """Returns the rows by claim, systems, set and decoding; `means` are by system, and bd runs spread around theirs."""
    flat, wide = (make_scores(settings, lambda system, *_: means.get(system, 0.0), by) for by in (0.0, spread))
    scores = {cell: (wide if cell[0].startswith("bd") else flat)[cell] for cell in flat}
    rows = list(claim_rows(Found(settings, scores, training(settings, seconds, selected), shared, mass)))
    return {(row["claim"], row["system"], row["against"], row["dataset"], row["decoding"]): row for row in rows}


def on_dolly(found, claim, system="bd", against=None, decoding="sampled"):
    (row,) = [
        row
        for key, row in found.items()
        if key[0] == claim
        and key[1] == system
        and against in (None, key[2])
        and key[3] in (None, "dolly")
        and key[4] in (None, decoding)
    ]
    return row


@pytest.mark.parametrize(("gain", "spread", "verdict"), [(2, 0, HOLDS), (-2, 0, FAILS), (0.1, 3, OPEN)])
def test_a_difference_holds_fails_or_stays_open(gain, spread, verdict):
    found = claims(make_settings({**RUNS, "bd": bd()}), {"bd": gain}, spread)
    for method, against in (("SFT", "sft"), ("KD", "kd"), ("SeqKD", "seqkd")):
        row = on_dolly(found, f"BD is above {method} on Dolly")
        assert (row["against"], row["verdict"]) == (against, verdict)
        assert row["figure"] == pytest.approx(gain)
        assert row["lo"] <= row["figure"] <= row["hi"]
    assert on_dolly(found, "BD is above KD and SeqKD on every set")["verdict"] == verdict
    assert on_dolly(found, "BD is above MiniLLM on Dolly (OPT and Qwen-2.5)")["verdict"] == verdict


def test_about_as_good_is_within_half_a_point():
    settings = make_settings({**RUNS, "bd": bd()})
    claim = "BD is about as good as MiniLLM on Dolly (GPT-2)"
    assert [on_dolly(claims(settings, {"bd": gain}), claim)["verdict"] for gain in (0.4, -0.4, 0.6)] == [
        HOLDS,
        HOLDS,
        FAILS,
    ]


def test_a_claim_without_its_run_cannot_be_told():
    found = claims(make_settings({"sft_continued": RUNS["sft_continued"], "bd": bd()}), {"bd": 5})
    assert {row["verdict"] for row in found.values()} == {OPEN}
    reasons = {row["claim"]: row["reason"] for row in found.values()}
    assert reasons["BD is above SFT on Dolly"] == "there is no SFT run"
    assert reasons["BD is above KD and SeqKD on every set"] == "there is no KD run"
    assert "bd run like bd without the chi-square term" in reasons["the chi-square term raises Rouge-L"]
    assert reasons["BD is at least 3.7 times as fast as MiniLLM"] == "there is no MiniLLM run"
    assert all(row["figure"] is None for row in found.values())


def test_one_set_that_is_lower_fails_the_claim_on_every_set():
    settings = make_settings({**RUNS, "bd": bd()})
    scores = make_scores(
        settings, lambda system, dataset, _: {"bd": 2, "seqkd": 3 if dataset == "vicuna" else 0}.get(system, 0)
    )
    rows = list(claim_rows(Found(settings, scores, training(settings), None, [])))
    (row,) = [row for row in rows if "every set" in row["claim"] and row["decoding"] == "sampled"]
    assert (row["verdict"], row["against"], row["figure"]) == (FAILS, "seqkd", pytest.approx(-1))
    assert row["reason"] == "of 6 intervals 5 lie above 0 and 1 below; the least is on vicuna"


def scored_otherwise(*datasets):
    """Returns the settings of a study with some sets scored by exact match."""
    names = ("dolly", "self_inst", "vicuna")
    metrics = {name: "exact_match" if name in datasets else "rouge_l" for name in names}
    sets = {name: {"kind": "world", "rows": 9, "metric": metric} for name, metric in metrics.items()}
    return make_settings({**RUNS, "bd": bd(), **OPTIONS}, data={"evaluation": sets})


def test_sets_that_another_metric_scores_are_judged_by_no_claim_on_rouge():
    found = claims(scored_otherwise("vicuna"), {"bd": 2})
    everywhere = on_dolly(found, "BD is above KD and SeqKD on every set")
    assert everywhere["verdict"] == HOLDS
    assert everywhere["reason"].startswith("of 4 intervals 4 lie above 0 and 0 below;")
    assert everywhere["reason"].endswith("; vicuna left out, not scored by Rouge-L")
    chi_square = [(key[3], row) for key, row in found.items() if "chi-square" in key[0]]
    assert [(dataset, row["decoding"]) for dataset, row in chi_square if dataset == "vicuna"] == [("vicuna", None)]
    for dataset, row in chi_square:
        assert (row["verdict"], row["figure"] is None) == ((OPEN, True) if dataset == "vicuna" else (HOLDS, False))
    (row,) = [row for dataset, row in chi_square if dataset == "vicuna"]
    assert row["reason"] == "vicuna is scored by exact_match, and the claim is about Rouge-L"


def test_without_a_set_of_rouge_no_claim_on_scores_or_speed_can_be_told():
    found = claims(scored_otherwise("dolly", "self_inst", "vicuna"), {"bd": 2}, seconds={"minillm": 800.0})
    assert {row["verdict"] for row in found.values()} == {OPEN}
    assert [row["claim"] for row in found.values() if row["figure"] is not None] == [SOONER]
    assert on_dolly(found, SOONER)["reason"].startswith("there is no evaluation set that Rouge-L scores; bd takes")


def test_options_are_judged_between_runs_that_differ_in_them_alone():
    runs = {**RUNS, "bd_other": bd(steps=8, p=1.0), "bd": bd(), **OPTIONS}
    found = claims(make_settings(runs), {"bd": 3, "bd_p05": 2, "bd_full": 1, "bd_full_selected": 2.5, "bd_linear": 4})
    assert on_dolly(found, "p = 0.8 is above p = 1", "bd", "bd_full")["figure"] == pytest.approx(2)
    assert on_dolly(found, "p = 0.8 is above p = 1", "bd", "bd_full_selected")["verdict"] == HOLDS
    assert on_dolly(found, "p = 0.5 is above p = 1", "bd_p05", "bd_full")["verdict"] == HOLDS
    assert on_dolly(found, "p = 0.5 is above p = 1", "bd_p05", "bd_full_selected")["verdict"] == FAILS
    assert on_dolly(found, "p = 0.8 is at least as good as p = 0.5", "bd", "bd_p05")["verdict"] == HOLDS
    assert on_dolly(found, "the chi-square term raises Rouge-L", "bd", "bd_linear")["verdict"] == FAILS
    assert not any("bd_other" in (key[1], key[2]) for key in found)
    assert {key[3] for key in found if "chi-square" in key[0]} == {"dolly", "self_inst", "vicuna"}


def test_each_form_of_the_objective_is_judged_once_at_the_papers_setting():
    runs = {"bd_wild": bd(alpha=5.0), "bd": bd(), "bd_again": bd(steps=8), "released": bd(objective="released")}
    found = claims(make_settings({**RUNS, **runs, "expected": bd(objective="expected")}), {})
    judged = {(row["objective"], key[1]) for key, row in found.items() if "SFT" in key[0]}
    assert judged == {("sampled", "bd"), ("released", "released")}


def test_students_and_training_seeds():
    settings = make_settings({**RUNS, "bd": bd()}, further_students={"big": STUDENT}, further_seeds=[20])
    # One seed above SFT and one below: on average 0, and the other student clearly above.
    found = claims(settings, {"bd": 2, "bd.seed20": -2, "big.bd": 2, "big.bd.seed20": 3})
    rows = {key[1]: row for key, row in found.items() if "SFT" in key[0] and key[4] == "sampled"}
    assert rows.keys() == {"bd", "big.bd"}
    assert rows["bd"]["figure"] == pytest.approx(0) and rows["bd"]["verdict"] == OPEN
    assert rows["big.bd"]["figure"] == pytest.approx(2.5) and rows["big.bd"]["verdict"] == HOLDS
    assert (rows["big.bd"]["student"], rows["big.bd"]["against"]) == ("big", "big.sft")


def test_a_family_sees_its_own_claim_on_minillm():
    settings = make_settings({**RUNS, "bd": bd()}, paper={"family": "OPT", "students": {"student": "125M"}})
    assert {key[0] for key in claims(settings, {}) if "MiniLLM on" in key[0]} == {
        "BD is above MiniLLM on Dolly (OPT and Qwen-2.5)"
    }


def test_the_papers_own_figures_stand_beside_the_claims():
    found = claims(make_settings({**RUNS, "bd": bd()}), {})
    figures = {row["claim"]: row["paper"] for row in found.values()}
    assert figures["the chi-square term raises Rouge-L"] == "+0.2 to +0.4"
    assert figures["BD is about as good as MiniLLM on Dolly (GPT-2)"] == "-0.2 to +0.4"
    assert figures["BD is at least 3.7 times as fast as MiniLLM"] == "3.7 to 13.4 times"
    assert figures["BD is above KD and SeqKD on every set"].startswith("-0.4 to ")
    assert figures["p = 0.8 is at least as good as p = 0.5"].startswith("-0.1 to ")


SOONER = "BD is at least 3.7 times as fast as MiniLLM"


@pytest.mark.parametrize(
    ("theirs", "verdict", "with_shared"),
    [((500.0, 900.0), HOLDS, OPEN), ((100.0, 900.0), OPEN, OPEN), ((100.0, 300.0), FAILS, FAILS)],
)
def test_times_are_judged_by_their_range_over_training_seeds(theirs, verdict, with_shared):
    settings = make_settings({**RUNS, "bd": bd()}, further_seeds=[20])
    found = claims(settings, {}, seconds=dict(zip(("minillm", "minillm.seed20"), theirs, strict=True)), shared=100.0)
    row = on_dolly(found, SOONER)
    assert (row["lo"], row["hi"], row["verdict"]) == (theirs[0] / 100, theirs[1] / 100, verdict)
    both = on_dolly(found, f"{SOONER}, samples and sets included")
    assert (both["lo"], both["hi"], both["verdict"]) == (theirs[0] / 200, theirs[1] / 200, with_shared)


@pytest.mark.parametrize(
    ("means", "selected", "reason"),
    [
        (
            {"bd": -2, "bd.seed20": -2},
            {},
            r"bd is below its start, phase1: -2\.0 \[-2\.0, -2\.0\] on dolly \(sampled\)",
        ),
        ({"minillm": -2, "minillm.seed20": -2}, {}, r"minillm is below its start, phase1"),
        ({}, {"bd.seed20": 0}, r"bd\.seed20 keeps its start"),
    ],
)
def test_speed_is_no_merit_of_a_run_that_did_harm_or_nothing(means, selected, reason):
    settings = make_settings({**RUNS, "bd": bd()}, further_seeds=[20])
    seconds = {"minillm": 500.0, "minillm.seed20": 900.0}
    row = on_dolly(claims(settings, means, seconds=seconds, selected=selected), SOONER)
    assert (row["lo"], row["hi"], row["verdict"]) == (5, 9, OPEN)
    assert re.match(rf"{reason}.*; bd takes 25 s an update and minillm takes 1\.8e\+02 s an update$", row["reason"])


@pytest.mark.parametrize(
    ("mean", "spread", "verdict"), [(-0.1, 0, HOLDS), (3, 6, HOLDS), (0, 3, OPEN), (-3, 8, OPEN), (-0.6, 0, OPEN)]
)
def test_speed_is_judged_only_where_no_run_may_be_below_its_start(mean, spread, verdict):
    settings = make_settings({**RUNS, "bd": bd()}, further_seeds=[20])
    seconds = {"minillm": 500.0, "minillm.seed20": 900.0}
    found = claims(settings, {"bd": mean, "bd.seed20": mean, "minillm": 9, "minillm.seed20": 9}, spread, seconds)
    assert on_dolly(found, SOONER)["verdict"] == verdict


@pytest.mark.parametrize(
    ("gain", "spread", "verdict"), [(-0.3, 0, HOLDS), (-0.7, 0, FAILS), (-0.3, 2, OPEN), (2, 0, HOLDS)]
)
def test_at_least_as_good_is_not_lower_by_half_a_point(gain, spread, verdict):
    settings = make_settings({**RUNS, "bd": bd(), "bd_p05": bd(p=0.5)})
    scores = {"bd": 3 + gain, "bd_p05": 3}
    flat, wide = (make_scores(settings, lambda system, *_: scores.get(system, 0), by) for by in (0, spread))
    mixed = {cell: (wide if cell[0] == "bd" else flat)[cell] for cell in flat}
    rows = claim_rows(Found(settings, mixed, training(settings), None, []))
    (row,) = [
        row
        for row in rows
        if "at least as good" in row["claim"] and (row["dataset"], row["decoding"]) == ("dolly", "sampled")
    ]
    assert row["figure"] == pytest.approx(gain) and row["verdict"] == verdict


def test_one_timing_has_no_interval_and_unknown_costs_no_ratio():
    found = claims(make_settings({**RUNS, "bd": bd()}), {}, seconds={"minillm": 800.0})
    row, both = on_dolly(found, SOONER), on_dolly(found, f"{SOONER}, samples and sets included")
    assert (row["figure"], row["lo"], row["verdict"], row["quantity"]) == (8, None, OPEN, "time ratio")
    assert (both["figure"], both["verdict"]) == (None, OPEN) and "not on record" in both["reason"]


def test_the_teachers_mass():
    settings = make_settings({"sft": RUNS["sft"]})

    def verdicts(mass):
        return [row["verdict"] for row in claims(settings, {}, mass=mass).values()]

    assert verdicts(MASS) == [HOLDS, HOLDS]
    assert verdicts([0.1 * k for k in range(1, 8)] + [1.0] * 43) == [FAILS, FAILS]
    assert verdicts(MASS[:10]) == [HOLDS, OPEN]
    assert verdicts([]) == [OPEN, OPEN]
