"""Which checkpoint becomes a run's model: the rules, their ties, and the start of a run as a candidate."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from distill.checkpoints import checkpoint_name
from distill.errors import DataError
from distill.evaluation.dev_scores import check_references
from distill.evaluation.selection import select
from distill.files import read_json, seal_folder, write_json, write_jsonl
from distill.provenance.record import record_path
from distill.records import Example

WORKFLOW = Path(__file__).parents[2] / "workflow"
EXAMPLE = Example.of("Name the harbour.", "", ["the old harbour"], "qa")
RIGHT, WRONG = "the old harbour", "nothing"
CHINESE = Example.of("这里有什么？", "", ["老港口。"], "qa")


@pytest.mark.parametrize(
    ("rule", "scores", "expected"),
    [
        ("dev_rouge_l", {0: 40.0, 50: 41.0, 100: 41.0}, 50),
        ("dev_rouge_l", {0: 41.0, 50: 41.0, 100: 40.0}, 0),
        ("dev_loss", {0: 2.0, 50: 1.0, 100: 1.5}, 50),
        ("dev_loss", {0: 1.0, 50: 1.0, 100: 1.5}, 0),
        ("last", {50: 9.0, 100: 1.0}, 100),
    ],
)
def test_the_best_wins_and_of_equals_the_earliest(rule, scores, expected):
    key = "dev_loss" if rule == "dev_loss" else "dev_rouge_l"
    assert select(rule, {update: {key: score} for update, score in reversed(scores.items())}) == expected


def test_a_run_without_checkpoints_is_an_error():
    with pytest.raises(DataError, match="expected at least one checkpoint"):
        select("dev_rouge_l", {})


MADE = {
    "role": "student",
    "run": {"method": "sft", "start": "phase1", "training": {"steps": 4}},
    "seed": 10,
    "sources": {"instructions": {"kind": "hub", "repository": "someone/rows", "revision": "0" * 40}},
    "bases": {"student": {"kind": "hub", "repository": "someone/base", "revision": "1" * 40}},
}
TOKENIZER = {"tokenizer": {}, "tokenizer_config": {}, "generation_config": {"eos_token_id": 0}}


def model_folder(path: Path, weights: str, **files: dict) -> Path:
    path.mkdir(parents=True)
    (path / "model.safetensors").write_text(weights)
    for name, content in files.items():
        write_json(path / f"{name}.json", content)
    seal_folder(path)
    return path


def choose(
    tmp_path: Path, rule: str, answers: dict[int, str], with_start: bool = True, keep: str = "all"
) -> tuple[Path, str]:
    """Selects among a start and two checkpoints by their dev answers; returns the model and the log."""
    for update in (2, 4):
        folder = tmp_path / "training/mine/checkpoints" / checkpoint_name(update)
        model_folder(folder, f"weights of {update}", **TOKENIZER)
    losses = [{"step": update, "loss": 1.0 + abs(update - 2)} for update in (0, 2, 4)]
    write_jsonl(tmp_path / "training/mine/dev.jsonl", losses)
    rows = [
        {"update": update, "id": EXAMPLE.id, "response": text, "finished": True} for update, text in answers.items()
    ]
    write_jsonl(tmp_path / "validation/mine/generations.jsonl", rows)
    write_jsonl(tmp_path / "dev/examples.jsonl", [EXAMPLE.to_dict()])
    for name in ("training/mine", "validation/mine", "dev"):
        seal_folder(tmp_path / name)
    own = {"selection": {"run": "phase1", "update": 100}}
    model_folder(tmp_path / "models/phase1", "weights of phase 1", **own, **TOKENIZER)
    (tmp_path / "models/phase1/README.md").write_text("phase 1's own card")
    inputs = {"run": "training/mine"} | ({"start": "models/phase1"} if with_start else {})
    inputs |= {"validation": "validation/mine", "dev": "dev"} if rule == "dev_rouge_l" else {}
    command = [sys.executable, str(WORKFLOW / "scripts/select_checkpoint.py"), "--output", "models/mine/COMPLETE"]
    command += [
        "--settings",
        json.dumps({"name": "mine", "rule": rule, "wrapper": "short", "max_new_tokens": 6, "made": MADE}),
        "--state",
        ".state",
        "--keep-checkpoints",
        keep,
    ]
    command += [part for name, path in inputs.items() for part in (f"--{name}", f"{path}/COMPLETE")]
    environment = os.environ | {"PYTHONPATH": str(WORKFLOW)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tmp_path / "models/mine", done.stdout


def test_a_run_that_is_not_above_its_start_keeps_it_and_says_so(tmp_path):
    model, log = choose(tmp_path, "dev_rouge_l", {0: RIGHT, 2: RIGHT, 4: WRONG})
    start = tmp_path / "models/phase1"
    weights = [folder / "model.safetensors" for folder in (model, start)]
    assert weights[0].samefile(weights[1]), "a second copy of the weights"
    selection = read_json(model / "selection.json")
    assert (selection["run"], selection["update"], selection["keeps_start"]) == ("mine", 0, True)
    assert {update: row["dev_rouge_l"] for update, row in selection["scores"].items()} == {"0": 100, "2": 100, "4": 0}
    assert read_json(start / "selection.json") == {"run": "phase1", "update": 100}, "phase 1's own file was written to"
    asked = [read_json(folder / "generation_config.json") for folder in (model, start)]
    assert asked == [{"eos_token_id": 0, "max_new_tokens": 6}, {"eos_token_id": 0}], "phase 1's own file was written to"
    notes = read_json(record_path(model))["predicate"]["runDetails"]["notes"]
    assert notes == {"rule": "dev_rouge_l", "update": 0, "keeps_start": True}
    assert log.startswith("mine: ") and "which it keeps" in log
    card = ModelCard.load(model / "README.md")
    assert (card.data.base_model, card.data.datasets) == (["someone/base"], ["someone/rows"])
    assert card.data.tags == ["knowledge-distillation", "sft"] and "not recorded" in card.text
    assert "Update 0, the model that the run started from," in card.text and "`max_new_tokens` is 6" in card.text
    assert "README.md" not in read_json(model / "COMPLETE"), "a word of the card would make all that starts here again"


def test_a_checkpoint_above_the_start_is_taken(tmp_path):
    model, log = choose(tmp_path, "dev_rouge_l", {0: WRONG, 2: WRONG, 4: RIGHT})
    assert (model / "model.safetensors").read_text() == "weights of 4"
    assert read_json(model / "selection.json")["keeps_start"] is False and log == ""


def test_dev_loss_needs_no_answers_of_the_start(tmp_path):
    model, _ = choose(tmp_path, "dev_loss", {})
    assert read_json(model / "selection.json")["scores"] == {
        "0": {"dev_loss": 3.0},
        "2": {"dev_loss": 1.0},
        "4": {"dev_loss": 3.0},
    }


def test_a_start_that_is_no_candidate_is_not_scored(tmp_path):
    model, _ = choose(tmp_path, "dev_rouge_l", {2: WRONG, 4: WRONG}, with_start=False)
    selection = read_json(model / "selection.json")
    assert selection["update"] == 2 and [*selection["scores"]] == ["2", "4"]


def test_a_metric_that_reads_no_reference_selects_nothing(tmp_path, capsys):
    write_jsonl(tmp_path / "examples.jsonl", [CHINESE.to_dict()])
    with pytest.raises(DataError) as refused:
        check_references(tmp_path, "rouge_l", "mine")
    assert str(refused.value) == (
        "select of mine: expected a metric by which a reference of dev scores above 0 against itself, found rouge_l "
        "with 0 for all 1, such as '老港口。'; set it to dev_rouge_l_any_script"
    )
    check_references(tmp_path, "rouge_l_any_script", "mine")
    assert capsys.readouterr().out == ""
    write_jsonl(tmp_path / "examples.jsonl", [CHINESE.to_dict(), Example.of("Where?", "", "ab", "qa").to_dict()])
    check_references(tmp_path, "rouge_l", "mine")
    assert capsys.readouterr().out.startswith(
        "select of mine: rouge_l reads 40% of the letters in the references of dev"
    )
