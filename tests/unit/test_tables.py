"""The numbers of the tables and their rendering."""

import math
from pathlib import Path

import numpy as np
import pytest

from distill.config.deepspeed import DeepSpeed
from distill.config.generation import Decoding
from distill.config.sampling import Sampling
from distill.config.slices.make_tables import MakeTables
from distill.config.slices.render_tables import RenderTables
from distill.config.slices.reported_system import ReportedSystem
from distill.config.training import Training
from distill.errors import DataError
from distill.pages import captions
from distill.pages.render import render
from distill.provenance.code import import_closure
from distill.report.csv_tables import COLUMNS, read_table, read_tables, write_table
from distill.report.latex import write_latex
from distill.report.measured import by_cell
from distill.report.measured import prompt_scores as scores_by_prompt
from distill.report.tables.comparisons import comparison_rows
from distill.report.tables.hours import hours_rows
from distill.report.tables.learning import learning_rows
from distill.report.tables.p_study import p_rows
from distill.report.tables.pairs import pair_rows
from distill.report.tables.quality import quality_rows
from distill.report.tables.score_seeds import score_seed_rows
from distill.report.tables.scores import score_rows
from distill.report.tables.selection import selection_rows
from distill.report.tables.sorted_mass import sorted_mass_rows
from distill.report.tables.training import training_row
from distill.report.tables.training_seeds import training_seed_rows
from distill.report.tables.win_rates import win_rate_rows
from small_tables import RUNS, STUDENT, bd, make_cells, make_scores, make_settings

TRAINING = Training(steps=4, batch=8, micro_batch=8, learning_rate=1e-3)


def system(run, method="sft", student="student", seed=10, **options):
    return ReportedSystem(
        student="" if run == "teacher" else student,
        run=run,
        method=method,
        is_control=run != "teacher" and method == "sft",
        seed=None if run == "teacher" else seed,
        options={"start": "base", "dropout": True} | options,
        training=None if run == "teacher" else TRAINING,
    )


SETTINGS = MakeTables(
    systems={"teacher": system("teacher"), "phase1": system("phase1"), "other": system("other", "plugin")},
    datasets=["dolly"],
    metrics={"dolly": "rouge_l"},
    decodings={"sampled": Decoding(), "greedy": Decoding(temperature=0)},
    processes=2,
    paper=None,
    published="of the paper",
    seed=10,
)
SYSTEMS = list(SETTINGS.systems)
QUALITY = {"mean_tokens": 12.0, "finished": 0.5, "distinct_1": 0.25, "distinct_2": 0.75, "exact_match": 10.0}


def seed_row(decoding, seed, score, **changes):
    row = {"dataset": "dolly", "decoding": decoding, "seed": seed, "score": score, **QUALITY, "n": 40}
    return row | changes


def seed_scores(systems=SYSTEMS):
    rows = [
        seed_row("sampled", 20, 33.0, mean_tokens=14.0),
        seed_row("sampled", 10, 30.0),
        seed_row("greedy", 10, 35.0),
    ]
    return {system: rows for system in systems}


def prompt_scores(gain):
    """Scores of 40 prompts of very different difficulty; `gain` goes on top, one more on every second prompt."""
    return [
        {"dataset": "dolly", "decoding": decoding, "id": f"p{i}", "score": 2.0 * i + gain * (1 + i % 2), "seeds": 1}
        for decoding in ("sampled", "greedy")
        for i in range(40)
    ]


def test_scores_have_the_sample_deviation_over_seeds_and_none_for_one_seed():
    cells = by_cell(seed_scores(), SETTINGS)
    sampled, greedy, *_, last = score_rows(cells, SETTINGS)
    name = {"system": "teacher", "student": "", "training_seed": None, "method": "sft", "dataset": "dolly"}
    spread = {"mean": 31.5, "std": 3 / 2**0.5, "seeds": 2, "prompts": 40}
    assert sampled.items() >= (name | {"decoding": "sampled", "paper": None} | spread).items()
    assert greedy.items() >= (name | {"decoding": "greedy"} | {"mean": 35.0, "std": None, "seeds": 1}).items()
    assert (last["system"], last["student"], last["training_seed"], last["method"]) == (
        "other",
        "student",
        10,
        "plugin",
    )
    assert [row["seed"] for row in score_seed_rows(cells, SETTINGS)][:3] == [10, 20, 10]


def test_rows_follow_the_settings_order_whatever_the_order_of_the_scores():
    reverse = {system: rows[::-1] for system, rows in reversed(seed_scores().items())}
    straight = list(score_rows(by_cell(seed_scores(), SETTINGS), SETTINGS))
    assert list(score_rows(by_cell(reverse, SETTINGS), SETTINGS)) == straight
    assert [row["system"] for row in straight[::2]] == SYSTEMS


def test_training_seeds_are_spread_apart_from_sampling_seeds():
    settings = SETTINGS.model_copy(update={"systems": SETTINGS.systems | {"other.seed20": system("other", seed=20)}})
    scores = seed_scores(settings.systems)
    scores["other.seed20"] = [row | {"score": row["score"] + 4} for row in scores["other"]]
    sampled, greedy = training_seed_rows(by_cell(scores, settings), settings)
    assert (sampled["system"], sampled["mean"], sampled["training_seeds"]) == ("other", 33.5, 2)
    assert (sampled["std_training"], sampled["std_sampling"]) == (pytest.approx(8**0.5), pytest.approx(4.5**0.5))
    assert (sampled["sampling_seeds"], sampled["prompts"]) == (2, 40)
    assert (greedy["mean"], greedy["std_sampling"], greedy["sampling_seeds"]) == (37.0, None, 1)
    assert list(training_seed_rows(by_cell(seed_scores(), SETTINGS), SETTINGS)) == []


def test_a_system_without_scores_of_a_set_is_an_error():
    scores = seed_scores() | {"other": [seed_row("sampled", 10, 30.0)]}
    with pytest.raises(DataError, match=r"scores of other on dolly \(greedy\), found none; rerun"):
        by_cell(scores, SETTINGS)


def test_quality_means_over_seeds_with_entropy_where_it_was_measured():
    rows = list(quality_rows(by_cell(seed_scores(), SETTINGS), {"other": {"dolly": 1.5}}, "sampled"))
    assert rows[0] == {"system": "teacher", "dataset": "dolly", "decoding": "sampled", **QUALITY} | {
        "mean_tokens": 13.0,
        "entropy": None,
    }
    assert [row["entropy"] for row in rows] == [None, None, None, None, 1.5, None]


def compare(settings, **scores):
    """Returns the comparisons of systems whose prompts have these gains."""
    cells = by_cell({name: prompt_scores(gain) for name, gain in scores.items()}, settings)
    rows = comparison_rows(scores_by_prompt(cells), settings)
    return {(row["system"], row["baseline"], row["decoding"]): row for row in rows}


@pytest.mark.parametrize(("gain", "verdict"), [(2.0, "higher"), (-2.0, "lower"), (0.0, "undecided")])
def test_comparisons_see_a_small_gain_through_hard_and_easy_prompts(gain, verdict):
    found = compare(SETTINGS, teacher=0, phase1=0, other=gain)
    assert list(found) == [
        (name, "phase1", decoding) for decoding in SETTINGS.decodings for name in ("teacher", "other")
    ]
    row = found["other", "phase1", "sampled"]
    assert (row["student"], row["training_seed"], row["prompts"], row["verdict"]) == ("student", 10, 40, verdict)
    assert row["difference"] == pytest.approx(1.5 * gain)
    assert row["lo"] <= row["difference"] <= row["hi"]
    equal = found["teacher", "phase1", "sampled"]
    assert (equal["difference"], equal["p_value"], equal["p_adjusted"], equal["verdict"]) == (0, 1, 1, "undecided")


def test_a_verdict_is_adjusted_for_the_comparisons_beside_it():
    """One gain with p between 0.01 and 0.05: clear on its own, not among many."""
    noise = np.random.default_rng(3).normal(size=40)
    gains = (0.36 + (noise - noise.mean()) / noise.std()).tolist()

    def rows(names):
        few = SETTINGS.model_copy(
            update={"systems": {name: SETTINGS.systems.get(name, system(name, "x")) for name in names}}
        )
        scores = {name: prompt_scores(0) for name in names}
        for row, gain in zip(scores["other"], gains * 2, strict=True):
            row["score"] += gain
        cells = by_cell(scores, few)
        return {row["system"]: row for row in comparison_rows(scores_by_prompt(cells), few)}

    alone, among = (rows([*("phase1", "other"), *(f"x{i}" for i in range(n))])["other"] for n in (0, 9))
    assert alone["p_value"] == among["p_value"] and 0.01 < alone["p_value"] < 0.05
    assert (alone["tests"], alone["p_adjusted"], alone["verdict"]) == (1, alone["p_value"], "higher")
    assert (among["tests"], among["p_adjusted"], among["verdict"]) == (10, 10 * alone["p_value"], "undecided")
    assert among["lo"] > 0


def test_every_pair_of_a_student_is_tested_once_and_seeds_are_averaged():
    settings = make_settings(RUNS, further_students={"big": STUDENT}, further_seeds=[20])
    means = {"teacher": 9.0, "sft": 2.0, "sft.seed20": 4.0, "kd": 3.0, "kd.seed20": 3.0, "big.kd": 1.0}
    cells = make_scores(settings, lambda system, *_: means.get(system, 0.0))
    rows = list(pair_rows(cells, settings))
    names = ["teacher", "phase1", *RUNS]
    pairs = [(later, earlier) for i, later in enumerate(names) for earlier in names[:i]]
    own = {(row["system"], row["other"]): row for row in rows if row["student"] == "student"}
    assert len(rows) == 2 * 21 and sorted(own) == sorted(pairs)
    assert {(row["dataset"], row["decoding"], row["tests"], row["prompts"]) for row in rows} == {
        ("dolly", "sampled", 21, 20)
    }
    level, above = own["kd", "sft"], own["kd", "phase1"]
    assert (level["difference"], level["verdict"], level["p_adjusted"]) == (0, "undecided", 1)
    assert (above["difference"], above["verdict"], above["training_seeds"]) == (3, "higher", 2)
    assert above["p_adjusted"] == pytest.approx(21 * above["p_value"])
    assert own["sft", "teacher"]["verdict"] == "lower"
    assert {row["verdict"] for row in rows if row["other"] == "teacher"} == {"lower"}
    assert {(row["system"], row["difference"]) for row in rows if row["other"] == "big.phase1"} >= {("big.kd", 0.5)}


def test_the_page_shows_which_pairs_are_decided(tmp_path):
    text = page(tmp_path, mean=lambda system, *_: 33.0 if system == "other" else 30.0)
    section = text.split("## Decided pairs")[1].split("## ")[0]
    assert "student: 2 of 3 pairs are decided (dolly, 20 prompts, sampled)." in section
    assert lines(section, "phase1")[0].split("|")[2].strip() == "+0.0 (1.000)"
    assert [cell.strip() for cell in lines(section, "other")[0].split("|")[2:4]] == ["**+3.0** (<= 0.0006)"] * 2


def dev_items(losses):
    """Rows of updates 0, 5, 10: prompt p0 has three samples, p1 to p9 one each; p0 stays as it is."""
    return [
        {"step": step, "id": f"p{i}", "sample": sample, "loss": 1.0 if i == 0 else loss + i / 100, "linear": loss}
        for step, loss in losses.items()
        for i in range(10)
        for sample in range(3 if i == 0 else 1)
    ]


def test_learning_is_the_paired_change_over_prompts_not_over_samples():
    rows = list(learning_rows("bd", dev_items({0: 3.0, 5: 1.0, 10: 2.0}), selected=5, seed=1))
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
    assert {row["quantity"] for row in learning_rows("other", items, 5, 1)} == {"objective"}


def test_learning_without_rows_of_the_selected_update_is_an_error():
    with pytest.raises(DataError, match="^bd: expected held-out rows of update 7"):
        list(learning_rows("bd", dev_items({0: 3.0, 5: 1.0}), selected=7, seed=1))


def test_selection_lists_candidates_by_update():
    scores = {"100": {"dev_loss": 1.5, "dev_rouge_l": 40.0}, "50": {"dev_loss": 2.0, "dev_rouge_l": 41.0}}
    rows = list(selection_rows({"bd": {"rule": "dev_rouge_l", "update": 50, "scores": scores}}))
    assert [(row["update"], row["chosen"], row["dev_score"]) for row in rows] == [(50, "yes", 41.0), (100, "no", 40.0)]


def test_training_counts_updates_sequences_and_time_whatever_was_selected():
    metrics = [{"step": step, "gradient_norm": float(step), "tokens": 100, "seconds": 0.3} for step in (1, 2, 3, 4)]
    row = training_row("bd", system("bd", "bd"), metrics, [{"step": 4, "loss": 2.5}], selected=2)
    assert (row["updates"], row["sequences"], row["tokens"]) == (4, 32, 400)
    assert (row["mean_gradient_norm"], row["final_dev_loss"]) == (2.5, 2.5)
    assert math.isclose(row["seconds_per_update"], 0.3) and math.isclose(row["tokens_per_second"], 400 / 1.2)


def test_hours_count_every_process_and_what_is_made_once():
    training = [{"run": "other", "seconds": 1800.0}]
    run, samples = hours_rows(training, {"teacher samples": 3.0}, SETTINGS)
    assert (run["cost"], run["system"], run["hours"], run["device_hours"]) == ("training", "other", 0.5, 1.0)
    assert (run["paper_hours"], run["paper_hardware"]) == (None, None)
    assert (samples["cost"], samples["system"], samples["hours"], samples["device_hours"]) == (
        *("teacher samples", None),
        *(3.0, 3.0),
    )


def test_the_papers_hours_stand_beside_the_run_that_it_reports():
    settings = make_settings({**RUNS, "bd": bd()}, paper={"family": "Qwen-2.5", "students": {"student": "0.5B"}})
    training = [{"run": name, "seconds": 60.0} for name in ("sft", "minillm", "bd")]
    rows = hours_rows(training, {}, settings)
    assert [(row["paper_hours"], row["paper_hardware"]) for row in rows] == [
        (None, None),
        (10.7, "4 A40"),
        (0.8, "4 A40"),
    ]


def test_sorted_mass_is_listed_by_k_if_it_was_measured():
    rows = list(sorted_mass_rows({"sorted_mass": [0.5, 0.75]}))
    assert rows == [{"k": 1, "mass": 0.5}, {"k": 2, "mass": 0.75}]
    assert list(sorted_mass_rows({"teacher_entropy": 1.0})) == []


def test_win_rates_come_in_the_order_of_the_systems():
    rows = [
        {"system": a, "opponent": b, "n": 3}
        for a, b in (("other", "phase1"), ("other", "teacher"), ("phase1", "other"))
    ]
    ordered = win_rate_rows(rows, SYSTEMS)
    assert [(row["system"], row["opponent"]) for row in ordered] == [
        ("phase1", "other"),
        ("other", "teacher"),
        ("other", "phase1"),
    ]
    assert ordered[0]["prompts"] == 3


def test_csv_keeps_every_digit_and_empty_cells(tmp_path):
    write_table(tmp_path, "sorted_mass", [{"k": 1, "mass": 1 / 3}, {"k": 2, "mass": None}])
    assert (tmp_path / "sorted_mass.csv").read_text() == "k,mass\n1,0.3333333333333333\n2,\n"
    first, second = read_table(tmp_path, "sorted_mass")
    assert float(first["mass"]) == 1 / 3 and second["mass"] == ""


@pytest.mark.parametrize(("content", "problem"), [(None, "found none"), ("system,mean\n", "found system,mean")])
def test_a_missing_or_foreign_table_is_an_error(tmp_path, content, problem):
    if content:
        (tmp_path / "scores.csv").write_text(content)
    with pytest.raises(DataError, match=rf"scores\.csv.*{problem}; rerun make_tables"):
        read_table(tmp_path, "scores")


def page(tmp_path, win_rates=(), settings=SETTINGS, mean=None, claims=(), **changes):
    """Renders a page of made-up scores with empty tables for the rest."""
    mean = mean or (lambda *_: 30.0)
    cells, scores = make_cells(settings, mean), make_scores(settings, mean)
    primary = next(iter(settings.decodings))
    filled = {
        "scores": score_rows(cells, settings),
        "training_seeds": training_seed_rows(cells, settings),
        "claims": claims,
        "quality": quality_rows(cells, {}, primary),
        "comparisons": comparison_rows(scores, settings),
        "pairs": pair_rows(scores, settings),
        "p_study": p_rows(cells, settings),
        "win_rates": win_rates,
    }
    for name in COLUMNS:
        write_table(tmp_path, name, filled.get(name, []))
    values = {
        "title": "A study",
        "embedded": True,
        "decodings": settings.decodings,
        "deepspeed": DeepSpeed(),
        "sampling": Sampling(),
    }
    settings = RenderTables(**(values | changes))
    return render(read_tables(tmp_path), settings, "tables").text


def win_rate(judge, metric="rouge_l"):
    shares = ("win_rate", "lo", "hi", "wins", "ties", "losses", "win_rate_first", "win_rate_second", "consistency")
    names = {"system": "other", "opponent": "phase1", "judge": judge, "dataset": "dolly", "decoding": "sampled"}
    return (
        names
        | {"metric": metric}
        | dict.fromkeys(shares, 0.625)
        | {"seed": 10, "prompts": 40, "unparsable": 0, "refused": 0, "spent_usd": 0.0}
    )


def test_the_page_says_decoding_spread_and_verdict(tmp_path):
    text = page(tmp_path, mean=lambda system, *_: 33.0 if system == "other" else 30.0)
    assert text.startswith("# A study\n")
    assert "### Rouge-L, sampled (temperature 1, top-p 1, primary)" in text
    assert "<summary>Rouge-L, greedy (temperature 0)</summary>" in text
    assert "| 33.0 ± 1.4 (2 seeds) |" in text and "dolly (20 prompts)" in text
    assert "+3.0 [+3.0, +3.0] higher, p <= 0.0004 |" in text
    assert "[scores.csv](tables/scores.csv)" in text
    assert not any(f"## {title}" in text for title in ("Win rates", "Learning", "The paper's", "p,", "Training seeds"))
    assert "| paper" not in text


def test_the_page_names_the_metric_of_each_set(tmp_path):
    metrics = {"dolly": "rouge_l", "sums": "exact_match", "vicuna": "rouge_l"}
    sets = {name: {"kind": "world", "rows": 9, "metric": metric} for name, metric in metrics.items()}
    text = page(tmp_path, settings=make_settings({**RUNS, "bd": bd()}, data={"evaluation": sets}))
    rows = {(row["dataset"], row["metric"]) for name in ("scores", "comparisons") for row in read_table(tmp_path, name)}
    assert rows == {*metrics.items()} and {row["metric"] for row in read_table(tmp_path, "pairs")} == {"rouge_l"}
    assert "\n## Scores\n" in text and "\n### Scores, sampled (temperature 1" in text
    measure = "best of a prompt's references (dolly, vicuna); Exact match with one of"
    assert measure in text and "in percent (sums), mean over prompts;" in text
    assert "Difference in the set's metric, row system minus" in text
    assert "the difference in Rouge-L, row minus column, on the first set" in text
    heads = [
        line.split("|")[2].strip() for line in text.splitlines() if line.startswith("| system") and "distinct" in line
    ]
    assert heads == ["Rouge-L", "Exact match", "Rouge-L"]
    assert "{" not in text


def lines(text, start):
    return [line for line in text.splitlines() if line.startswith(f"| {start} ")]


def test_the_papers_numbers_are_marked_and_others_are_n_a(tmp_path):
    paper = {"family": "OPT", "students": {"student": "125M"}}
    text = page(tmp_path, settings=make_settings({**RUNS, "bd": bd()}, paper=paper), embedded=False)
    assert [cell.strip() for cell in lines(text, "sft")[0].split("|")[3:8:2]] == ["23.2‡", "9.9‡", "14.3‡"]
    assert lines(text, "sft_continued")[0].count("n/a") == 3
    assert lines(text, "bd")[0].count("|  25.1 |") == 1
    gpt2 = {"family": "GPT-2", "students": {"student": "120M"}}
    text = page(tmp_path, settings=make_settings(RUNS, paper=gpt2), embedded=False)
    assert "23.2†" in lines(text, "sft")[0] and "goes with that decoding alone" in text
    greedy = text.split("greedy (temperature 0)")[1].split("</details>")[0]
    assert "n/a" not in greedy and "23.2" not in greedy


def test_further_training_seeds_have_their_table_and_stay_out_of_the_way(tmp_path):
    runs = {**RUNS, "bd": bd(), "bd_full": bd(p=1.0)}
    text = page(tmp_path, settings=make_settings(runs, further_seeds=[20]), mean=lambda system, *_: 30.0 + len(system))
    main, folded = text.split("further training seeds</summary>", 1)
    assert "bd.seed20" not in main and lines(folded, "bd.seed20")
    assert "## Training seeds, sampled" in text
    assert "(2 seeds; 1.4 over sampling)" in lines(text.split("## Training seeds")[1], "bd")[0]
    of_p = text.split("## p, sampled")[1].split("Full precision")[0]
    assert lines(of_p, "bd_full") and "seed20" not in of_p


def test_long_tables_are_folded(tmp_path):
    runs = {f"run{i}": RUNS["sft"] for i in range(10)}
    text = page(tmp_path, settings=make_settings(runs))
    of_comparisons = text.split("## Comparisons")[1].split("Full precision")[0]
    assert "<summary>66 rows</summary>" in of_comparisons
    assert "rows</summary>" not in text.split("## Comparisons")[0]


def claim(**changes):
    row = dict.fromkeys(COLUMNS["claims"]) | {"claim": "BD is above SFT", "paper": "+0.3 to +3.3", "system": "bd"}
    row |= {"student": "student", "objective": "sampled", "quantity": "Rouge-L", "verdict": "holds", "reason": "why"}
    return row | changes


def test_claims_stand_by_objective_with_a_column_a_decoding(tmp_path):
    figures = {"figure": 1.25, "lo": 0.5, "hi": 2.0, "against": "sft", "dataset": "dolly"}
    rows = [
        claim(decoding="sampled", **figures),
        claim(decoding="greedy", **figures | {"lo": -0.5, "verdict": "cannot be told"}),
        claim(decoding="greedy", **figures | {"dataset": "elsewhere", "figure": 9.9}),
        claim(claim="above KD", verdict="cannot be told", reason="there is no KD run"),
        claim(claim="everywhere", verdict="cannot be told", reason="there is no KD run"),
        claim(claim="sooner", quantity="time ratio", figure=6.0, against="minillm"),
        claim(claim="mass", quantity="mass", figure=0.925, student=None, objective=None, system="teacher"),
    ]
    text = page(tmp_path, claims=rows)
    assert "### Objective sampled, student, dolly" in text and "### The teacher" in text
    (line,) = lines(text, "BD is above SFT")
    assert "| +1.2 [+0.5, +2.0]: holds |" in line and "| +1.2 [-0.5, +2.0]: cannot be told |" in line
    assert "- Cannot be told, there is no KD run: above KD; everywhere." in text and "9.9" not in text
    assert "6.0: holds" in text and "92.5%: holds" in text
    assert "says nothing about the paper's setting" in text and "+0.3 to +3.3" not in text
    text = page(tmp_path, claims=rows, embedded=False)
    assert "says nothing about the paper's setting" not in text and "| +0.3 to +3.3 |" in text


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


def test_reference_overlap_names_its_metric(tmp_path):
    text = page(tmp_path, win_rates=[win_rate("reference overlap", "exact_match")])
    assert "The answer with the higher Exact match against" in text and "what Exact match measures" in text


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


def test_a_table_for_latex_is_escaped_labelled_and_without_what_all_rows_share(tmp_path):
    rows = [
        dict.fromkeys(COLUMNS["comparisons"])
        | {"system": system, "baseline": "sft", "difference": difference, "lo": -1.26, "hi": 2.0, "verdict": verdict}
        for system, difference, verdict in (("bd_sampled", -0.27, "50% & [more]"), ("kd_sets", 3.0, r"\input{x}"))
    ]
    write_latex(tmp_path, "comparisons", rows, {"bd_sampled": "BD_1"})
    write_latex(tmp_path, "pairs", [], {})
    assert [path.name for path in tmp_path.iterdir()] == ["comparisons.tex"]
    text = (tmp_path / "comparisons.tex").read_text()
    assert "% baseline: sft\n" in text and r"\begin{tabular}{lrrl}" in text
    assert r"BD\_1 & $-0.270$ & {[}-1.260, 2.000] & 50\% \& {[}more] \\" in text
    assert r"kd\_sets & 3.000 & {[}-1.260, 2.000] & \textbackslash{}input\{x\} \\" in text
