"""The numbers of the tables and their rendering."""

import math
from pathlib import Path

import pytest

from distill.config.sampling import Decoding, Sampling
from distill.config.stages.report import MakeTables, RenderTables, ReportedRun
from distill.config.training import DeepSpeed
from distill.errors import DataError
from distill.provenance.code import import_closure
from distill.report import captions, render, tables
from distill.report.csv_tables import COLUMNS, read_table, write_table

SETTINGS = MakeTables(
    systems=["teacher", "phase1", "bd"],
    datasets=["dolly"],
    decodings=["sampled", "greedy"],
    runs={},
    seed=10,
)
QUALITY = {"mean_tokens": 12.0, "finished": 0.5, "distinct_1": 0.25, "distinct_2": 0.75, "exact_match": 10.0}


def seed_row(decoding, seed, rouge_l, **changes):
    row = {"dataset": "dolly", "decoding": decoding, "seed": seed, "rouge_l": rouge_l, **QUALITY, "n": 40}
    return row | changes


def seed_scores(systems=("teacher", "phase1", "bd")):
    rows = [
        seed_row("sampled", 20, 33.0, mean_tokens=14.0),
        seed_row("sampled", 10, 30.0),
        seed_row("greedy", 10, 35.0),
    ]
    return {system: rows for system in systems}


def prompt_scores(gain):
    """Rouge-L of 40 prompts of very different difficulty; `gain` goes on top, one more on every second prompt."""
    return [
        {"dataset": "dolly", "decoding": decoding, "id": f"p{i}", "rouge_l": 2.0 * i + gain * (1 + i % 2), "seeds": 1}
        for decoding in ("sampled", "greedy")
        for i in range(40)
    ]


def test_rouge_has_the_sample_deviation_over_seeds_and_none_for_one_seed():
    cells = tables.by_cell(seed_scores(), SETTINGS)
    sampled, greedy, *_ = tables.rouge_rows(cells)
    name = {"system": "teacher", "dataset": "dolly"}
    assert sampled == name | {"decoding": "sampled", "mean": 31.5, "std": 3 / 2**0.5, "seeds": 2, "prompts": 40}
    assert greedy == name | {"decoding": "greedy", "mean": 35.0, "std": None, "seeds": 1, "prompts": 40}
    assert [row["seed"] for row in tables.rouge_seed_rows(cells)][:3] == [10, 20, 10]


def test_rows_follow_the_settings_order_whatever_the_order_of_the_scores():
    reverse = {system: rows[::-1] for system, rows in reversed(seed_scores().items())}
    straight = list(tables.rouge_rows(tables.by_cell(seed_scores(), SETTINGS)))
    assert list(tables.rouge_rows(tables.by_cell(reverse, SETTINGS))) == straight
    assert [row["system"] for row in straight[::2]] == SETTINGS.systems


def test_a_system_without_scores_of_a_set_is_an_error():
    scores = seed_scores() | {"bd": [seed_row("sampled", 10, 30.0)]}
    with pytest.raises(DataError, match=r"scores of bd on dolly \(greedy\), found none; rerun"):
        tables.by_cell(scores, SETTINGS)


def test_quality_means_over_seeds_with_entropy_where_it_was_measured():
    rows = list(tables.quality_rows(tables.by_cell(seed_scores(), SETTINGS), {"bd": {"dolly": 1.5}}, "sampled"))
    assert rows[0] == {"system": "teacher", "dataset": "dolly", "decoding": "sampled", **QUALITY} | {
        "mean_tokens": 13.0,
        "entropy": None,
    }
    assert [row["entropy"] for row in rows] == [None, None, None, None, 1.5, None]


def test_pairs_are_every_system_with_every_baseline_once():
    systems = ["teacher", "phase1", "sft", "sft_continued", "bd"]
    assert tables.comparison_pairs(systems, ["phase1", "sft", "sft_continued"]) == [
        *(("teacher", baseline) for baseline in ("phase1", "sft", "sft_continued")),
        ("sft", "phase1"),
        ("sft_continued", "phase1"),
        ("sft_continued", "sft"),
        *(("bd", baseline) for baseline in ("phase1", "sft", "sft_continued")),
    ]
    assert tables.comparison_pairs(["teacher", "bd"], ["phase1"]) == []


@pytest.mark.parametrize(("gain", "verdict"), [(2.0, "higher"), (-2.0, "lower"), (0.0, "undecided")])
def test_comparisons_see_a_small_gain_through_hard_and_easy_prompts(gain, verdict):
    scores = {"teacher": prompt_scores(0), "phase1": prompt_scores(0), "bd": prompt_scores(gain)}
    rows = list(tables.comparison_rows(tables.by_cell(scores, SETTINGS), SETTINGS))
    assert [(row["system"], row["decoding"]) for row in rows] == [
        (system, decoding) for system in ("teacher", "bd") for decoding in ("sampled", "greedy")
    ]
    row = rows[2]
    assert (row["baseline"], row["prompts"], row["verdict"]) == ("phase1", 40, verdict)
    assert row["difference"] == pytest.approx(1.5 * gain)
    assert row["lo"] <= row["difference"] <= row["hi"]
    assert rows[0]["difference"] == 0 and rows[0]["verdict"] == "undecided"


def dev_items(losses):
    """Rows of updates 0, 5, 10: prompt p0 has three samples, p1 to p9 one each; p0 stays as it is."""
    return [
        {"step": step, "id": f"p{i}", "sample": sample, "loss": 1.0 if i == 0 else loss + i / 100, "linear": loss}
        for step, loss in losses.items()
        for i in range(10)
        for sample in range(3 if i == 0 else 1)
    ]


def test_learning_is_the_paired_change_over_prompts_not_over_samples():
    rows = list(tables.learning_rows("bd", dev_items({0: 3.0, 5: 1.0, 10: 2.0}), selected=5, seed=1))
    assert [(row["quantity"], row["at"], row["update"]) for row in rows] == [
        (quantity, at, update)
        for quantity in ("objective", "linear")
        for at, update in (("start", 0), ("selected", 5), ("last", 10))
    ]
    start, selected, last = rows[:3]
    assert (start["difference"], start["verdict"], start["prompts"]) == (None, None, 10)
    assert start["mean"] == pytest.approx((1 + 9 * 3.0 + 0.45) / 10)
    assert selected["difference"] == pytest.approx(-2.0 * 9 / 10)
    assert last["difference"] == pytest.approx(-1.0 * 9 / 10)
    assert selected["hi"] < 0 and selected["verdict"] == "lower" and selected["prompts"] == 10
    assert rows[4]["difference"] == pytest.approx(-2.0)


def test_learning_leaves_out_what_a_method_does_not_log():
    items = [{key: value for key, value in row.items() if key != "linear"} for row in dev_items({0: 3.0, 5: 1.0})]
    assert {row["quantity"] for row in tables.learning_rows("other", items, 5, 1)} == {"objective"}


def test_learning_without_rows_of_the_selected_update_is_an_error():
    with pytest.raises(DataError, match="^bd: expected held-out rows of update 7"):
        list(tables.learning_rows("bd", dev_items({0: 3.0, 5: 1.0}), selected=7, seed=1))


def test_selection_lists_candidates_by_update():
    scores = {"100": {"dev_loss": 1.5, "dev_rouge": 40.0}, "50": {"dev_loss": 2.0, "dev_rouge": 41.0}}
    rows = list(tables.selection_rows({"bd": {"rule": "dev_rouge", "update": 50, "scores": scores}}))
    assert [(row["update"], row["chosen"], row["dev_rouge"]) for row in rows] == [(50, "yes", 41.0), (100, "no", 40.0)]


def test_training_counts_updates_sequences_and_time_to_the_selected_checkpoint():
    metrics = [{"step": step, "gradient_norm": float(step), "tokens": 100, "seconds": 0.3} for step in (1, 2, 3, 4)]
    row = tables.training_row("bd", ReportedRun(method="bd", batch=8), metrics, [{"step": 4, "loss": 2.5}], selected=2)
    assert (row["updates"], row["sequences"], row["tokens"]) == (4, 32, 400)
    assert (row["mean_gradient_norm"], row["final_dev_loss"]) == (2.5, 2.5)
    assert math.isclose(row["seconds_to_selected"], 0.6) and math.isclose(row["tokens_per_second"], 400 / 1.2)


def test_win_rates_come_in_the_order_of_the_systems():
    rows = [{"system": a, "opponent": b, "n": 3} for a, b in (("bd", "phase1"), ("bd", "teacher"), ("phase1", "bd"))]
    ordered = tables.win_rate_rows(rows, SETTINGS.systems)
    assert [(row["system"], row["opponent"]) for row in ordered] == [
        ("phase1", "bd"),
        ("bd", "teacher"),
        ("bd", "phase1"),
    ]
    assert ordered[0]["prompts"] == 3


def test_csv_keeps_every_digit_and_empty_cells(tmp_path):
    third = {"system": "bd", "dataset": "dolly", "decoding": "greedy", "mean": 1 / 3, "std": None, "seeds": 1}
    write_table(tmp_path, "rouge", [third | {"prompts": 7}])
    assert (tmp_path / "rouge.csv").read_text() == (
        "system,dataset,decoding,mean,std,seeds,prompts\nbd,dolly,greedy,0.3333333333333333,,1,7\n"
    )
    (row,) = read_table(tmp_path, "rouge")
    assert float(row["mean"]) == 1 / 3 and row["std"] == ""


@pytest.mark.parametrize(("content", "problem"), [(None, "found none"), ("system,mean\n", "found system,mean")])
def test_a_missing_or_foreign_table_is_an_error(tmp_path, content, problem):
    if content:
        (tmp_path / "rouge.csv").write_text(content)
    with pytest.raises(DataError, match=rf"rouge\.csv.*{problem}; rerun make_tables"):
        read_table(tmp_path, "rouge")


def page(tmp_path, win_rates=(), **changes):
    """Renders a page of the synthetic scores with empty tables for the rest."""
    cells = tables.by_cell(seed_scores(), SETTINGS)
    prompts = {"teacher": prompt_scores(9), "phase1": prompt_scores(0), "bd": prompt_scores(2)}
    filled = {
        "rouge": tables.rouge_rows(cells),
        "quality": tables.quality_rows(cells, {}, "sampled"),
        "comparisons": tables.comparison_rows(tables.by_cell(prompts, SETTINGS), SETTINGS),
        "win_rates": win_rates,
    }
    for name in COLUMNS:
        write_table(tmp_path, name, filled.get(name, []))
    values = {
        "title": "A study",
        "embedded": True,
        "decodings": {"sampled": Decoding(), "greedy": Decoding(temperature=0)},
        "deepspeed": DeepSpeed(),
        "sampling": Sampling(),
    }
    settings = RenderTables(**(values | changes))
    return render.render({name: read_table(tmp_path, name) for name in COLUMNS}, settings, "tables")


def win_rate(judge):
    shares = ("win_rate", "lo", "hi", "wins", "ties", "losses", "win_rate_first", "win_rate_second", "consistency")
    names = {"system": "bd", "opponent": "phase1", "judge": judge, "dataset": "dolly", "decoding": "sampled"}
    return names | dict.fromkeys(shares, 0.625) | {"seed": 10, "prompts": 40, "unparsable": 0, "spent_usd": 0.0}


def test_the_page_says_decoding_spread_and_verdict(tmp_path):
    text = page(tmp_path)
    assert text.startswith("# A study\n")
    assert "### Rouge-L, sampled (temperature 1, top-p 1, primary)" in text
    assert "### Rouge-L, greedy (temperature 0)" in text
    assert "| 31.5 ± 2.1 (2 seeds) |" in text and "dolly (40 prompts)" in text
    assert "+3.0 [" in text and "higher |" in text
    assert "[rouge.csv](tables/rouge.csv)" in text
    assert "## Win rates" not in text and "## Learning" not in text


@pytest.mark.parametrize(("embedded", "said"), [(True, True), (False, False)])
def test_only_the_embedded_study_disclaims_the_paper(tmp_path, embedded, said):
    assert ("carries no claim about the paper" in page(tmp_path, embedded=embedded)) is said


@pytest.mark.parametrize(
    ("judge", "overlap", "served"), [("reference overlap", True, False), ("gpt-4o-mini-2024-07-18", False, True)]
)
def test_the_judge_is_named_and_overlap_is_no_evidence(tmp_path, judge, overlap, served):
    text = page(tmp_path, win_rates=[win_rate(judge)])
    assert f"**Judge: {judge}.**" in text and "62.5% [62.5%, 62.5%]" in text
    assert ("no independent evidence" in text) is overlap
    assert (f"Verdicts of {judge}" in text) is served


def test_the_page_lists_what_does_not_repeat(tmp_path):
    assert "built to repeat bit for bit" in page(tmp_path)
    text = page(tmp_path, deepspeed=DeepSpeed(device="cuda", precision="bf16"), sampling=Sampling(device="cuda"))
    assert "Training ran on cuda in bf16" in text and "Sampling with vllm ran on cuda in float32" in text
    assert "built to repeat bit for bit" not in text


def test_an_edited_caption_reruns_the_page_alone():
    workflow = Path(captions.__file__).parents[2]

    def reaches_captions(script):
        return Path(captions.__file__) in import_closure(workflow / "scripts" / script, workflow)

    assert reaches_captions("render_tables.py") and not reaches_captions("make_tables.py")
