"""Each selected student has a model card in the Hugging Face format with the numbers and digests of the study."""

import csv
import re
import shutil
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from audit_environment import audit
from distill.audit.archive import Archive
from distill.data.model_card import licence_of
from distill.files import ROOT_MANIFEST, digest_file, read_json, write_json
from distill.markdown import as_text
from distill.publish.archive_card import licences_of, write_card
from small_archive import make_small_archive, small_config
from workplace import ROOT

COMMIT = "0123456789" * 4
SCORES = {"3": {"dev_loss": 5.25, "dev_rouge_l": 8.5}, "6": {"dev_loss": 5.0, "dev_rouge_l": 9.125}}


def write_rows(path: Path, rows: list[dict]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """The small results, with a selection and tables, as if data and bases had come from the hub."""
    folder = tmp_path_factory.mktemp("cards") / "results"
    make_small_archive(folder, small_config())
    selection = {"run": "bd_sampled", "rule": "dev_rouge_l", "split": "dev", "update": 6, "scores": SCORES}
    write_json(folder / "models/bd_sampled/selection.json", selection)
    score = {"system": "bd_sampled", "dataset": "dolly", "metric": "rouge_l", "decoding": "top_p_1.0", "prompts": 30}
    write_rows(
        folder / "tables/scores.csv",
        [
            score | {"mean": 12.345, "std": 0.789, "seeds": 2},
            score | {"decoding": "greedy", "mean": 15.0, "std": "", "seeds": 1},
            score | {"system": "sft", "mean": 99.0, "std": 1.0, "seeds": 2},
        ],
    )
    win = {"judge": "reference overlap", "dataset": "dolly", "decoding": "top_p_1.0", "prompts": 30}
    win |= {"system": "bd_sampled", "opponent": "sft", "win_rate": 0.4567, "lo": 0.4, "hi": 0.5}
    write_rows(folder / "tables/win_rates.csv", [win])
    for name, key, spec in (
        ("data/sources/instructions", "source", {"kind": "hub", "repository": "databricks/databricks-dolly-15k"}),
        ("data/sources/plain_text", "source", {"kind": "file", "path": "${DATA}/private/texts.jsonl"}),
        ("bases/teacher", "model", {"kind": "hub", "repository": "Qwen/Qwen2.5-3B"}),
        ("bases/student", "model", {"kind": "hub", "repository": "Qwen/Qwen2.5-0.5B"}),
    ):
        record = folder / f"{name}.prov.json"
        statement = read_json(record)
        spec = spec | ({"revision": COMMIT} if spec["kind"] == "hub" else {})
        statement["predicate"]["buildDefinition"]["externalParameters"]["settings"][key] = spec
        write_json(record, statement)
    record = folder / "training/bd_sampled.prov.json"
    statement = read_json(record)
    for entry in statement["predicate"]["buildDefinition"]["resolvedDependencies"]:
        entry["name"] = "start" if entry["uri"] == "results/models/phase1" else entry["name"]
    write_json(record, statement)
    return folder


@pytest.fixture(scope="module")
def archive(results) -> Archive:
    return Archive(results, ROOT)


@pytest.fixture(scope="module")
def card(archive) -> str:
    return write_card(archive, archive.artifacts["models/bd_sampled"])


def rows_of(card: str, heading: str) -> list[list[str]]:
    """Returns the cells of the last table below a heading, without its header."""
    section = card.split(f"## {heading}\n")[1].split("\n## ")[0]
    table = [part for part in section.split("\n\n") if part.strip().startswith("|")][-1]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()[2:]]


def test_the_hubs_own_reader_takes_the_metadata(card):
    data = ModelCard(card).data
    assert (data.model_name, data.library_name, data.pipeline_tag) == ("bd_sampled", "transformers", "text-generation")
    assert data.tags == ["knowledge-distillation", "bd"]
    assert data.datasets == ["databricks/databricks-dolly-15k"]
    assert data.base_model == ["Qwen/Qwen2.5-0.5B"]  # not the teacher's
    found = [(result.dataset_name, result.metric_value, result.metric_args) for result in data.eval_results]
    assert found == [("dolly", 12.345, {"std": 0.789}), ("dolly", 15.0, None)]
    assert "license" not in yaml.safe_load(card.split("---\n")[1])  # nobody has stated one for the weights


def test_licences_are_told_as_far_as_they_are_known(archive, card):
    rows = {row[0]: row for row in rows_of(card, "Data, bases and licences")}
    assert rows["instructions"][1:4:2] == [f"databricks/databricks-dolly-15k at revision {COMMIT}", "CC BY-SA 3.0"]
    assert rows["plain_text"][1:4:2] == ["a local copy: texts.jsonl", "not recorded"]
    assert (rows["base of the student"][3], rows["base of the teacher"][3]) == ("Apache 2.0", "Qwen Research License")
    assert rows["instructions"][4].strip("`") == archive.artifacts["data/sources/instructions"].digest[:16]
    outside = licence_of({"kind": "folder", "path": "${MODELS}/x", "gguf_file": "SmolLM2-135M-Instruct.Q4_1.gguf"})
    assert outside == "Apache 2.0, going by the name of the copy"
    assert licence_of({"kind": "hub", "repository": "someone/adopt-gpt2"}) == "not recorded"
    assert "vicuna" not in rows  # a test set is not what the model was made from
    assert "vicuna (the embedded world): made by this workflow's generator" in licences_of(archive)


def test_teacher_method_recipe_and_environment_are_those_of_the_records(archive, card):
    rows = dict(rows_of(card, "How it was made"))
    training = archive.artifacts["training/bd_sampled"]
    assert rows["method"] == "bd" and '"steps":6' in rows["recipe"]
    assert '"objective":"sampled"' in rows["options of the method"]
    assert archive.artifacts["models/teacher"].digest in rows["teacher `models/teacher`"]
    assert archive.artifacts["models/phase1"].digest in rows["starts at `models/phase1`"]
    assert rows["teacher's samples"] == "2 a prompt, temperature 1, top-p 1, at most 12 tokens, seed 10"
    assert training.lock in rows["environment"] and training.code in rows["code"]


def test_numbers_are_those_of_selection_and_tables_with_their_spread(card):
    assert rows_of(card, "Choice of the checkpoint") == [["3", "5.25", "8.5"], ["**6**", "5", "9.125"]]
    card = re.sub(" +", " ", card)
    assert "| dolly | Rouge-L | temperature 1, top-p 1 | 12.3 ± 0.8 | 2 | 30 |" in card
    assert "| dolly | Rouge-L | greedy | 15.0 | 1 | 30 |" in card
    assert rows_of(card, "Results") == [
        ["sft", "reference overlap", "dolly", "top_p_1.0", "0.457", "0.400 to 0.500", "30"]
    ]
    assert "99.0" not in card and "carry no claim" in card


def test_every_file_of_the_model_is_listed_with_its_digest(results, card):
    for name, size, digest in rows_of(card, "Files"):
        path = results / "models/bd_sampled" / name.strip("`")
        assert (path.stat().st_size, digest_file(path)) == (int(size), digest.strip("`"))


def test_a_model_before_the_tables_and_one_from_outside_have_a_card_too(results, tmp_path):
    make_small_archive(tmp_path / "results", small_config())
    for name in ("tables.prov.json", "tables.md.prov.json", "generations/sft.prov.json", "training/sft.prov.json"):
        (tmp_path / "results" / name).unlink()
    archive = Archive(tmp_path / "results", ROOT)
    card = write_card(archive, archive.artifacts["models/sft"])
    assert "supplied from outside" in card and "no tables yet" in card
    assert ModelCard(card).data.eval_results is None


def test_an_export_has_a_card_for_each_student_and_none_for_the_teacher(tmp_path):
    make_small_archive(tmp_path / "results", small_config())
    result = audit("export", "--results", tmp_path / "results", "--output", tmp_path / "crate")
    assert result.returncode == 0, result.stderr
    cards = sorted(str(path.relative_to(tmp_path / "crate")) for path in (tmp_path / "crate" / "cards").rglob("*.md"))
    assert cards == [f"cards/{name}/README.md" for name in ("bd_sampled", "phase1", "sft")]
    graph = {entity["@id"]: entity for entity in read_json(tmp_path / "crate" / "ro-crate-metadata.json")["@graph"]}
    assert graph[cards[0]]["about"] == {"@id": "results/models/bd_sampled/"}


@pytest.mark.slow
def test_the_cards_of_the_embedded_study_have_every_number_of_its_tables():
    if not (ROOT / "results" / ROOT_MANIFEST).is_file():
        pytest.skip("needs the results of the embedded study: make tables")
    archive = Archive(ROOT / "results", ROOT)
    with open(ROOT / "results/tables/scores.csv", newline="") as file:
        table = list(csv.DictReader(file))
    for name in [name for name in archive.artifacts if name.startswith("models/") and name != "models/teacher"]:
        card = write_card(archive, archive.artifacts[name])
        rows = [row for row in table if f"models/{row['system']}" == name]
        assert [result.metric_value for result in ModelCard(card).data.eval_results] == [
            float(row["mean"]) for row in rows
        ]
        assert all(f"| {float(row['mean']):.1f}" in card for row in rows) and len(rows) == 9


def test_the_words_of_others_are_text_on_a_card(results, tmp_path):
    hostile = "<img src=x onerror=alert(1)> [a](javascript:alert(2))\n# b | c `d` *e*"
    folder = Path(shutil.copytree(results, tmp_path / "results"))
    wins = folder / "tables/win_rates.csv"
    write_rows(wins, [row | {"judge": f"'={hostile}"} for row in csv.DictReader(wins.read_text().splitlines())])
    record = folder / "tables.md.prov.json"
    statement = read_json(record)
    statement["predicate"]["buildDefinition"]["externalParameters"]["settings"]["title"] = hostile
    write_json(record, statement)
    found = Archive(folder, ROOT)
    card = re.sub(" +", " ", write_card(found, found.artifacts["models/bd_sampled"]))  # tables without their padding
    shown = as_text(hostile)
    assert f"A student of *{shown}*.\n" in card and f" ={shown} | dolly |" in card and f" | {shown} |" in card
    assert card.count("onerror") == card.count(shown) == 3
    assert not any(row[0].startswith("'") for row in rows_of(card, "Results"))
