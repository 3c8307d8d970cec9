"""The command line that adopts the authors' records, or texts, as the study's teacher samples."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from distill.files import read_json, seal_folder, write_json, write_jsonl
from distill.records import Example, Sample, read_samples

SCRIPT = Path(__file__).parents[2] / "workflow" / "scripts" / "adopt_samples.py"
WORDS = ("<|endoftext|>", "Q:", "A:", "river", "hill", "yes", "no")
EOS, QUESTION, ANSWER, RIVER, HILL, YES, NO = range(len(WORDS))
TRAIN, DEV = (Example.of(word, "", "yes", "") for word in ("river", "hill"))


@pytest.fixture
def adopt(tmp_path, monkeypatch):
    """Adopts a file as the samples of a study with one train prompt and one of dev; returns the samples and notes."""
    tokenizer = Tokenizer(models.WordLevel({word: id for id, word in enumerate(WORDS)}, unk_token="no"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    (tmp_path / "tokenizer").mkdir()
    tokenizer.save(str(tmp_path / "tokenizer" / "tokenizer.json"))
    write_json(tmp_path / "tokenizer" / "tokenizer_config.json", {"eos_token": WORDS[EOS]})
    write_jsonl(tmp_path / "split" / "train.jsonl", [TRAIN.to_dict()])
    write_jsonl(tmp_path / "dev" / "examples.jsonl", [DEV.to_dict()])
    for name in ("tokenizer", "split", "dev"):
        seal_folder(tmp_path / name)

    def run(samples: Path) -> tuple[list[Sample], dict]:
        settings = {"wrapper": "short", "prompt_tokens": 4, "response_tokens": 2, "held_out_prompts": 1}
        flags = {name: tmp_path / name / "COMPLETE" for name in ("split", "dev", "tokenizer")}
        flags |= {"samples": samples, "output": tmp_path / "adopted" / "COMPLETE", "state": tmp_path / ".state"}
        arguments = [text for name, path in flags.items() for text in (f"--{name}", str(path))]
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments, "--settings", json.dumps(settings)])
        runpy.run_path(str(SCRIPT), run_name="__main__")
        notes = read_json(tmp_path / "adopted.prov.json")["predicate"]["runDetails"]["notes"]
        return read_samples(tmp_path / "adopted" / "samples.jsonl"), notes

    return run


def test_records_become_samples_and_their_counts_are_recorded(adopt, tmp_path):
    records = [
        [EOS, QUESTION, RIVER, ANSWER, 65535, YES, EOS],
        [EOS, QUESTION, HILL, ANSWER, 65535, NO, YES],
        [EOS, QUESTION, YES, ANSWER, 65535, NO, EOS],
    ]
    np.array(records, "<u2").tofile(tmp_path / "train_0.bin")
    samples, notes = adopt(tmp_path / "train_0.bin")
    assert samples == [
        Sample(TRAIN.id, 0, [QUESTION, RIVER, ANSWER], [YES, EOS], finished=True),
        Sample(DEV.id, 0, [QUESTION, HILL, ANSWER], [NO, YES], finished=False, held_out=True),
    ]
    assert notes["records"] == 3 and notes["unmatched_records"] == 1 and notes["samples"] == 2


def test_texts_become_samples_of_the_studys_tokens_and_length(adopt, tmp_path):
    rows = [{"id": DEV.id, "response": "no yes"}, {"id": TRAIN.id, "response": "yes"}]
    write_jsonl(tmp_path / "texts.jsonl", rows)
    samples, notes = adopt(tmp_path / "texts.jsonl")
    assert samples == [
        Sample(TRAIN.id, 0, [QUESTION, RIVER, ANSWER], [YES, EOS], finished=True),
        Sample(DEV.id, 0, [QUESTION, HILL, ANSWER], [NO, YES], finished=False, held_out=True),
    ]
    assert (notes["samples"], notes["prompts"], notes["finished"], notes["external"]) == (2, 2, 1, True)
