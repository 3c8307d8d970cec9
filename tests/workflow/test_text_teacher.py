"""A teacher that only speaks: a study of its texts from config to tables, without a teacher's model."""

import csv
import json

import pytest

from distill.records import read_examples
from fake_openai import KEY, FakeOpenAI
from workplace import FEW_RUNS, check_out


@pytest.mark.slow
def test_a_study_of_texts_has_no_teacher_of_its_own(tmp_path):
    place = check_out(tmp_path / "spoken")
    runs = {key: value for key, value in FEW_RUNS.items() if key != "runs.seqkd"} | {"runs.bd_sampled": None}
    place.configure(runs | {"teacher": {"kind": "texts"}, "external.samples": "texts.jsonl"})
    place.configure({"sampling": {"engine": "transformers"}, "runs.seqkd.start": "phase1"})
    (place.folder / "texts.jsonl").touch()
    place.run("results/data/split/COMPLETE", "results/data/evaluation/dev/COMPLETE")
    parts = [place.results / name for name in ("data/split/train.jsonl", "data/evaluation/dev/examples.jsonl")]
    texts = [
        {"id": example.id, "response": example.references[0]} for part in parts for example in read_examples(part)[:20]
    ]
    (place.folder / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
    output = place.run()
    assert not any(rule in output for rule in ("rule sample_teacher", "rule build_candidates"))
    made = {path.parent.name for path in place.results.glob("*/*/COMPLETE")}
    assert "teacher" not in made and {"phase1", "sft", "seqkd"} <= made
    with open(place.results / "tables/scores.csv", newline="") as file:
        assert {row["system"] for row in csv.DictReader(file)} == {"phase1", "sft", "seqkd"}
    assert "Nothing to be done" in place.run()
    with FakeOpenAI(lambda prompt: [f"So: {prompt}"]) as server:
        asked = {"kind": "api", "base_url": server.base_url, "model": "m", "api_key_env": "THE_KEY"}
        elsewhere = asked | {"base_url": "http://teacher.invalid/v1"}
        place.configure({"teacher": elsewhere, "external.samples": None})
        target, log = "results/samples/COMPLETE", place.results / "logs/ask_teacher.log"
        none = place.snakemake(target)
        assert none.returncode and "teacher.api_key_env: expected an API key in the environment" in none.stdout
        assert not log.exists(), "it began without a key"
        place.configure({"teacher": asked})
        done = place.snakemake(target, THE_KEY=KEY, NO_PROXY="127.0.0.1")
        assert done.returncode == 0 and "rule ask_teacher" in done.stdout, done.stdout[-4000:]
        assert set(place.planned()) >= {"training/seqkd"} and "texts" not in place.planned()
    assert KEY not in "".join(path.read_text(errors="replace") for path in place.results.rglob("*") if path.is_file())
