"""The candidate-set file: what is written comes back, any smaller p is a prefix, and other samples are refused."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file

from distill.data.batches import pad_sequences
from distill.errors import DataError
from distill.files import read_json
from distill.losses.candidate_sets import CandidateSets, top_p_sets
from distill.models import RowLogits, load_model
from distill.records import read_samples
from distill.training.candidates import (
    FILE,
    build_candidate_sets,
    load_candidate_sets,
    save_candidate_sets,
    set_statistics,
)
from stage_process import make_inputs, make_samples
from tiny_models import EOS_ID, make_model

P_MAX = 0.95
GENERATOR = torch.Generator().manual_seed(5)
SEQUENCES = [
    (torch.randint(2, 300, (prompt,), generator=GENERATOR).tolist(), [*range(7, 7 + length), EOS_ID])
    for prompt, length in ((3, 4), (9, 0), (5, 7), (4, 1), (12, 2))
]
LENGTHS = [len(response) for _, response in SEQUENCES]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return RowLogits(load_model(make_model(tmp_path_factory.mktemp("teacher"), initializer_range=0.3, width=32)))


@pytest.fixture(scope="module")
def built(teacher):
    return build_candidate_sets(teacher, SEQUENCES, P_MAX, 2, "cpu")


def same(a: CandidateSets, b: CandidateSets) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("indptr", "ids", "probs")) and a.p == b.p


@pytest.mark.parametrize("p", [P_MAX, 0.8, 0.5, 0.1])
def test_a_smaller_p_from_the_file_is_the_set_computed_directly(teacher, built, tmp_path, p):
    save_candidate_sets(tmp_path, built[0], LENGTHS, {"samples": "abc"})
    loaded = load_candidate_sets(tmp_path, "abc", LENGTHS, p)
    assert [len(sets) for sets in loaded] == [length + 1 for length in LENGTHS]
    batch = pad_sequences(SEQUENCES, "cpu", with_final_state=True)
    with torch.no_grad():
        direct = top_p_sets(teacher(batch.input_ids, batch.attention_mask, batch.rows).softmax(-1), p)
    found = CandidateSets.cat(loaded)
    assert torch.equal(found.indptr, direct.indptr) and torch.equal(found.ids, direct.ids) and found.p == direct.p
    torch.testing.assert_close(found.probs, direct.probs, rtol=1e-5, atol=0)  # another batch width, other last digits
    assert same(found, build_candidate_sets(teacher, SEQUENCES, p, 2, "cpu")[0])


def test_a_p_above_the_files_is_refused(built, tmp_path):
    save_candidate_sets(tmp_path, built[0], LENGTHS, {"samples": "abc"})
    with pytest.raises(DataError, match=r"expected p <= 0.95, found 0.99; compute the sets again with a larger p_max"):
        load_candidate_sets(tmp_path, "abc", LENGTHS, 0.99)


@pytest.mark.parametrize(
    ("samples", "lengths"),
    [("abc", LENGTHS[:-1]), ("abc", LENGTHS[::-1]), ("abd", LENGTHS)],
    ids=["fewer", "other", "digest"],
)
def test_sets_of_other_samples_are_refused(built, tmp_path, samples, lengths):
    save_candidate_sets(tmp_path, built[0], LENGTHS, {"samples": "abc"})
    with pytest.raises(
        DataError, match=rf"{re.escape(str(tmp_path / FILE))}: expected sets for .* found those of others; delete"
    ):
        load_candidate_sets(tmp_path, samples, lengths, 0.5)


@pytest.mark.parametrize(("largest", "dtype"), [(65_535, np.uint16), (65_536, np.uint32), (151_935, np.uint32)])
def test_ids_take_two_bytes_where_they_fit(tmp_path, largest, dtype):
    sets = CandidateSets(torch.tensor([0, 2, 3]), torch.tensor([largest, 1, 2]), torch.tensor([0.5, 0.25, 0.75]), 0.7)
    save_candidate_sets(tmp_path, sets, [1], {"samples": "abc"})
    assert load_file(tmp_path / FILE)["ids"].dtype == dtype
    (loaded,) = load_candidate_sets(tmp_path, "abc", [1], 0.7)
    assert same(loaded, sets)
    with safe_open(tmp_path / FILE, "np") as file:
        assert file.metadata() == {"p_max": "0.7", "samples": "abc"}


def test_statistics_by_hand():
    # One sample of two actions, one of one action: five states, the third and the fifth act no more.
    sizes, ids = [2, 1, 3, 1, 2], [4, 5, 6, 1, 2, 3, 9, 7, 8]
    probs = [0.5, 0.375, 0.75, 0.25, 0.25, 0.25, 0.875, 0.5, 0.25]
    sets = CandidateSets(torch.tensor([0, *sizes]).cumsum(0), torch.tensor(ids), torch.tensor(probs), 0.7)
    found = set_statistics(sets, [([1], [5, 2]), ([1, 1], [9])], 0.7)
    assert found == {
        "p": 0.7,
        "states": 3,
        "median_size": 1.0,
        "mean_size": pytest.approx(4 / 3),
        "singletons": pytest.approx(2 / 3),
        "p_eff": pytest.approx((0.875 + 0.75 + 0.875) / 3),
        "out_of_set": pytest.approx(1 / 3),
    }
    assert set_statistics(sets, [([1], [5, 2]), ([1, 1], [9])], 0.5)["out_of_set"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_sorted_mass_counts_the_states_that_a_token_follows(teacher, batch):
    found = build_candidate_sets(teacher, SEQUENCES, P_MAX, batch, "cpu")[2]
    rows = []
    for prompt, response in SEQUENCES:
        input_ids = torch.tensor([[*prompt, *response]])
        states = torch.arange(len(prompt) - 1, input_ids.shape[1] - 1)
        with torch.no_grad():
            rows.append(teacher(input_ids, torch.ones_like(input_ids), states).softmax(-1))
    expected = torch.cat(rows).sort(descending=True).values.mean(0).cumsum(0)[:50]
    assert found == pytest.approx(expected.tolist(), rel=1e-5)
    assert len(found) == 50 and found == sorted(found) and found[-1] < 1


def test_the_stage_writes_statistics_that_fit_its_samples(tmp_path):
    inputs = make_inputs(tmp_path, initializer_range=0.3)
    folders = make_samples(tmp_path, inputs, inputs["start"], per_prompt=2)
    samples = read_samples(folders["samples"] / "samples.jsonl")
    statistics = read_json(folders["candidates"] / "statistics.json")
    assert [row["p"] for row in statistics["sets"]] == [0.5, 0.8, 0.9, 0.95]
    tokens = sum(len(sample.response_ids) for sample in samples)
    for row in statistics["sets"]:
        assert row["states"] == tokens
        assert row["p"] <= row["p_eff"] <= 1
        # Ancestral samples fall outside with the mass that is outside: four deviations of a mean of so many tokens.
        assert row["out_of_set"] == pytest.approx(1 - row["p_eff"], abs=4 * (0.25 / tokens) ** 0.5)
    assert len(statistics["sorted_mass"]) == 50
    sizes = [row["mean_size"] for row in statistics["sets"]]
    assert sizes == sorted(sizes) and 0 < statistics["teacher_entropy"] < np.log(400)
    record = json.loads((folders["candidates"].with_name("candidates.prov.json")).read_text())
    digests = {d["name"]: d["digest"]["sha256"] for d in record["predicate"]["buildDefinition"]["resolvedDependencies"]}
    with safe_open(folders["candidates"] / FILE, "np") as file:
        assert file.metadata() == {"p_max": "0.95"} | {name: digests[name] for name in ("teacher", "samples")}
