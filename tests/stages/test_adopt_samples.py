"""The command line that adopts the authors' records as the study's teacher samples."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

from distill.files import read_json, seal_folder, write_json, write_jsonl
from distill.records import Example, Sample, read_samples

SCRIPT = Path(__file__).parents[2] / "workflow" / "scripts" / "adopt_samples.py"
WORDS = ("<|endoftext|>", "Q:", "A:", "river", "hill", "yes", "no")
EOS, QUESTION, ANSWER, RIVER, HILL, YES, NO = range(len(WORDS))


def test_records_become_samples_and_their_counts_are_recorded(tmp_path, monkeypatch):
    tokenizer = Tokenizer(models.WordLevel({word: id for id, word in enumerate(WORDS)}, unk_token="no"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    (tmp_path / "tokenizer").mkdir()
    tokenizer.save(str(tmp_path / "tokenizer" / "tokenizer.json"))
    write_json(tmp_path / "tokenizer" / "tokenizer_config.json", {"eos_token": WORDS[EOS]})
    train, dev = (Example.of(word, "", "yes", "") for word in ("river", "hill"))
    write_jsonl(tmp_path / "split" / "train.jsonl", [train.to_dict()])
    write_jsonl(tmp_path / "dev" / "examples.jsonl", [dev.to_dict()])
    for name in ("tokenizer", "split", "dev"):
        seal_folder(tmp_path / name)

    records = [
        [EOS, QUESTION, RIVER, ANSWER, 65535, YES, EOS],
        [EOS, QUESTION, HILL, ANSWER, 65535, NO, YES],
        [EOS, QUESTION, YES, ANSWER, 65535, NO, EOS],
    ]
    np.array(records, "<u2").tofile(tmp_path / "train_0.bin")
    settings = {"wrapper": "short", "prompt_tokens": 4, "response_tokens": 2, "held_out_prompts": 1}
    flags = {name: tmp_path / name / "COMPLETE" for name in ("split", "dev", "tokenizer")}
    flags |= {"samples": tmp_path / "train_0.bin", "output": tmp_path / "adopted" / "COMPLETE"}
    arguments = [text for name, path in flags.items() for text in (f"--{name}", str(path))]
    monkeypatch.setattr(
        sys, "argv", [str(SCRIPT), *arguments, "--settings", json.dumps(settings), "--state", str(tmp_path / ".state")]
    )
    runpy.run_path(str(SCRIPT), run_name="__main__")

    assert read_samples(tmp_path / "adopted" / "samples.jsonl") == [
        Sample(train.id, 0, [QUESTION, RIVER, ANSWER], [YES, EOS], finished=True),
        Sample(dev.id, 0, [QUESTION, HILL, ANSWER], [NO, YES], finished=False, held_out=True),
    ]
    notes = read_json(tmp_path / "adopted.prov.json")["predicate"]["runDetails"]["notes"]
    assert notes["records"] == 3 and notes["unmatched_records"] == 1 and notes["samples"] == 2
