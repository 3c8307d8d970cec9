"""The command line that gathers shards: the same bytes whatever the shards, and little memory for many rows."""

import runpy
import sys
import tracemalloc
from pathlib import Path

import pytest

from distill.files import read_json, seal_folder, write_jsonl
from distill.records import Sample, read_samples

SCRIPT = Path(__file__).parents[2] / "workflow" / "scripts" / "gather_samples.py"
PROMPTS = {f"{place:02d}": [1000 + place, 7] for place in (5, 2, 9, 4, 0, 7)}
SAMPLES = [
    Sample(id, number, prompt, [2000 + number, 3], finished=number == 0, held_out=id == "05")
    for id, prompt in PROMPTS.items()
    for number in range(3)
]


def gather(folder, shards, monkeypatch):
    """Returns the gathered file of samples that lie in so many shards, and the notes of the record."""
    ids = [*PROMPTS]
    for shard in range(shards):
        mine = set(ids[shard::shards])
        write_jsonl(folder / f"shards/{shard}/samples.jsonl", (one.to_dict() for one in SAMPLES if one.id in mine))
        seal_folder(folder / f"shards/{shard}")
    flags = ["--shards", *(str(folder / f"shards/{shard}/COMPLETE") for shard in range(shards))]
    flags += ["--output", str(folder / "samples/COMPLETE"), "--settings", "{}", "--state", str(folder / ".state")]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *flags])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    notes = read_json(folder / "samples.prov.json")["predicate"]["runDetails"]["notes"]
    return folder / "samples/samples.jsonl", notes


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_samples_are_ordered_by_prompt_whatever_the_shards(tmp_path, monkeypatch, shards):
    path, notes = gather(tmp_path, shards, monkeypatch)
    assert read_samples(path) == sorted(SAMPLES, key=lambda one: (one.held_out, one.id, one.sample))
    assert read_samples(path)[-1].id == "05", "what is held out comes last"
    assert (notes["samples"], notes["finished"]) == (18, 6)


def test_samples_in_memory_share_their_prompts_and_token_ids(tmp_path):
    rows = [Sample(str(row // 8), row % 8, [*range(1000, 1100)], [*range(1000, 1100)], True) for row in range(800)]
    write_jsonl(tmp_path / "samples.jsonl", (row.to_dict() for row in rows))
    tracemalloc.start()
    found = read_samples(tmp_path / "samples.jsonl")
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == rows
    assert held < 800 * (100 * 8 * 1.25 + 700), "a row's response, an eighth of its prompt, its objects"
