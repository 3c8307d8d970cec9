"""Saved blocks, sets and values that are damaged are made again; a request to stop loses no finished one."""

import os
import shutil
import signal
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file

from distill.candidates.store import build_candidate_sets
from distill.errors import ModelError
from distill.sampling.protocol import EngineSettings, Request
from distill.sampling.resumable import Batch, LazyEngine, generate_blocks
from distill.sealed_files import is_sealed, read_sealed_json, seal_file, write_sealed_json
from distill.stopping import Stopped, watched
from stage_process import _before, make_inputs, rows_of, run_stage_process, sample_settings, succeed
from tiny_models import make_model

ENGINE = "distill.sampling.transformers_engine"
REQUESTS = [Request(f"r{number}", [5, 6, 7 + number], 10, 2) for number in range(6)]
WANTED = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 8}


def settings_of(engine):
    return EngineSettings(engine=engine, max_model_len=96, max_num_seqs=64, kv_cache_gib=0.1)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("models") / "tiny", initializer_range=0.3)


def generate(model, folder, block=2):
    """Returns the completions, and how often an engine was asked."""
    calls = []

    class Counting(LazyEngine):
        def generate(self, *arguments):
            calls.append(1)
            return super().generate(*arguments)

    folder.mkdir(exist_ok=True)
    batch = Batch(model, REQUESTS, **WANTED, folder=folder, size=block)
    with Counting(settings_of("transformers"), 300) as engine:
        generate_blocks(engine, [batch])
    return [*batch.completions()], len(calls)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def lines(path, change):
    path.write_text("".join(change(path.read_text().splitlines(keepends=True))))


DAMAGES = {
    "a bit flipped": flip,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "empty": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
    "a row missing": lambda path: lines(path, lambda rows: rows[1:]),
    "a row doubled": lambda path: lines(path, lambda rows: [rows[0], *rows]),
    "a page of zeros": lambda path: path.write_bytes(bytes(len(path.read_bytes()))),
    "its seal flipped": lambda path: flip(path.with_suffix(".sha256")),
    "its seal gone": lambda path: path.with_suffix(".sha256").unlink(),
    "its seal empty": lambda path: path.with_suffix(".sha256").write_bytes(b""),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_block_is_generated_again_and_named(model, tmp_path, caplog, damage):
    whole, calls = generate(model, tmp_path)
    assert calls == 3 and not caplog.records
    path = sorted(tmp_path.glob("*.jsonl"))[1]
    before = path.read_bytes()
    damage(path)
    assert generate(model, tmp_path) == (whole, 1)
    assert [record.getMessage() for record in caplog.records if str(path) in record.getMessage()]
    assert path.read_bytes() == before and is_sealed(path)
    caplog.clear()
    assert generate(model, tmp_path) == (whole, 0) and not caplog.records


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_request_to_stop_waits_for_the_block_under_way(model, tmp_path, monkeypatch, number):
    whole, _ = generate(model, tmp_path / "whole")
    ask = LazyEngine.generate

    def interrupted(*arguments):
        os.kill(os.getpid(), number)
        return ask(*arguments)

    monkeypatch.setattr(LazyEngine, "generate", interrupted)
    for blocks in (1, 2):
        with watched(), pytest.raises(Stopped) as stopped:
            generate(model, tmp_path / "stopped")
        assert stopped.value.exit_code == 128 + number
        assert len(list((tmp_path / "stopped").glob("*.jsonl"))) == blocks
    monkeypatch.undo()
    assert generate(model, tmp_path / "stopped") == (whole, 1)


def interrupt_at(module, function, call):
    """Sends SIGINT, as a terminal does, at the n-th call of a function."""
    _before(module, function, lambda number: os.kill(os.getpid(), signal.SIGINT) if number == call else None)


def test_ctrl_c_ends_sampling_in_one_line_and_keeps_the_block(tmp_path):
    inputs = make_inputs(tmp_path / "inputs", "gpt2")
    folders = {"teacher": inputs["start"]} | {name: inputs[name] for name in ("split", "dev", "tokenizer")}
    settings = sample_settings(prompts=120, per_prompt=1)  # 200 prompts in blocks of 128, 128 sequences a batch
    output = tmp_path / "samples"
    stopped = run_stage_process(
        "sample_teacher", output, settings, partial(interrupt_at, ENGINE, "sample_sequences", 1), **folders
    )
    assert stopped.code == 130
    assert stopped.text.rstrip().splitlines()[-1].startswith("error: sample_teacher: stopped by SIGINT; the same")
    assert len(list((tmp_path / ".state").rglob("*.jsonl"))) == 1
    whole = succeed("sample_teacher", tmp_path / "whole" / "samples", settings, **folders)
    succeed("sample_teacher", output, settings, **folders)
    assert (output / "samples.jsonl").read_bytes() == (whole / "samples.jsonl").read_bytes()
    assert len(rows_of(output / "samples.jsonl")) == 200


def build(teacher, folder):
    folder.mkdir(exist_ok=True)
    sequences = [([5, 6, 7 + number], [8, 9, 0]) for number in range(3)]
    options = {"p_max": 0.9, "reported": [0.9], "batch": 1, "device": "cpu", "metadata": {}}
    return build_candidate_sets(teacher, sequences, folder, **options)


def test_damaged_sets_are_built_again(model, tmp_path, monkeypatch, caplog):
    from distill.candidates import store
    from distill.models.load import load_model
    from distill.models.packed import PackedModel

    monkeypatch.setattr(store, "PART_SAMPLES", 1)
    teacher = PackedModel(load_model(model))
    whole = {path: path.read_bytes() for path in build(teacher, tmp_path)}
    damaged = list(whole)[1]
    times = {path: path.stat().st_mtime_ns for path in whole}
    flip(damaged)
    assert {path: path.read_bytes() for path in build(teacher, tmp_path)} == whole
    assert [path for path in whole if path.stat().st_mtime_ns != times[path]] == [damaged]
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [str(damaged)]


def test_a_file_without_a_seal_and_one_of_another_name_do_not_count(tmp_path, caplog):
    path = tmp_path / "a.jsonl"
    assert not is_sealed(path) and not caplog.records
    path.write_text("x")
    assert not is_sealed(path)
    seal_file(path)
    assert is_sealed(path)
    shutil.copy(path, tmp_path / "b.jsonl")
    shutil.copy(tmp_path / "a.sha256", tmp_path / "b.sha256")
    assert not is_sealed(tmp_path / "b.jsonl")


@pytest.mark.parametrize("depth", [0, 1])
def test_a_block_of_the_same_name_of_another_model_does_not_count(tmp_path, caplog, depth):
    """Selection asks every checkpoint the same questions, and so do two runs."""
    names = ["validate_run-1/step-000003", ("validate_run-1/step-000006", "validate_run-2/step-000003")[depth]]
    for name in names:
        path = tmp_path / ".state" / name / "a.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text(name)
        seal_file(path)
    one, other = (
        (tmp_path / ".state" / name.split("/")[0] for name in names)
        if depth
        else (tmp_path / ".state" / name for name in names)
    )
    for source, target in ((one, tmp_path / "aside"), (other, one), (tmp_path / "aside", other)):
        source.rename(target)
    assert not any(is_sealed(tmp_path / ".state" / name / "a.jsonl") for name in names)
    assert len(caplog.records) == 2


def test_a_small_file_is_sealed_in_itself_and_in_its_place(tmp_path, caplog):
    path = tmp_path / "one" / "tries"
    assert read_sealed_json(path) is None and not caplog.records
    write_sealed_json(path, 3)
    assert read_sealed_json(path) == 3 and not caplog.records
    shutil.copytree(path.parent, tmp_path / "two")
    assert read_sealed_json(tmp_path / "two" / "tries") is None
    text = path.read_text()
    damaged = ["", "3", "[]", "null", "{}", "\0" * 9, "[" * 99999, text[:-3], text.replace(": 3", ": 33")]
    for number, content in enumerate(damaged, start=2):
        path.write_text(content)
        assert read_sealed_json(path) is None
        assert len(caplog.records) == number and str(path) in caplog.records[-1].getMessage()


@pytest.fixture(scope="module")
def broken(model, tmp_path_factory):
    """A model with one weight that is no number, in a folder whose name is a pattern."""
    folder = shutil.copytree(model, tmp_path_factory.mktemp("broken") / "a[1]*")
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if "mlp" in name)
    tensors[name][0, 0] = torch.nan
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize("name", ["transformers", "vllm"])
def test_no_token_is_drawn_from_logits_that_are_no_numbers(model, broken, tmp_path, name):
    folder = shutil.copytree(model, tmp_path / "m[ab]")
    line = r"a\[1\]\*: expected finite logits, found NaN or infinity"
    with LazyEngine(settings_of(name), 300).use(folder) as engine:
        assert len(engine.generate(REQUESTS, 1.0, 1.0, 8)) == 12
        engine.use(broken)
        for temperature in (0.0, 1.0):
            with pytest.raises(ModelError, match=line) as error:
                engine.generate(REQUESTS, temperature, 1.0, 8)
            assert "\n" not in str(error.value)
