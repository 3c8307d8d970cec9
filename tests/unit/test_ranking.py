"""The table of how systems rank preference pairs: which ones are compared, and every figure by hand."""

import pytest

from distill.report.evidence import MEASURED
from distill.report.tables.ranking import TABLE, ranked_pairs, ranking_rows
from small_tables import make_settings

TRAINING = {"steps": 4, "batch": 16, "micro_batch": 16, "learning_rate": 1e-3}
SFT = {"method": "sft", "training": TRAINING}
ON_PAIRS = {name: {"method": name, "start": "sft", "training": TRAINING} for name in ("dpo", "tvkd")}
PREFERENCES = {"pairs": {"kind": "world"}, "teacher": {"training": TRAINING}}


@pytest.fixture(scope="module")
def settings():
    return make_settings({"sft": SFT, **ON_PAIRS}, preferences=PREFERENCES, further_seeds=[20])


def ranked(*right):
    """Returns rows of four pairs, two of each grade; `right` says which are ranked rightly."""
    return [
        {"id": f"p{i}", "grade": ("0-1", "0-2")[i // 2], "chosen": -3.0, "rejected": -4.0 if own else -2.0}
        for i, own in enumerate(right)
    ]


@pytest.fixture(scope="module")
def rows(settings):
    rankings = {name: ranked(1, 0, 1, 0) for name in settings.systems}
    rankings |= {"teacher_dpo": ranked(1, 1, 1, 1), "dpo": ranked(1, 1, 1, 0), "dpo.seed20": ranked(1, 0, 1, 0)}
    rankings |= {"tvkd": ranked(0, 0, 0, 0), "tvkd.seed20": ranked(0, 0, 0, 0)}
    return list(ranking_rows(rankings, settings))


def test_systems_meet_their_start_and_the_runs_of_the_same_start(settings):
    assert ranked_pairs(settings.systems) == [
        ("teacher_dpo", "teacher"),
        ("dpo", "sft"),
        ("tvkd", "sft"),
        ("tvkd", "dpo"),
    ]


def test_a_base_model_meets_only_what_starts_from_it():
    bare = make_settings({"sft": SFT, **ON_PAIRS}, preferences=PREFERENCES, phase1=None)
    assert ranked_pairs(bare.systems) == [
        ("teacher_dpo", "teacher"),
        ("sft", "base"),
        ("dpo", "sft"),
        ("tvkd", "sft"),
        ("tvkd", "dpo"),
    ]


def test_accuracy_of_every_system_on_all_pairs_and_by_grade(rows, settings):
    own = {(row["system"], row["grade"]): row for row in rows if not row["other"]}
    assert len(own) == 3 * len(settings.systems)
    found = {grade: (own["dpo", grade]["accuracy"], own["dpo", grade]["pairs"]) for grade in ("all", "0-1", "0-2")}
    assert found == {"all": (75.0, 4), "0-1": (100.0, 2), "0-2": (50.0, 2)}
    assert own["dpo", "0-1"]["lo"] == own["dpo", "0-1"]["hi"] == 100.0
    assert own["dpo", "all"]["lo"] < 75 < own["dpo", "all"]["hi"]


def test_differences_are_paired_and_pool_training_seeds(rows):
    found = {(row["system"], row["other"]): row for row in rows if row["other"]}
    assert {key: row["difference"] for key, row in found.items()} == {
        ("teacher_dpo", "teacher"): 50.0,
        ("dpo", "sft"): 12.5,  # 25 with one training seed, 0 with the other
        ("tvkd", "sft"): -50.0,
        ("tvkd", "dpo"): -62.5,
    }
    assert found["tvkd", "dpo"]["verdict"] == "lower" and found["dpo", "sft"]["verdict"] == "undecided"


def test_the_files_of_every_training_seed_stand_behind_a_difference(settings):
    row = {"system": "tvkd", "other": "dpo", "grade": "all"}
    found = TABLE.behind(row, "difference", settings)
    assert found.how == MEASURED
    assert [source.of for source in found.sources] == ["tvkd", "tvkd.seed20", "dpo", "dpo.seed20"]
    own = TABLE.behind({"system": "dpo", "other": "", "grade": "0-1"}, "accuracy", settings)
    assert [(source.of, source.where) for source in own.sources] == [("dpo", {"grade": "0-1"})]
