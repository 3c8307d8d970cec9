"""A stage that was killed goes on where it stopped, and ends with what an uninterrupted one gives."""

import shutil
from functools import partial

import pytest

from curves import logged_in, shown_in
from distill.files import read_json, seal_folder, write_json
from stage_process import (
    SAMPLING,
    count_calls,
    die_at,
    make_inputs,
    make_samples,
    rows_of,
    run_stage_process,
    sample_settings,
    succeed,
)
from tiny_models import make_model

CLOCK = {"tokens_per_second", "seconds"}
ENGINE = "distill.sampling.transformers_engine"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """GPT-2, since it has dropout, whose masks must come back too."""
    root = tmp_path_factory.mktemp("inputs")
    inputs = make_inputs(root, "gpt2")
    return inputs | make_samples(root, inputs, inputs["start"], per_prompt=1)


def train(inputs, output, prepare=None, **deepspeed):
    training = {"steps": 6, "batch": 8, "micro_batch": 4, "learning_rate": 1e-3, "evaluate_every": 2}
    settings = {
        "name": "bd",
        "run": {"method": "bd", "dropout": True, "training": training},
        "updates_of": None,
        "wrapper": "short",
    }
    settings |= {"plain_text_tokens": 16, "deepspeed": deepspeed, "seed": 10}
    return run_stage_process("train_run", output, settings, prepare, **inputs)


def contents(folder):
    """Returns the bytes of a folder's files; of the metrics only what no clock makes."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    found["metrics.jsonl"] = [
        {key: value for key, value in row.items() if key not in CLOCK} for row in rows_of(folder / "metrics.jsonl")
    ]
    del found["COMPLETE"]
    return found


def details(output):
    return read_json(output.with_name(f"{output.name}.prov.json"))["predicate"]["runDetails"]


@pytest.fixture(scope="module")
def uninterrupted(inputs, tmp_path_factory):
    output = tmp_path_factory.mktemp("uninterrupted") / "training"
    assert train(inputs, output).code == 0
    assert details(output)["notes"]["resumes"] == 0
    return contents(output)


@pytest.mark.parametrize(
    ("module", "function", "call", "resumes"),
    [
        ("distill.training.loop", "_update", 2, 0),  # nothing saved yet
        ("distill.training.loop", "_update", 4, 1),  # an update behind the saved state is logged
        ("distill.methods.run_method", "save_model", 2, 1),  # evaluated, checkpoint not written
        ("distill.training.saved_state", "seal_folder", 5, 1),  # last checkpoint written, not sealed
        ("distill.training.saved_state", "seal_folder", 6, 1),  # last checkpoint sealed, its state not
        ("distill.training.saved_state", "replace_folder", 6, 1),  # last state sealed, not in its place
        ("distill.training.saved_state", "write_json", 6, 1),  # last state in its place
        ("distill.provenance.stage", "seal_folder", 1, 1),  # trained to the end, not yet published
    ],
)
def test_a_killed_training_run_ends_as_if_never_killed(
    inputs, uninterrupted, tmp_path, module, function, call, resumes
):
    output = tmp_path / "training"
    assert train(inputs, output, partial(die_at, module, function, call)).code == -9
    assert not output.exists()
    again = train(inputs, output)
    assert again.code == 0, again.text
    assert contents(output) == uninterrupted
    assert (details(output)["notes"]["resumes"], details(output)["tries"]) == (resumes, 2)
    assert {path.name for path in (tmp_path / ".state").glob("train_run-*/*")} == {"tries"}
    names = "training", "training.prov.json", "training.log"
    assert {path.name for path in tmp_path.iterdir()} == {".state", "curves", *names}
    assert shown_in(tmp_path / "curves" / "bd") == logged_in(output)


def test_sampling_goes_on_behind_the_last_whole_block(inputs, tmp_path):
    folders = {"teacher": inputs["start"]} | {name: inputs[name] for name in ("split", "dev", "tokenizer")}
    settings = sample_settings(per_prompt=2, prompts=120)  # 200 prompts in blocks of 128, 128 sequences a batch
    whole = succeed(
        "sample_teacher",
        tmp_path / "whole" / "samples",
        settings,
        partial(count_calls, ENGINE, "sample_sequences", tmp_path / "whole-calls"),
        **folders,
    )
    assert (tmp_path / "whole-calls").read_text() == "4"
    killed = tmp_path / "killed" / "samples"
    die = partial(die_at, ENGINE, "sample_sequences", 4)  # in the middle of the second block
    assert run_stage_process("sample_teacher", killed, settings, die, **folders).code == -9
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / "killed" / ".state").rglob("*.jsonl")}
    assert len(first) == 1
    count = partial(count_calls, ENGINE, "sample_sequences", tmp_path / "calls")
    succeed("sample_teacher", killed, settings, count, **folders)
    assert (tmp_path / "calls").read_text() == "2"
    assert all(path.stat().st_mtime_ns == time for path, time in first.items())
    assert (killed / "samples.jsonl").read_bytes() == (whole / "samples.jsonl").read_bytes()


def test_a_new_seed_generates_its_own_answers_alone(inputs, tmp_path):
    output, state = tmp_path / "generations", tmp_path / ".state"
    shutil.copytree(inputs["dev"], tmp_path / "other")
    folders = {
        "model": inputs["start"],
        "datasets": [inputs["dev"], tmp_path / "other"],
        "tokenizer": inputs["tokenizer"],
    }
    decodings = {"sampled": {}, "greedy": {"temperature": 0}}

    def generate(seeds, prepare=None):
        settings = {
            "decodings": decodings,
            "primary": "sampled",
            "seeds": seeds,
            "max_new_tokens": {"dev": 6, "other": 6},
        }
        settings |= {"wrapper": "short", "sampling": SAMPLING}
        rows = rows_of(succeed("generate_responses", output, settings, prepare, **folders) / "generations.jsonl")
        return rows, {path: path.stat().st_mtime_ns for path in state.glob("generate_responses-*/*.json*")}

    two, blocks = generate([10, 20])
    # Two datasets have the same requests here, so they share a block; greedy runs once; entropy is one file.
    assert len(blocks) == 3 + 1
    three, more = generate([10, 20, 30])
    assert len(more) == len(blocks) + 1 and blocks.items() <= more.items()
    assert [row for row in three if row["seed"] != 30] == two
    assert {(row["dataset"], row["seed"]) for row in three if row["decoding"] == "greedy"} == {
        ("dev", 10),
        ("other", 10),
    }

    before = (output / "generations.jsonl").read_bytes(), (output / "entropy.json").read_bytes()
    shutil.rmtree(output)
    assert generate([10, 20, 30], partial(die_at, "distill.sampling.resumable", "open_engine", 1))[1] == more
    assert ((output / "generations.jsonl").read_bytes(), (output / "entropy.json").read_bytes()) == before
    dead = partial(die_at, "distill.sampling.resumable", "open_engine", 1)
    with pytest.raises(AssertionError):
        generate([10, 20, 40], dead)  # the guard above does see an engine that starts


def test_another_seed_of_the_study_does_not_take_up_the_state(inputs, tmp_path):
    folders = {"teacher": inputs["start"]} | {name: inputs[name] for name in ("split", "dev", "tokenizer")}
    prompts = {"prompts": 10, "held_out_prompts": 1, "per_prompt": 2}
    ten = succeed("sample_teacher", tmp_path / "samples", sample_settings(**prompts), **folders)
    first = (ten / "samples.jsonl").read_bytes()
    eleven = succeed("sample_teacher", tmp_path / "samples", sample_settings(**prompts, seed=11), **folders)
    assert (eleven / "samples.jsonl").read_bytes() != first


def test_each_model_is_measured_once_also_across_a_kill(inputs, tmp_path):
    """A run that kept its start has its model, and a name and a selection of its own."""
    kept, larger = tmp_path / "kept", make_model(tmp_path / "larger", "gpt2", vocabulary=400, positions=64)
    shutil.copytree(inputs["start"], kept)
    write_json(kept / "selection.json", {"update": 0})
    for folder in (kept, larger):
        seal_folder(folder)
    folders = {"models": [inputs["start"], kept, larger], "dataset": inputs["dev"], "tokenizer": inputs["tokenizer"]}
    settings = {"prompts": 3, "decoding": {}, "seed": 10, "max_new_tokens": 4, "wrapper": "short", "sampling": SAMPLING}
    module, output = "distill.sampling.measuring", tmp_path / "efficiency"
    die = partial(die_at, module, "measure_apart", 2)
    assert run_stage_process("measure_efficiency", output, settings, die, **folders).code == -9
    (first,) = (tmp_path / ".state").glob("measure_efficiency-*/*.json")
    figures = read_json(first)
    succeed(
        "measure_efficiency", output, settings, partial(count_calls, module, "measure_apart", tmp_path / "n"), **folders
    )
    assert (tmp_path / "n").read_text() == "1"
    rows = rows_of(output / "measured.jsonl")
    assert [row["measured"] for row in rows] == ["start", "start", "larger"]
    assert rows[0]["latencies"] == rows[1]["latencies"] == figures["latencies"] and len(figures["latencies"]) == 3
    assert rows[0]["peak_bytes"] > rows[0]["libraries_bytes"] and rows[2]["parameters"] > rows[0]["parameters"]
    assert [path.name for path in (tmp_path / ".state").glob("measure_efficiency-*/*")] == ["tries"]
