"""The tables of Bellman Distill's options, and which runs belong together."""

import pytest

from distill.report.recipes import comparison_families, pooled, recipes
from distill.report.tables.ablations import ablation_rows
from distill.report.tables.chi_square import chi_square_rows
from distill.report.tables.p_study import p_rows
from small_tables import RUNS, STUDENT, bd, make_cells, make_scores, make_settings

BD = {
    "bd": bd(),
    "bd_full": bd(p=1.0),
    "bd_full_selected": bd(p=1.0, clip_scope="selected"),
    "bd_p05": bd(p=0.5),
    "bd_linear": bd(chi2="none"),
    "bd_longer": bd(steps=8, p=0.5),
    "bd_plain": bd(run={"plain_text_weight": 0.0}, p=0.5),
    "released": bd(objective="released"),
    "released_p05": bd(objective="released", p=0.5),
}
SETTINGS = make_settings({**RUNS, **BD}, further_students={"big": STUDENT}, further_seeds=[20])
MEANS = {"phase1": 20.0, "seqkd": 22.0, "bd": 23.0, "bd.seed20": 25.0}


def mean(system, *_):
    return MEANS.get(system, 21.0)


def first_cells(rows):
    return [row for row in rows if (row["dataset"], row["decoding"]) == ("dolly", "sampled")]


def test_systems_that_differ_in_their_seed_alone_are_one_recipe():
    found = recipes(SETTINGS.systems)
    assert found["bd"] == ["bd", "bd.seed20"] and found["big.bd"] == ["big.bd", "big.bd.seed20"]
    assert found["teacher"] == ["teacher"]
    pool = pooled(make_scores(SETTINGS, mean), SETTINGS.systems)
    assert pool["bd", "dolly", "sampled"]["p3"] == 3 + 24 and ("bd.seed20", "dolly", "sampled") not in pool


def test_each_student_and_seed_is_compared_with_its_own_controls():
    settings = make_settings({**RUNS, "bd": bd()}, further_students={"big": STUDENT}, further_seeds=[20])
    families = comparison_families(settings.systems)
    assert list(families) == [("student", 10), ("student", 20), ("big", 10), ("big", 20)]
    controls = ["phase1", "sft", "sft_continued", "kd", "seqkd", "minillm"]
    assert families["student", 10] == [
        *(("teacher", control) for control in controls),
        *((later, control) for i, later in enumerate(controls) for control in controls[:i]),
        *(("bd", control) for control in controls),
    ]
    assert ("teacher", "big.sft") in families["big", 10] and ("big.kd.seed20", "big.sft.seed20") in families["big", 20]
    assert not any(system == "teacher" for system, _ in families["big", 20])


def test_p_is_studied_among_runs_alike_but_for_p_and_its_floor():
    rows = first_cells(p_rows(make_cells(SETTINGS, mean), SETTINGS))
    groups = {}
    for row in rows:
        groups.setdefault(row["group"], []).append((row["system"], row["p"], row["clip_scope"]))
    assert list(groups) == [
        *("bd", "released", "bd.seed20", "released.seed20"),
        *("big.bd", "big.released", "big.bd.seed20", "big.released.seed20"),
    ]
    assert groups["bd"] == [
        ("bd_full", 1.0, "all"),
        ("bd_full_selected", 1.0, "selected"),
        ("bd", 0.8, "all"),
        ("bd_p05", 0.5, "all"),
    ]
    assert [system for system, *_ in groups["released"]] == ["released", "released_p05"]
    assert {row["paper"] for row in rows} == {None}


def test_chi_square_is_studied_in_pairs():
    rows = first_cells(chi_square_rows(make_cells(SETTINGS, mean), SETTINGS))
    assert [(row["system"], row["chi2"]) for row in rows][:2] == [("bd", "with"), ("bd_linear", "without")]
    assert {row["group"] for row in rows} == {"bd", "bd.seed20", "big.bd", "big.bd.seed20"}


@pytest.mark.parametrize(("rows", "number"), [(p_rows, 25.8), (chi_square_rows, None)])
def test_the_papers_numbers_stand_beside_sampled_answers(rows, number):
    settings = make_settings(BD, paper={"family": "GPT-2", "students": {"student": "340M"}})
    found = {
        (row["system"], row["decoding"]): row["paper"]
        for row in rows(make_cells(settings, mean), settings)
        if row["dataset"] == "dolly"
    }
    assert (found["bd", "sampled"], found["bd", "narrow"], found["bd", "greedy"]) == (number, number, None)


def ablations(settings, entropies=None, dev=None):
    rows = ablation_rows(
        make_cells(settings, mean),
        make_scores(settings, mean),
        entropies or dict.fromkeys(settings.systems, {}),
        dict.fromkeys(settings.systems, ("rouge_l", 40.0)) | (dev or {}),
        settings,
    )
    return {row["system"]: row for row in first_cells(rows)}


def test_every_bd_run_has_its_options_scores_and_differences():
    entropies = dict.fromkeys(SETTINGS.systems, {"dolly": 1.0}) | {"bd.seed20": {"dolly": 2.0}}
    rows = ablations(SETTINGS, entropies, {"bd": ("rouge_l", 42.0), "bd_linear": None})
    assert list(rows) == [*BD, *(f"big.{name}" for name in BD)]
    row = rows["bd"]
    assert (row["training_seeds"], row["score"], row["score_std"]) == (2, 24.0, pytest.approx(2**0.5))
    assert (row["objective"], row["p"], row["chi2"], row["alpha"], row["plain_text_weight"]) == (
        *("sampled", 0.8, "with"),
        *(0.1, 1.0),
    )
    # phase1.seed20 and seqkd.seed20 have 21: the means over seeds are 20.5 and 21.5.
    assert (row["over_phase1"], row["over_seqkd"]) == (pytest.approx(3.5), pytest.approx(2.5))
    assert row["over_phase1_lo"] <= row["over_phase1"] <= row["over_phase1_hi"]
    assert (row["dev_score"], row["entropy"], row["mean_tokens"]) == (41.0, 1.5, 12.0)
    assert rows["bd_linear"]["dev_score"] is None and rows["bd_linear"]["chi2"] == "without"
    assert rows["bd_plain"]["plain_text_weight"] == 0.0


def test_a_remainder_and_a_centred_chi_square_are_named():
    runs = RUNS | {
        "bd": bd(),
        "rest": bd(remainder=True),
        "rest_centred": bd(remainder=True, chi2="centred"),
        "rest_printed": bd(remainder=True, chi2="printed"),
    }
    settings = make_settings(runs)
    found = {name: (row["remainder"], row["chi2"]) for name, row in ablations(settings).items()}
    rest = {"rest": ("with", "without"), "rest_centred": ("with", "centred"), "rest_printed": ("with", "with")}
    assert found == {"bd": ("without", "with")} | rest
    rows = first_cells(chi_square_rows(make_cells(settings, mean), settings))
    assert {row["group"]: row["paper"] for row in rows} == {"rest": None}


def test_without_seqkd_there_is_no_difference_to_it():
    row = ablations(make_settings({"bd": bd()}))["bd"]
    assert (row["over_seqkd"], row["over_seqkd_lo"], row["score_std"], row["entropy"]) == (None, None, None, None)
    assert row["over_phase1"] == pytest.approx(3.0)
