"""The report's first screen: its sentences and its grid say what the tables say, and no more."""

import pytest

from distill.pages.findings import Outcome, findings
from distill.pages.grid import grids
from small_report import RECIPES, make_tables


def changed(name, wanted, **cells):
    """Returns the tables with other cells in the rows that hold what is wanted."""
    tables = make_tables()
    tables[name] = [row | cells if wanted.items() <= row.items() else row for row in tables[name]]
    return Outcome(tables, RECIPES)


def texts(outcome):
    return [finding.text for finding in findings(outcome)]


def test_three_sentences_with_their_intervals():
    against, teacher, judge = texts(Outcome(make_tables(), RECIPES))
    assert against == (
        "`bd`, the BD run, is ahead of the best baseline, `sft`, on dolly: +13.1 [+12.1, +14.1] Rouge-L (8 prompts, "
        "`sampled`, Holm's correction for 6 pairs); it is ahead of the other baseline."
    )
    assert teacher == (
        "`bd` reaches 21.8% of the score of `teacher` (21.8 of 100.0) and is behind it: -66.7 [-67.7, -65.7]."
    )
    assert judge.startswith("By the judge, ") and judge.endswith(
        "`bd` cannot be told from `sft`: its win rate is 50.0% [25.0%, 80.0%] (8 prompts)."
    )


@pytest.mark.parametrize(
    ("verdict", "words"),
    [("higher", "is ahead of"), ("lower", "is behind"), ("undecided", "cannot be told from")],
)
def test_the_verdict_after_holm_decides_whatever_the_interval_leaves_out(verdict, words):
    outcome = changed("pairs", {"system": "bd", "other": "sft"}, verdict=verdict)
    assert f"{words} the best baseline, `sft`" in texts(outcome)[0]


@pytest.mark.parametrize(
    ("verdict", "words"),
    [("higher", "is ahead of each of the 2 others"), ("undecided", "cannot be told from any of the 2 others")],
)
def test_baselines_with_one_verdict_are_told_together(verdict, words):
    tables = make_tables()
    tables["comparisons"] = [*tables["comparisons"], tables["comparisons"][0] | {"baseline": "teacher"}]
    tables["pairs"] = [row | {"verdict": verdict} for row in tables["pairs"]]
    tables["scores"] = [row | {"mean": "1.0"} if row["system"] == "teacher" else row for row in tables["scores"]]
    assert f"; it {words}." in texts(Outcome(tables, RECIPES))[0]


def test_a_pair_that_is_stored_the_other_way_round_is_turned():
    pair = {"system": "sft", "other": "bd", "difference": "2.0", "lo": "-1.0", "hi": "4.0", "verdict": "higher"}
    outcome = changed("pairs", {"system": "bd", "other": "sft"}, **pair)
    assert "is behind the best baseline, `sft`, on dolly: -2.0 [-4.0, +1.0]" in texts(outcome)[0]


def test_of_several_runs_dev_data_choose_and_no_test_score():
    outcome = changed("scores", {"system": "bd.seed11"}, method="bd")
    recipes = RECIPES | {"bd.seed11": "other"}
    rows = outcome.tables["selection"]
    worse = [row | {"dev_score": "99.0"} if row["run"] == "bd.seed11" else row for row in rows]
    assert Outcome(outcome.tables, recipes).main() == ("bd", "the BD run with the highest dev score")
    assert Outcome({**outcome.tables, "selection": worse}, recipes).main() == (
        "other",
        "the BD run with the highest dev score",
    )


def test_a_run_that_kept_its_start_says_so():
    tables = make_tables() | {"training": [{"run": "bd", "selected_update": "0"}]}
    assert texts(Outcome(tables, RECIPES))[0].endswith("it kept its start, since no checkpoint was better on dev data.")


def test_a_judge_of_references_is_no_independent_one():
    assert "measures once more" in texts(changed("win_rates", {}, judge="reference overlap"))[2]


def test_what_was_not_measured_is_not_told():
    empty = {"pairs": [], "comparisons": [], "win_rates": []}
    assert texts(Outcome(make_tables() | empty, RECIPES)) == ["This study compares no run with a baseline."]
    assert texts(Outcome(make_tables() | {"win_rates": []}, RECIPES))[2] == (
        "No judge compared the answers of `bd` with others."
    )


def test_the_grid_shows_best_share_and_what_is_decided():
    first, greedy = grids(Outcome(make_tables(), RECIPES))
    assert (first.decoding, greedy.decoding) == ("sampled", "greedy")
    assert [column.name for column in first.columns] == ["dolly", "vicuna"]
    cells = {name: own[0] for name, own in first.rows.items()}
    assert list(cells) == ["teacher", "phase1", "sft", "bd"]
    assert [(cell.mean, cell.share, cell.is_best) for cell in cells.values()] == [
        ("100.0", "", False),
        ("9.5", "10%", False),
        ("20.2", "20%", False),
        ("21.8", "22%", True),
    ]
    assert [cell.mark for cell in cells.values()] == ["▲", "▼", "◆", ""], "bd is ahead under one training seed only"
    assert cells["bd"].difference == "+13.1 [+12.1, +14.1]; -10.1 [-11.1, -9.1]"
    assert cells["bd"].std == "16.4" and cells["sft"].std == "0.5" and greedy.rows["sft"][0].std == ""
