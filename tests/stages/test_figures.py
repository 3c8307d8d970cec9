"""Figures and report: equal data give equal bytes, absent data leave a figure out, and the stages run on files."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch
from xml.etree import ElementTree

import pytest
from PIL import Image

from distill.evaluation.p_values import SMALLEST
from distill.files import seal_folder, write_jsonl
from distill.pages.figures import CURVES as PLOTTED
from distill.pages.figures import FORMATS, curve_figure, write_figures
from distill.pages.page import CHARACTERS, build_page, sample_answers, shown_verdicts
from distill.report.csv_tables import COLUMNS, write_table
from small_report import (
    DATASETS,
    HOSTILE,
    METRICS,
    RECIPES,
    SEEDS,
    TITLES,
    make_examples,
    make_generations,
    make_logs,
    make_scores,
    make_settings,
    make_tables,
    make_verdicts,
)
from warm import ENVIRONMENT, warm_python

WORKFLOW = Path(__file__).parents[2] / "workflow"
CURVES = {"gradient_norm", "tokens_per_second", "entropy", "out_of_set"}
NAMES = {"figure1", "figure2", "scores", "loss", "dev_scores", *CURVES}


def draw(folder, formats=FORMATS, **changes):
    folder.mkdir()
    given = {
        "tables": make_tables(),
        "scores": make_scores(),
        "titles": TITLES,
        "recipes": RECIPES,
        "labels": {},
        **make_logs(),
    }
    with patch("distill.pages.figures.FORMATS", formats):
        write_figures(folder, **given | changes)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("figures") / "first")


def test_another_run_under_other_settings_of_the_machine_gives_the_same_bytes(tmp_path, drawn):
    assert drawn.keys() == {f"{name}.{kind}" for name in NAMES for kind in ("png", "svg", "pdf")}
    (tmp_path / "matplotlibrc").write_text("font.size: 20\naxes.facecolor: red\nsavefig.dpi: 30\n")
    code = "import sys; from pathlib import Path; from test_figures import draw; draw(Path(sys.argv[1]))"
    folders = os.pathsep.join([str(WORKFLOW), str(WORKFLOW.parent / "tests" / "helpers"), str(Path(__file__).parent)])
    environment = os.environ | {
        "PYTHONPATH": folders,
        "MATPLOTLIBRC": str(tmp_path / "matplotlibrc"),
        "TZ": "Asia/Tokyo",
    }
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], env=environment, check=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == drawn


def test_pictures_are_as_wide_as_a_page_and_not_empty(drawn, tmp_path):
    for name in NAMES:
        (tmp_path / "it.png").write_bytes(drawn[f"{name}.png"])
        with Image.open(tmp_path / "it.png") as picture:
            assert picture.width == pytest.approx(9.6 * 144, abs=2) and picture.height > 250
            assert len(picture.convert("RGB").getcolors(1 << 24)) > 20
        assert b"<dc:date>" not in drawn[f"{name}.svg"]


@pytest.mark.parametrize(
    ("changes", "absent"),
    [
        (
            {
                "win_rates": [],
                "sorted_mass": [],
                "selection": [row | {"dev_score": ""} for row in make_tables()["selection"]],
            },
            {"figure1", "figure2", "dev_scores"},
        ),
        ({"selection": []}, {"loss", "dev_scores", *CURVES}),
    ],
    ids=["no verdicts, candidate sets or validation", "every model from outside"],
)
def test_a_figure_without_data_is_left_out_and_the_report_goes_on(tmp_path, changes, absent):
    tables = make_tables() | changes
    logs = {} if tables["selection"] else {"metrics": {}, "dev": {}}
    found = draw(tmp_path / "figures", ["svg"], tables=tables, **logs)
    figures = {name.removesuffix(".svg"): content for name, content in found.items()}
    assert figures.keys() == NAMES - absent
    page = build_page(tables, figures, sample_answers({}, {}, 0, {}), make_settings(), ("tables", "figures"))
    assert {name for name in NAMES if f'id="figure-{name}"' in page} == NAMES - absent


def test_training_seeds_share_a_panel(drawn):
    assert [text for text in drawn_texts(drawn["loss.svg"]) if text.startswith("bd")] == ["bd"]


def drawn_texts(svg):
    """Returns the texts of a figure, which Matplotlib names in comments, in their order."""
    return [text.strip() for text in re.findall("<!-- (.*?) -->", svg.decode())]


def test_labels_stand_for_systems_and_a_narrow_figure_fits_its_width(tmp_path):
    found = draw(tmp_path / "figures", ["svg", "pdf"], labels={"bd": "BD (ours)"}, width=3.3)
    for name in ("scores", "loss", "figure2"):
        texts = drawn_texts(found[f"{name}.svg"])
        assert any("BD (ours)" in text for text in texts) and not any(re.match("bd($| )", text) for text in texts)
        assert float(ElementTree.fromstring(found[f"{name}.svg"]).get("width")[:-2]) == pytest.approx(3.3 * 72)
    assert all(b"/FontFile2" in found[f"{name}.pdf"] for name in NAMES), "text in fonts that are part of the file"


def test_curves_have_one_axis_and_a_panel_for_each_run_that_logs_them(tmp_path, drawn):
    titles = {name: [text for text in drawn_texts(drawn[f"{name}.svg"]) if text in RECIPES] for name in CURVES}
    logged = ["phase1", "sft", "bd"]
    assert titles == {"gradient_norm": logged, "tokens_per_second": logged, "entropy": ["sft"], "out_of_set": ["bd"]}
    assert {"tokens of the teacher's samples", "mass of the student"} <= {*drawn_texts(drawn["out_of_set.svg"])}
    logs = make_logs()
    logs["metrics"]["sft"] = [row | {"gradient_norm": 1e3} for row in logs["metrics"]["sft"]]
    figure = curve_figure(PLOTTED["gradient_norm"], logs["metrics"], RECIPES)
    assert len({axes.get_ylim() for axes in figure.axes}) == 1 and figure.axes[0].get_ylim()[1] > 1e3
    plain = {run: [{"step": 1, "loss": 1.0, "gradient_norm": 1.0}] for run in logs["metrics"]}
    assert curve_figure(PLOTTED["entropy"], plain, RECIPES) is None


def test_figures_and_words_name_the_metrics_of_sets_and_of_selection(tmp_path):
    tables = make_tables()
    titles = {"dolly": "Rouge-L", "vicuna": "Exact match"}
    for row in tables["scores"]:
        row["metric"] = "exact_match" if row["dataset"] == "vicuna" else "rouge_l"
    for row in tables["selection"]:
        row["metric"] = "exact_match" if row["run"] == "sft" else "rouge_l"
    found = draw(tmp_path / "figures", ["svg"], tables=tables, titles=titles)
    texts = {name: {*drawn_texts(found[f"{name}.svg"])} for name in NAMES}
    assert {"Rouge-L", "Exact match"} <= texts["scores"]
    assert {"sft (Exact match)", "bd (Rouge-L)", "dev score"} <= texts["dev_scores"]
    figures = {name: found[f"{name}.svg"] for name in NAMES}
    page = build_page(tables, figures, sample_answers({}, {}, 0, {}), make_settings(), ("tables", "figures"))
    for words in ("<h3>Scores by system and decoding", "<h3>Dev score by update", "Scores under different decodings"):
        assert words in page
    same = build_page(make_tables(), figures, sample_answers({}, {}, 0, {}), make_settings(), ("tables", "figures"))
    for words in (
        "<h3>Rouge-L by system and decoding",
        "<h3>Dev Rouge-L by update",
        "Rouge-L under different decodings",
    ):
        assert words in same


def test_answers_are_the_first_prompts_in_the_sets_order():
    answers = sample_answers(make_generations(), make_examples(), 40, METRICS)
    assert (answers["datasets"]["dolly"]["total"], len(answers["datasets"]["dolly"]["prompts"])) == (50, 40)
    texts = answers["answers"]["sft"]["vicuna"]["sampled"][20]
    assert [text for text, _ in texts] == [f"sft on vicuna {i}, sampled 20" for i in range(8)]
    assert answers["answers"]["bd"]["dolly"]["greedy"][0][0][0] == ("word " * 1000)[:CHARACTERS] + " […]"
    assert answers["decodings"] == {"sampled": [10, 20], "greedy": [0]}


def test_an_answer_has_the_score_of_the_whole_of_it():
    """`thing 3` of vicuna is a valid answer, and an answer that is cut on the page is scored before."""
    rows = [row for row in make_generations()["sft"] if row["dataset"] == "vicuna"]
    texts = ["Thing 3!", "word " * CHARACTERS + "thing 3", "none"]
    generations = {text: [row | {"response": text} for row in rows] for text in texts}
    answers = sample_answers(generations, make_examples(), 8, METRICS)["answers"]
    scores = [answers[text]["vicuna"]["greedy"][0][3][1] for text in texts]
    assert scores[0] == 100 and scores[2] == 0 and 0 < scores[1] < 1
    unended = {"sft": [row | {"response": "Thing 3", "finished": False} for row in rows]}
    cut = sample_answers(unended, make_examples(), 8, dict.fromkeys(METRICS, "boxed_answer"))
    assert cut["answers"]["sft"]["vicuna"]["greedy"][0][3][1] == 0


def test_verdicts_stand_in_the_order_of_the_prompts():
    (phase1, sft) = shown_verdicts(make_verdicts(), make_tables()["win_rates"], make_examples(), 6)
    words = ["wins", "loses", "ties", "wins in one order", "has no verdict", "wins"]
    assert (sft["system"], sft["opponent"], sft["words"]) == ("bd", "sft", words)
    assert phase1["words"] == ["has no verdict"] * 6, "nobody judged this pair"


def test_texts_cannot_end_their_element(drawn):
    answers = sample_answers(make_generations(), make_examples(), 40, METRICS)
    page = build_page(make_tables(), {"scores": drawn["scores.svg"]}, answers, make_settings(), ("tables", "figures"))
    assert page.count("</script>") == 2 and "<img src=x" not in page
    data = page.split('id="data">')[1].split("</script>")[0]
    assert json.loads(data)["answers"]["phase1"]["vicuna"]["greedy"]["0"][0][0] == HOSTILE


def test_the_paper_is_named_where_the_study_repeats_its_models(drawn):
    def page(config):
        settings = make_settings().model_copy(update={"config": config})
        figures = {"figure1": drawn["figure1.svg"]}
        return build_page(tables, figures, sample_answers({}, {}, 0, {}), settings, ("tables", "figures"))

    claims = [{"claim": "BD is above SFT on Dolly", "verdict": "holds", "figure": "1.0"}]
    tables = make_tables() | {"claims": [dict.fromkeys(COLUMNS["claims"], "") | row for row in claims]}
    for words in (
        "top 7 tokens hold at least 90%",
        "paper&#39;s Table 1",
        "BD is above SFT on Dolly",
        "paper&#39;s Figure 1",
    ):
        assert words in page({"paper": {"family": "GPT-2"}}) and words not in page({"paper": None}), words


def test_a_p_value_that_no_resample_contradicts_reads_as_a_bound():
    row = dict.fromkeys(COLUMNS["comparisons"], "") | {"tests": "30", "p_value": repr(SMALLEST)}
    tables = dict.fromkeys(COLUMNS, []) | {
        "comparisons": [row | {"p_adjusted": repr(30 * SMALLEST)}, row | {"p_value": "0.03", "p_adjusted": "0.9"}]
    }
    page = build_page(tables, {}, sample_answers({}, {}, 0, {}), make_settings(), ("tables", "figures"))
    cells = re.findall(r'data-value="([^"]+)">(&lt;= 0\.0002|&lt;= 0\.006|0\.03\d*|0\.9\d*)<', page)
    assert cells == [
        (repr(SMALLEST), "&lt;= 0.0002"),
        (repr(30 * SMALLEST), "&lt;= 0.006"),
        ("0.03", "0.0300"),
        ("0.9", "0.9000"),
    ]


WORDS = {"metric": "rouge_l", "dev_metric": "rouge_l", "verdict": "undecided"}


def test_every_table_has_a_heading_and_a_caption():
    tables = {
        name: [
            {column: "1" for column in columns} | {column: word for column, word in WORDS.items() if column in columns}
        ]
        for name, columns in COLUMNS.items()
    }
    settings = make_settings().model_copy(update={"config": {"paper": {"family": "GPT-2"}}})
    page = build_page(tables, {}, sample_answers({}, {}, 0, {}), settings, ("tables", "figures"))
    assert [
        name for name in COLUMNS if f'<section id="table-{name}"' not in page or f'"tables/{name}.csv"' not in page
    ] == []
    assert "mean entropy at these states is 1 nats" in page
    assert re.findall(r"<p>[^<]*\{\w+\}", page) == []


def test_the_stages_draw_and_render_from_files(tmp_path):
    results = tmp_path / "results"
    tables, logs = make_tables(), make_logs()
    (results / "tables").mkdir(parents=True)
    for name in COLUMNS:
        write_table(results / "tables", name, tables[name])
    for (system, dataset, decoding), score in make_scores().items():
        folder = results / "scores" / system
        folder.mkdir(parents=True, exist_ok=True)
        rows = [{"dataset": dataset, "decoding": decoding, "id": f"p{i}"} for i in range(8)]
        with open(folder / "prompts.jsonl", "a") as file:
            file.writelines(
                json.dumps(row | {"metric": "rouge_l", "score": score.estimate, "seeds": 1}) + "\n" for row in rows
            )
    files = {f"training/{run}/metrics": rows for run, rows in logs["metrics"].items()}
    files |= {f"training/{run}/dev": rows for run, rows in logs["dev"].items()}
    files |= {f"generations/{system}/generations": rows for system, rows in make_generations().items()}
    files |= {f"verdicts/{pair}/verdicts": rows for pair, rows in make_verdicts().items()}
    files |= {f"evaluation/{name}/examples": [e.to_dict() for e in rows] for name, rows in make_examples().items()}
    for name, rows in files.items():
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(results / f"{name}.jsonl", rows)
    for folder in [results / "tables", *(path for kind in results.iterdir() for path in kind.iterdir())]:
        if folder.is_dir():
            seal_folder(folder)

    def run(rule, output, settings, **inputs):
        command = [warm_python("stages"), str(WORKFLOW / "scripts" / f"{rule}.py"), "--output", f"results/{output}"]
        command += ["--state", "results/.state", "--settings", json.dumps(settings)]
        for flag, pattern in inputs.items():
            command += [f"--{flag}", *sorted(str(path.relative_to(tmp_path)) for path in results.glob(pattern))]
        done = subprocess.run(
            command, cwd=tmp_path, env=ENVIRONMENT | {"PYTHONPATH": str(WORKFLOW)}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr

    inputs = {"tables": "tables/COMPLETE", "scores": "scores/*/COMPLETE", "runs": "training/*/COMPLETE"}
    run(
        "draw_figures",
        "figures/COMPLETE",
        {"recipes": RECIPES, "datasets": DATASETS, "decodings": list(SEEDS), "seed": 10},
        **inputs,
    )
    assert {"scores.svg", "figure2.png", "COMPLETE"} <= {path.name for path in (results / "figures").iterdir()}
    inputs = {"tables": "tables/COMPLETE", "figures": "figures/COMPLETE", "generations": "generations/*/COMPLETE"}
    inputs["verdicts"] = "verdicts/*/COMPLETE"
    settings = make_settings().model_dump(mode="json")
    run("render_report", "report.html", settings, **inputs, datasets="evaluation/*/COMPLETE")
    page = (results / "report.html").read_text()
    assert 'href="tables/scores.csv"' in page and 'href="figures/scores.png"' in page
    assert '"words":["wins","loses"' in page
    assert page.count("<svg ") == len(NAMES) and str(tmp_path) not in page
