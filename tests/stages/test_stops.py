"""A training that is asked to stop, goes wrong or is changed from outside: what is saved, what is said."""

import os
import signal
import subprocess
from functools import partial
from pathlib import Path

import pytest
import torch

import stage_process
from distill.files import read_json, seal_folder, write_json
from distill.models.vocabulary import read_vocabulary
from stage_process import WORKFLOW, die_at, make_inputs, rows_of, run_stage_process, stage_arguments
from warm import ENVIRONMENT, prepared, warm_python

CLOCK = {"tokens_per_second", "seconds"}
TRAINING = {"steps": 6, "batch": 8, "micro_batch": 4, "learning_rate": 1e-3, "evaluate_every": 4}


def settings(training=TRAINING, **deepspeed):
    own = {"name": "sft", "run": {"method": "sft", "training": training}, "updates_of": None, "wrapper": "short"}
    return own | {"plain_text_tokens": 16, "deepspeed": deepspeed, "seed": 10}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp("inputs"), "gpt2", dev=20)


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    output = tmp_path_factory.mktemp("whole") / "training"
    assert run_stage_process("train_run", output, settings(), **inputs).code == 0
    return contents(output)


def contents(folder):
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.safetensors")}
    found |= {name: (folder / name).read_bytes() for name in ("dev.jsonl", "dev_items.jsonl")}
    rows = rows_of(folder / "metrics.jsonl")
    return found | {"metrics": [{key: row[key] for key in row.keys() - CLOCK} for row in rows]}


def state_of(output):
    (pointer,) = (output.parent / ".state").rglob("resume.json")
    return pointer.parent


def last_line(text):
    return text.rstrip().splitlines()[-1]


def ask_at(module, function, call, number, rank="0"):
    """Sends its process a signal at the n-th call of a function; in a group to one process alone."""

    def act(found):
        if found == call and os.environ.get("RANK", "0") == rank:
            os.kill(os.getpid(), number)

    stage_process._before(module, function, act)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1], ids=lambda number: number.name)
def test_a_request_to_stop_saves_at_the_next_boundary(inputs, whole, tmp_path, number):
    """In the middle of the third update, between two checkpoints."""
    output = tmp_path / "training"
    ask = partial(ask_at, "distill.training.loop", "_update", 3, number)
    stopped = run_stage_process("train_run", output, settings(), ask, **inputs)
    assert stopped.code == 128 + number
    assert last_line(stopped.text).startswith(f"error: train_run: stopped by {number.name}; ")
    state = state_of(output)
    assert read_json(state / "resume.json")["step"] == 3
    assert not (state / "checkpoints").exists(), "a save evaluates nothing and publishes nothing"
    assert [row["step"] for row in rows_of(state / "dev.jsonl")] == [0]
    assert run_stage_process("train_run", output, settings(), **inputs).code == 0
    assert contents(output) == whole
    notes = read_json(output.with_name("training.prov.json"))["predicate"]["runDetails"]["notes"]
    assert notes["resumes"] == 1


def test_a_request_in_the_last_update_ends_whole(inputs, whole, tmp_path):
    ask = partial(ask_at, "distill.training.loop", "_update", 6, signal.SIGTERM)
    assert run_stage_process("train_run", tmp_path / "training", settings(), ask, **inputs).code == 0
    assert contents(tmp_path / "training") == whole


def run_group(output, prepare, training=TRAINING, **inputs):
    """Runs a training of two processes."""
    python, own = warm_python("stages"), settings(training, processes=2, zero_stage=1)
    output.parent.mkdir(parents=True, exist_ok=True)
    script = WORKFLOW / "scripts" / "train_run.py"
    # Called in both processes, and not in the one that starts them.
    each = ["env", *(f"{name}={value}" for name, value in prepared(prepare).items()), python]
    command = [python, "-m", "distill.launch", "2", *each, script, *stage_arguments(output, own, **inputs)]
    environment = ENVIRONMENT | {"PYTHONPATH": str(WORKFLOW), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_processes_agree_on_where_they_stop(inputs, tmp_path):
    """One of two is asked, while the other may be a step behind."""
    output = tmp_path / "training"
    ask = partial(ask_at, "distill.training.loop", "_update", 3, signal.SIGTERM, "1")
    stopped = run_group(output, ask, **inputs)
    assert stopped.returncode == 143, stopped.stderr
    assert last_line(stopped.stderr).startswith("error: train_run: stopped by SIGTERM; ")
    assert read_json(state_of(output) / "resume.json")["step"] == 3


def listen(path):
    """Notes before the second update where this process and its group listen, and how long it waits for others."""

    def act(number):
        if number == 2:
            inodes = {os.readlink(own) for own in Path("/proc/self/fd").iterdir() if own.is_symlink() and exists(own)}
            tables = [Path(f"/proc/self/net/{kind}").read_text() for kind in ("tcp", "tcp6")]
            rows = [line.split() for table in tables for line in table.splitlines()]
            found = [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes]
            group = torch.distributed.group.WORLD._get_backend(torch.device("cpu"))
            minutes = group.options._timeout.total_seconds() / 60
            write_json(path / f"{os.environ.get('RANK', '0')}.json", [found, minutes])

    stage_process._before("distill.training.loop", "_update", act)


def exists(link):
    try:
        return bool(os.readlink(link))
    except FileNotFoundError:  # that of the folder's own listing
        return False


LOOPBACK = ("0100007F:", "00000000000000000000000001000000:", "0000000000000000FFFF00000100007F:")


@pytest.mark.parametrize("processes", [1, 2])
def test_a_training_listens_on_the_loopback_alone_and_is_patient(inputs, tmp_path, processes):
    """A process may evaluate or save alone for longer than torch lets the others wait."""
    training, prepare = TRAINING | {"steps": 2}, partial(listen, tmp_path)
    if processes == 1:
        done = run_stage_process("train_run", tmp_path / "out" / "training", settings(training), prepare, **inputs)
        assert done.code == 0, done.text
    else:
        done = run_group(tmp_path / "out" / "training", prepare, training, **inputs)
        assert done.returncode == 0, done.stderr
    found, minutes = zip(*(read_json(tmp_path / f"{rank}.json") for rank in range(processes)), strict=True)
    assert min(minutes) > 60
    assert all(own for own in found) and all(address.startswith(LOOPBACK) for own in found for address in own)


def spoil(step, rank="0"):
    """Makes a loss not finite, in one process, in the first micro-batch of an update."""
    from distill.training.imitation import Imitation

    losses, seen = Imitation.losses, set()

    def spoilt(self, forward, indices, number):
        found = losses(self, forward, indices, number)
        if number == step and not seen and os.environ.get("RANK", "0") == rank:
            seen.add(number)
            found["response"].total.mul_(torch.nan)
        return found

    Imitation.losses = spoilt


def test_a_loss_that_is_not_finite_stops_before_the_optimiser_steps(inputs, tmp_path):
    output, training = tmp_path / "training", TRAINING | {"evaluate_every": 2}
    done = run_stage_process("train_run", output, settings(training), partial(spoil, 4), **inputs)
    assert done.code == 2
    line = last_line(done.text)
    assert line.startswith("error: train_run: sft: expected a finite loss, found nan on items ")
    assert "(response nan" in line and "at update 5;" in line
    assert read_json(state_of(output) / "resume.json")["step"] == 4


def test_a_loss_of_one_process_that_is_not_finite_stops_all(inputs, tmp_path):
    done = run_group(tmp_path / "training", partial(spoil, 4, "1"), TRAINING, **inputs)
    assert done.returncode == 2
    assert last_line(done.stderr).startswith("error: train_run: sft: expected a finite loss, found nan on items ")
    assert read_json(state_of(tmp_path / "training") / "resume.json")["step"] == 4


def spoil_gradient(call):
    from distill.training.engine import TrainingEngine

    backward, calls = TrainingEngine.backward, []

    def spoilt(self, loss):
        calls.append(loss)
        if len(calls) == call:
            loss.register_hook(lambda gradient: gradient * torch.inf)
        return backward(self, loss)

    TrainingEngine.backward = spoilt


@pytest.mark.parametrize("deepspeed", [{}, {"zero_stage": 2}, {"precision": "bf16"}], ids=str)
def test_a_gradient_that_is_not_finite_is_never_saved(inputs, tmp_path, deepspeed):
    """At an update behind which a checkpoint would be."""
    prepare = partial(spoil_gradient, 7)  # the fourth update's first share
    done = run_stage_process("train_run", tmp_path / "training", settings(**deepspeed), prepare, **inputs)
    assert done.code == 2
    assert "expected a finite gradient, found a norm of " in last_line(done.text)
    assert "at update 4;" in last_line(done.text)
    assert not list((tmp_path / ".state").rglob("resume.json"))


class Touch:
    """What a pickle can do to whoever loads it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_state_that_somebody_else_wrote_and_sealed_runs_no_code(inputs, tmp_path):
    output = tmp_path / "training"
    ask = partial(ask_at, "distill.training.loop", "_update", 3, signal.SIGTERM)
    assert run_stage_process("train_run", output, settings(), ask, **inputs).code == 143
    (folder,) = (state_of(output) / "saved").iterdir()
    for path in folder.rglob("*.safetensors"):
        torch.save({"module": Touch(tmp_path / "ran")}, path)
    seal_folder(folder)
    again = run_stage_process("train_run", output, settings(), **inputs)
    assert again.code == 2 and not (tmp_path / "ran").exists()
    assert f"delete {state_of(output)} and rerun" in last_line(again.text)


def test_a_damaged_state_is_named_and_made_again(inputs, whole, tmp_path):
    output = tmp_path / "training"
    die = partial(die_at, "distill.training.loop", "_update", 6)
    assert run_stage_process("train_run", output, settings(), die, **inputs).code == -9
    path = state_of(output) / "saved/step-000004/engine/exp_avg.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    again = run_stage_process("train_run", output, settings(), **inputs)
    assert again.code == 0 and contents(output) == whole
    assert again.text.count("engine/exp_avg.safetensors") == 1


def test_pretraining_is_saved_by_the_clock_too(inputs, tmp_path):
    """Its one checkpoint is its last: a kill before lost all."""
    size = len(read_vocabulary(inputs["tokenizer"]))
    model = {"kind": "scratch", "hidden_size": 16, "layers": 1, "heads": 2}
    model |= {"pretraining": {"steps": 4, "batch": 8, "micro_batch": 8, "learning_rate": 1e-3, "evaluate_every": 4}}
    own = {"role": "teacher", "model": model, "vocabulary_size": size, "plain_text_tokens": 16, "deepspeed": {}}
    folders = {name: inputs[name] for name in ("tokenizer", "plain_text")}

    def run(output, prepare):
        return run_stage_process("make_base", output, own | {"seed": 10}, prepare, **folders)

    assert run(tmp_path / "whole" / "base", None).code == 0
    output = tmp_path / "parts" / "base"
    assert run(output, partial(saved_and_killed, 4)).code == -9
    assert read_json(state_of(output) / "resume.json")["step"] == 3
    assert run(output, None).code == 0
    one, two = (folder / "model.safetensors" for folder in (tmp_path / "whole" / "base", output))
    assert one.read_bytes() == two.read_bytes()


def saved_and_killed(call):
    from distill.training.saved_state import SavedState

    SavedState.is_due = lambda self: True
    die_at("distill.training.loop", "_update", call)
