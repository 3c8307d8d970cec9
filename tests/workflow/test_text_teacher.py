"""A teacher that only speaks: a study of its texts from config to tables, without a teacher's model."""

import csv
import json

import pytest

from distill.records import read_examples
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
