"""A stage that was killed goes on where it stopped, and ends with what an uninterrupted one gives."""

import shutil
from functools import partial

import pytest

from distill.files import read_json
from stage_process import (
    SAMPLING,
    count_calls,
    die_at,
    make_inputs,
    make_pairs_folder,
    make_samples,
    rows_of,
    run_stage_process,
    sample_settings,
    succeed,
)

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


# In the middle of a round of four updates; between two draws of stored answers, the threshold having risen; between the
# two updates of a round, while the weight of the guidance falls.
SAMPLING_RUNS = {
    "minillm": {"prompts_per_round": 16, "inner_epochs": 2, "max_new_tokens": 8},
    "distillm": {"threshold": 0.6, "tolerance": 0.0, "capacity": 8, "max_new_tokens": 8},
    "tgpo": {"prompts_per_round": 4, "group": 4, "max_new_tokens": 8},
}


def train_sampling(method, inputs, output, prepare=None):
    training = {"steps": 7, "batch": 8, "micro_batch": 4, "learning_rate": 1e-3, "evaluate_every": 3}
    run = {"method": method, "dropout": True, "training": training} | SAMPLING_RUNS[method]
    settings = {"name": method, "run": run, "updates_of": None, "wrapper": "short"}
    settings |= {"plain_text_tokens": 16, "deepspeed": {}, "seed": 10}
    return run_stage_process("train_run", output, settings, prepare, teacher=inputs["start"], **inputs)


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
        ("distill.methods.run_method", "save_model", 2, 1),  # optimiser saved, checkpoint not written
        ("distill.training.loop", "seal_folder", 3, 1),  # last checkpoint written, not sealed
        ("distill.training.loop", "write_json", 3, 1),  # last checkpoint sealed, state not yet pointed to it
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
    assert {path.name for path in tmp_path.iterdir()} == {".state", "training", "training.prov.json", "training.log"}


@pytest.mark.parametrize("engine", [{"zero_stage": 2}, {"precision": "bf16"}], ids=["zero2", "bf16"])
def test_a_killed_run_goes_on_where_deepspeed_lays_parameters_flat(inputs, tmp_path, engine):
    """Each group, with and without decay, is laid flat by itself, and so is its state."""
    whole, killed = tmp_path / "whole" / "training", tmp_path / "killed" / "training"
    assert train(inputs, whole, **engine).code == 0
    assert train(inputs, killed, partial(die_at, "distill.training.loop", "_update", 4), **engine).code == -9
    assert train(inputs, killed, **engine).code == 0
    assert contents(killed) == contents(whole)
    assert details(killed)["notes"]["resumes"] == 1


def test_the_reference_of_a_run_on_pairs_outlives_a_kill(inputs, tmp_path):
    """It is the start's, not that of the model that the run had come to."""
    shared = {name: inputs[name] for name in ("start", "vocabulary", "split", "dev", "tokenizer")}
    shared["pairs"] = make_pairs_folder(tmp_path)
    own = {name: shared[name] for name in ("pairs", "vocabulary", "tokenizer")}
    values = {"exponent": 0.7, "scale": 1.0, "batch": 32, "wrapper": "short", "deepspeed": {}}
    shared["values"] = succeed("build_values", tmp_path / "values", values, teacher=inputs["start"], **own)
    training = {"steps": 5, "batch": 8, "micro_batch": 4, "learning_rate": 1e-3, "evaluate_every": 2}
    settings = {"name": "tvkd", "run": {"method": "tvkd", "training": training}, "updates_of": None}
    settings |= {"wrapper": "short", "plain_text_tokens": 16, "deepspeed": {}, "seed": 10}
    whole, killed = tmp_path / "whole" / "training", tmp_path / "killed" / "training"
    succeed("train_run", whole, settings, **shared)
    die = partial(die_at, "distill.training.loop", "_update", 4)  # saved after update 2
    assert run_stage_process("train_run", killed, settings, die, **shared).code == -9
    succeed("train_run", killed, settings, **shared)
    assert contents(killed) == contents(whole)
    assert details(killed)["notes"]["resumes"] == 1


@pytest.mark.parametrize("method", SAMPLING_RUNS)
def test_answers_of_the_student_outlive_a_kill(inputs, tmp_path, method):
    whole, killed = tmp_path / "whole" / "training", tmp_path / "killed" / "training"
    assert train_sampling(method, inputs, whole).code == 0
    die = partial(die_at, "distill.training.loop", "_update", 5)  # saved after update 3
    assert train_sampling(method, inputs, killed, die).code == -9
    assert train_sampling(method, inputs, killed).code == 0
    assert contents(killed) == contents(whole)
    assert details(killed)["notes"]["resumes"] == 1


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
