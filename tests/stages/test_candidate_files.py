"""The candidate-set files: what is written comes back, any smaller p is a prefix, and other samples are refused."""

import json
import re
import tracemalloc
from copy import deepcopy
from functools import partial

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from distill.candidates import store as candidates
from distill.candidates.statistics import STATISTICS, add_statistics, summarise
from distill.candidates.store import (
    build_candidate_sets,
    count_sets,
    load_candidate_sets,
    read_metadata,
    read_statistics,
    save_candidate_sets,
    shard_range,
)
from distill.errors import DataError
from distill.files import read_json, read_manifest
from distill.losses.candidate_sets import CandidateSets, top_p_sets
from distill.losses.states import States
from distill.models.load import load_model
from distill.models.packed import PackedModel
from distill.models.packing import pack_sequences
from distill.records import read_samples
from stage_process import die_at, make_inputs, make_samples, run_stage_process, succeed
from tiny_models import EOS_ID, make_model

P_MAX = 0.95
REPORTED = (0.5, 0.8, P_MAX)
DIGESTS = {"teacher": "of the teacher", "samples": "of the samples"}
GENERATOR = torch.Generator().manual_seed(5)
SEQUENCES = [
    (torch.randint(2, 300, (prompt,), generator=GENERATOR).tolist(), [*range(7, 7 + length), EOS_ID])
    for prompt, length in ((3, 4), (9, 0), (5, 7), (4, 1), (12, 2), (2, 3), (1, 5))
]
LENGTHS = [len(response) for _, response in SEQUENCES]


class Lookup:
    """A teacher whose distribution depends on the last token alone: enough for files, whatever the vocabulary."""

    def __init__(self, vocabulary):
        generator = torch.Generator().manual_seed(8)
        self.vocabulary = vocabulary
        self.hidden, self.weight = (torch.randn(vocabulary, 8, generator=generator) for _ in range(2))

    def states(self, batch):
        return States(self.hidden[batch.input_ids[batch.rows]], self.weight, self.vocabulary)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return PackedModel(load_model(make_model(tmp_path_factory.mktemp("teacher"), initializer_range=0.3, width=32)))


def build(teacher, folder, sequences=SEQUENCES, p_max=P_MAX, batch=2):
    """Builds one shard into a new folder; returns its files."""
    folder.mkdir(parents=True, exist_ok=True)
    reported = [p for p in REPORTED if p <= p_max]
    return build_candidate_sets(
        teacher, sequences, folder, p_max=p_max, reported=reported, batch=batch, device="cpu", metadata=DIGESTS
    )


def load(*folders, lengths=LENGTHS, p=P_MAX):
    return load_candidate_sets(folders, DIGESTS["samples"], lengths, p)


def same(a, b) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("indptr", "ids", "probs")) and a.p == b.p


def contents(paths):
    return {path.name: path.read_bytes() for path in paths}


@pytest.mark.parametrize("p", [P_MAX, 0.8, 0.5, 0.1])
def test_a_smaller_p_from_the_files_is_the_set_computed_directly(teacher, tmp_path, p):
    build(teacher, tmp_path / "all")
    build(teacher, tmp_path / "direct", p_max=p)
    loaded, direct = load(tmp_path / "all", p=p), load(tmp_path / "direct", p=p)
    assert [len(sets) for sets in loaded] == [length + 1 for length in LENGTHS]
    assert all(map(same, loaded, direct))
    with torch.no_grad():
        states = teacher.states(pack_sequences(SEQUENCES, "cpu", with_final_state=True))
    expected, found = top_p_sets(states.logits().softmax(-1), p), CandidateSets.cat(list(loaded))
    assert torch.equal(found.indptr, expected.indptr) and torch.equal(found.ids, expected.ids)
    torch.testing.assert_close(found.probs, expected.probs, rtol=1e-5, atol=0)  # another batch, other last digits


def test_sets_of_a_half_precision_teacher_are_those_of_float32_logits(teacher, tmp_path):
    own = deepcopy(teacher).bfloat16()
    build(own, tmp_path, batch=len(SEQUENCES))
    states, found = own.states(pack_sequences(SEQUENCES, "cpu", with_final_state=True)), load(tmp_path)
    expected = top_p_sets((states.hidden.float() @ states.weight.float().T).softmax(-1), P_MAX)
    assert states.hidden.dtype == torch.bfloat16
    assert torch.equal(CandidateSets.cat(list(found)).ids, expected.ids)


def test_samples_are_read_one_by_one_or_several_at_once(teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(candidates, "PART_SAMPLES", 3)
    assert len(build(teacher, tmp_path, batch=1)) == 3
    stored, order = load(tmp_path, p=0.8), [6, 0, 2, 3, 0]
    assert same(stored.take(order), CandidateSets.cat([stored[index] for index in order]))
    assert len(stored) == len(SEQUENCES) and same(stored[-1], stored[6])
    with pytest.raises(IndexError):
        stored[7]


@pytest.mark.parametrize("shards", [1, 2, 3, 5])
def test_shards_together_are_the_whole(teacher, tmp_path, monkeypatch, shards):
    """To the last bit; with more shards than micro-batches (four of them) one shard has no sample."""
    monkeypatch.setattr(candidates, "PART_SAMPLES", 4)
    whole = build(teacher, tmp_path / "whole")
    parts, folders = [], []
    for shard in range(shards):
        mine = shard_range(len(SEQUENCES), 2, shard, shards)
        folders.append(tmp_path / str(shard))
        parts += build(teacher, folders[-1], SEQUENCES[mine.start : mine.stop])
    assert all(map(same, load(*folders, p=0.8), load(tmp_path / "whole", p=0.8)))
    found, expected = (summarise(map(read_statistics, paths)) for paths in (parts, whole))
    # `indptr` has an entry more than states in every file.
    bytes_more = 8 * (len(parts) - len(whole)) / sum(LENGTHS)
    assert found.pop("bytes_per_token") == pytest.approx(expected.pop("bytes_per_token") + bytes_more)
    for row, other in zip(found.pop("sets"), expected.pop("sets"), strict=True):
        assert row == pytest.approx(other)
    assert found.pop("sorted_mass") == pytest.approx(expected.pop("sorted_mass"))
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(("samples", "batch", "shards"), [(100, 8, 3), (7, 2, 5), (64, 64, 2), (8, 8, 1)])
def test_shards_are_whole_micro_batches_and_leave_no_sample_out(samples, batch, shards):
    ranges = [shard_range(samples, batch, shard, shards) for shard in range(shards)]
    assert [index for mine in ranges for index in mine] == list(range(samples))
    assert all(mine.start % batch == 0 for mine in ranges if mine)


class Killed(Exception):
    pass


def test_a_resumed_build_goes_on_after_the_last_file_and_equals_a_straight_one(tmp_path, monkeypatch):
    monkeypatch.setattr(candidates, "PART_SAMPLES", 2)
    teacher, seen = Lookup(300), []

    class Dying(Lookup):
        def states(self, batch):
            seen.append(batch.response_lengths)
            if len(seen) == 3:
                raise Killed
            return super().states(batch)

    straight = build(teacher, tmp_path / "straight")
    with pytest.raises(Killed):
        build(Dying(300), tmp_path / "resumed")
    resumed = build(Dying(300), tmp_path / "resumed")
    assert contents(resumed) == contents(straight) and len(resumed) == 4
    assert [lengths for kept in (seen[:2], seen[3:]) for lengths in kept] == [
        tuple(LENGTHS[start : start + 2]) for start in range(0, 7, 2)
    ]


def peak_memory(work) -> int:
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_number_of_samples(tmp_path, monkeypatch):
    """Arrays of a part and the samples of a part are held, whatever their number; a reader holds what it asked for."""
    monkeypatch.setattr(candidates, "PART_SAMPLES", 8)
    teacher = Lookup(2000)

    def drawn(samples):
        for index in range(samples):
            yield [index % 7], [(13 * index + step) % 2000 for step in range(30)]

    build(teacher, tmp_path / "first", drawn(8), batch=4)  # what is loaded at the first call is no part of the peak
    few = peak_memory(lambda: build(teacher, tmp_path / "few", drawn(16), batch=4))
    many = peak_memory(lambda: build(teacher, tmp_path / "many", drawn(160), batch=4))
    assert many < 1.2 * few
    stored = sum(path.stat().st_size for path in (tmp_path / "many").iterdir())
    assert stored > 5_000_000
    read = peak_memory(lambda: load(tmp_path / "many", lengths=[30] * 160, p=0.5).take([3, 150]))
    assert read < stored / 10


def test_a_p_above_the_files_is_refused(teacher, tmp_path):
    build(teacher, tmp_path)
    with pytest.raises(DataError, match=r"expected p <= 0.95, found 0.99; compute the sets again with a larger p_max"):
        load(tmp_path, p=0.99)


@pytest.mark.parametrize(
    ("samples", "lengths"),
    [("of the samples", LENGTHS[:-1]), ("of the samples", LENGTHS[::-1]), ("of others", LENGTHS)],
    ids=["fewer", "other", "digest"],
)
def test_sets_of_other_samples_are_refused(teacher, tmp_path, samples, lengths):
    build(teacher, tmp_path)
    with pytest.raises(
        DataError,
        match=rf"^{re.escape(str(tmp_path))}.*: expected sets for .*, found those of others; delete the folder",
    ):
        load_candidate_sets([tmp_path], samples, lengths, 0.5)


def test_a_shard_that_is_missing_is_refused(teacher, tmp_path):
    build(teacher, tmp_path)
    with pytest.raises(DataError, match="found those of others"):
        load(lengths=LENGTHS)
    with pytest.raises(DataError, match="found those of others"):
        load(tmp_path, lengths=LENGTHS * 2)


@pytest.mark.parametrize("harm", ["cut", "foreign", "no safetensors"])
def test_a_broken_or_foreign_file_is_one_line(teacher, tmp_path, harm):
    (path,) = build(teacher, tmp_path)
    if harm == "foreign":
        save_file({"weight": np.zeros(3)}, path)
    else:
        path.write_bytes(path.read_bytes()[:-10] if harm == "cut" else b"{}")
    with pytest.raises(DataError) as error:
        load(tmp_path)
    assert str(error.value).startswith(f"{path}: expected ") and "\n" not in str(error.value)
    assert str(error.value).endswith("delete the folder and rerun build_candidates")


def _tensors(**changes):
    """Returns the right tensors of two samples of one token and of none, with changes."""
    right = {"indptr": np.arange(4), "ids": np.zeros(3, np.uint16), "probs": np.ones(3, np.float32)}
    return right | {"lengths": np.array([1, 0])} | changes


@pytest.mark.parametrize(
    ("tensors", "words", "found"),
    [
        (_tensors(), "z", "those of others"),
        (_tensors(), "null", "those of others"),
        (_tensors(), {"p_max": "0.9"}, "p_max in (0, 1], found '0.9'"),
        (_tensors(indptr=np.array([0, 2, 1, 3])), {}, "in order, found others"),
        (_tensors(indptr=np.array([0, 1, 2, 9])), {}, "in order, found others"),
        (_tensors(indptr=np.array([-1, 1, 2, 3])), {}, "in order, found others"),
        (_tensors(indptr=np.arange(3)), {}, "found shapes"),
        (_tensors(probs=np.ones(2, np.float32)), {}, "found shapes"),
        (_tensors(ids=np.zeros(3, np.float32)), {}, "found shapes"),
        (_tensors(lengths=np.array([2, -1])), {}, "found shapes"),
        ({name: tensor for name, tensor in _tensors().items() if name != "ids"}, {}, "found no ids"),
    ],
)
def test_tensors_that_do_not_fit_are_one_line(tmp_path, tensors, words, found):
    if isinstance(words, dict):
        words = json.dumps({"p_max": P_MAX, **DIGESTS} | words)
    save_file(tensors, tmp_path / "000000.safetensors", {"candidate_sets": words})
    with pytest.raises(DataError, match=re.escape(found)) as error:
        load(tmp_path, lengths=[1, 0]).take([0, 1])
    assert str(error.value).startswith(f"{tmp_path / '000000.safetensors'}: expected ")


@pytest.mark.parametrize(
    ("vocabulary", "dtype"), [(2**16, np.uint16), (2**16 + 1, np.uint32), (151_936, np.uint32), (2**24 + 9, np.uint32)]
)
def test_ids_take_two_bytes_where_the_vocabulary_fits(tmp_path, vocabulary, dtype):
    ids = torch.tensor([vocabulary - 1, 1, 2])
    sets = CandidateSets(torch.tensor([0, 2, 3]), ids, torch.tensor([0.5, 0.25, 0.75]), 0.7)
    path = tmp_path / "000000.safetensors"
    save_candidate_sets(path, sets, [1], vocabulary, [], DIGESTS)
    assert load_file(path)["ids"].dtype == dtype
    assert same(load(tmp_path, lengths=[1], p=0.7)[0], sets)
    size = 3 * 8 + 3 * np.dtype(dtype).itemsize + 3 * 4 + 8
    assert read_metadata(safe_open(path, "np")) == {"p_max": 0.7, "statistics": {"bytes": size}, **DIGESTS}


def test_wide_ids_of_a_teacher_come_back(tmp_path):
    teacher = Lookup(70_000)
    build(teacher, tmp_path)
    probs = teacher.states(pack_sequences(SEQUENCES, "cpu", with_final_state=True)).logits().softmax(-1)
    found = CandidateSets.cat(list(load(tmp_path, p=0.5)))
    assert found.ids.max() > 2**16 and torch.equal(found.ids, top_p_sets(probs, 0.5).ids)


# Two samples of two and of one action: five states, the third and the fifth act no more.
ACTING, ACTIONS = torch.tensor([1, 1, 0, 1, 0]).bool(), torch.tensor([5, 2, 9])
SETS = CandidateSets(
    torch.tensor([0, 2, 1, 3, 1, 2]).cumsum(0),
    torch.tensor([4, 5, 6, 1, 2, 3, 9, 7, 8]),
    torch.tensor([0.5, 0.375, 0.75, 0.25, 0.25, 0.25, 0.875, 0.5, 0.25]),
    0.7,
)


def test_counts_by_hand():
    assert count_sets(SETS, ACTING, ACTIONS) == {"sizes": {"1": 2, "2": 1}, "mass": 0.875 + 0.75 + 0.875, "inside": 2}
    assert count_sets(SETS.prefix(0.5), ACTING, ACTIONS) == {"sizes": {"1": 3}, "mass": 2.125, "inside": 1}


def test_statistics_by_hand():
    counts = {"states": 5, "tokens": 3, "bytes": 60, "entropy": 4.0, "sorted_mass": [2.125, 0.375]}
    counts["sets"] = {"0.7": count_sets(SETS, ACTING, ACTIONS)}
    row = {"p": 0.7, "states": 3, "median_size": 1.0, "mean_size": 4 / 3, "singletons": 2 / 3, "p_eff": 2.5 / 3}
    found = summarise([counts])
    assert found["sets"] == [pytest.approx(row | {"out_of_set": 1 / 3})]
    assert found["sorted_mass"] == pytest.approx([2.125 / 3, 2.5 / 3])
    assert (found["teacher_entropy"], found["bytes_per_token"]) == (0.8, 20)
    # A second shard whose sets are larger, and one without samples.
    other = counts | {"sets": {"0.7": {"sizes": {"2": 1, "4": 2}, "mass": 2.5, "inside": 3}}}
    (both,) = summarise([counts, add_statistics([]), other])["sets"]
    row |= {"states": 6, "median_size": 2.0, "mean_size": (2 + 2 + 2 + 8) / 6, "singletons": 2 / 6}
    assert both == pytest.approx(row | {"out_of_set": 1 / 6})


@pytest.mark.parametrize("sizes", [[3], [1, 2], [2, 2, 5], [1, 1, 4, 9], [7, 1, 3, 3, 8, 2]])
def test_the_median_is_the_lower_middle_size(sizes):
    counts = {"sizes": {}, "mass": 1.0, "inside": 1}
    for size in sizes:
        counts["sizes"][str(size)] = counts["sizes"].get(str(size), 0) + 1
    whole = {"states": 9, "tokens": len(sizes), "bytes": 1, "entropy": 1.0, "sorted_mass": [], "sets": {"0.7": counts}}
    assert summarise([whole])["sets"][0]["median_size"] == torch.tensor(sizes).median()


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_sorted_mass_and_entropy_are_those_of_the_states(teacher, tmp_path, batch):
    found = summarise(map(read_statistics, build(teacher, tmp_path, batch=batch)))
    probs = []
    for sequence in SEQUENCES:
        with torch.no_grad():
            states = teacher.states(pack_sequences([sequence], "cpu", with_final_state=True))
        probs.append(states.logits().softmax(-1))
    expected = torch.cat([own[:-1] for own in probs]).sort(descending=True).values.mean(0).cumsum(0)[:50]
    assert found["sorted_mass"] == pytest.approx(expected.tolist(), rel=1e-5)
    assert len(found["sorted_mass"]) == 50 and found["sorted_mass"][-1] < 1
    entropy = torch.special.entr(torch.cat(probs)).sum(-1).mean().item()
    assert found["teacher_entropy"] == pytest.approx(entropy, rel=1e-5)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Samples of a small teacher with their sets, by the stages themselves; two files."""
    root = tmp_path_factory.mktemp("made")
    inputs = make_inputs(root, initializer_range=0.3)
    return inputs, make_samples(root, inputs, inputs["start"], per_prompt=1)


def test_the_stage_writes_statistics_that_fit_its_samples(made):
    _, folders = made
    samples = read_samples(folders["samples"] / "samples.jsonl")
    statistics = summarise([read_json(folders["candidates"] / STATISTICS)])
    assert [row["p"] for row in statistics["sets"]] == [0.5, 0.8, 0.9, 0.95]
    tokens = sum(len(sample.response_ids) for sample in samples)
    for row in statistics["sets"]:
        assert row["states"] == tokens
        assert row["p"] <= row["p_eff"] <= 1
        # Ancestral samples fall outside with the mass that is outside: four deviations of a mean of so many tokens.
        assert row["out_of_set"] == pytest.approx(1 - row["p_eff"], abs=4 * (0.25 / tokens) ** 0.5)
    sizes = [row["mean_size"] for row in statistics["sets"]]
    assert sizes == sorted(sizes) and 0 < statistics["teacher_entropy"] < np.log(400)
    record = json.loads((folders["candidates"].with_name("candidates.prov.json")).read_text())
    digests = {d["name"]: d["digest"]["sha256"] for d in record["predicate"]["buildDefinition"]["resolvedDependencies"]}
    for path in folders["candidates"].glob("*.safetensors"):
        metadata = read_metadata(safe_open(path, "np"))
        assert metadata.pop("statistics") and metadata == {"p_max": 0.95} | {name: digests[name] for name in DIGESTS}


def test_a_killed_stage_keeps_its_files_and_gives_the_same_folder(made, tmp_path):
    inputs, folders = made
    given = {"teacher": inputs["start"], "samples": folders["samples"], "vocabulary": inputs["vocabulary"]}
    settings = {"shard": 0, "shards": 1, "p_max": 0.95, "batch": 64, "deepspeed": {}}
    output = tmp_path / "candidates"
    # A file holds four micro-batches.
    die = partial(die_at, "distill.candidates.store", "pack_sequences", 6)
    assert run_stage_process("build_candidates", output, settings, die, **given).code == -9
    (kept,) = (tmp_path / ".state").glob("*/*.safetensors")
    before = kept.stat().st_mtime_ns
    succeed("build_candidates", output, settings, **given)
    assert read_manifest(output) == read_manifest(folders["candidates"]) and len(read_manifest(output)) == 3
    assert (output / kept.name).stat().st_mtime_ns == before
    assert not list((tmp_path / ".state").glob("*/*.safetensors"))
