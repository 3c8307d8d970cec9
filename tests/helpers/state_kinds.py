"""Stages that were killed with work in `.state`, one of each kind, and how each is started again."""

import importlib
import os
import shutil
import subprocess
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from distill.files import MANIFEST, digest_file, digest_value, list_files, read_json, seal_folder, write_jsonl
from distill.methods.needs import NEEDED_INPUTS, SHARED_INPUTS
from distill.provenance.record import record_path
from distill.provenance.settings import LONGEST, as_argument
from distill.records import Generation
from fake_openai import KEY, FakeOpenAI
from stage_process import (
    SAMPLING,
    WORKFLOW,
    Finished,
    die_at,
    make_inputs,
    make_pairs_folder,
    make_samples,
    rows_of,
    sample_settings,
    stage_arguments,
    succeed,
    toy_examples,
)
from warm import ENVIRONMENT, prepared, warm_python

TRAINING = {"steps": 7, "batch": 8, "micro_batch": 4, "learning_rate": 1e-3, "evaluate_every": 3, "warmup_steps": 3}
_SAMPLED = {"max_new_tokens": 6}
_SAMPLES, _PAIRS = "distill.candidates.store.PART_SAMPLES", "distill.candidates.values.PART_PAIRS"
METHODS = {
    "sft": {},
    "bd": {},
    "minillm": {**_SAMPLED, "prompts_per_round": 16, "inner_epochs": 2},
    "distillm": {**_SAMPLED, "threshold": 0.6, "tolerance": 0.0, "capacity": 8},
    "gkd": _SAMPLED,
    "tgpo": {**_SAMPLED, "prompts_per_round": 4, "group": 4},
    "dpo": {},
}
"""A method for each kind of state of a task: none, rounds, stored responses, drawn sources."""
_VALUES = {"exponent": 0.7, "scale": 1.0, "batch": 4, "wrapper": "short", "deepspeed": {}}
_LAST_UPDATE = "distill.training.loop", "_update", 7
_TIMED = {"tokens_per_second", "seconds"}
_PATIENCE = {"distill.provenance.ownership.POLL_SECONDS": 0.05}


def prepare(changes: dict[str, Any], kill: tuple[str, str, int] | None) -> None:
    """Sets constants by dotted name, and lets the process die as `die_at` does."""
    os.environ["OPENAI_API_KEY"] = KEY
    for name, value in (_PATIENCE | changes).items():
        module, _, constant = name.rpartition(".")
        setattr(importlib.import_module(module), constant, value)
    if kill:
        die_at(*kill)


@dataclass(frozen=True)
class Kind:
    """A stage and the moment at which it is killed.

    Attributes:
        stage: name of the rule.
        settings: its slice.
        inputs: its folders.
        kill: module, function and number of the call that kills it.
        constants: of modules, by dotted name: so that little work has many pieces.
        processes: of the job.
        in_file: whether the slice is too long for a command line.
        billed: what the server of a judge has charged so far, and `price`, of each of its replies in US dollars.
        is_finished: whether the kill came behind the publishing, before Snakemake noted it.
    """

    name: str
    stage: str
    settings: dict
    inputs: dict[str, Path | list[Path]]
    kill: tuple[str, str, int]
    constants: dict[str, Any] = field(default_factory=dict)
    processes: int = 1
    in_file: bool = False
    is_finished: bool = False
    billed: Sequence = ()
    price: float = 0.0

    def start(self, place: Path, kill: bool = False) -> Finished:
        """Runs the stage, as its rule does, to the folder `output` in a place."""
        output, python = place / "output", str(warm_python("stages"))
        arguments = stage_arguments(output, self.settings, **self.inputs)
        if self.in_file:
            given = arguments.index("--settings") + 1
            arguments[given] = as_argument(arguments[given] + " " * LONGEST, place / ".state")
        act = prepared(partial(prepare, self.constants, self.kill if kill else None))
        # In the stage's own processes, and not in the one that starts them.
        command = ["env", *(f"{name}={value}" for name, value in act.items()), python]
        command += [str(WORKFLOW / "scripts" / f"{self.stage}.py"), *arguments]
        if self.processes > 1:
            command = [python, "-m", "distill.launch", str(self.processes), *command]
        log, environment = place / "log", ENVIRONMENT | {"PYTHONPATH": str(WORKFLOW)}
        with open(log, "w", encoding="utf-8") as file:
            done = subprocess.run(command, env=environment, stdout=file, stderr=subprocess.STDOUT, cwd=place)
        return Finished(done.returncode, log.read_text(encoding="utf-8", errors="replace"))

    def kill_in(self, place: Path) -> None:
        """Runs the stage until it is killed, and removes what Snakemake removes before the next try."""
        done = self.start(place, kill=True)
        assert done.code, f"{self.name}: expected to be killed\n{done.text}"
        assert self.is_finished == (place / "output").exists(), done.text
        for path in (place / "output" / MANIFEST, record_path(place / "output")):
            path.unlink(missing_ok=True)


def left_in(place: Path) -> dict[str, str]:
    """Returns the digests of what a stage published, without what a clock measured and what a judge was paid."""
    found = {}
    for path in list_files(place / "output"):
        if path.name == "metrics.jsonl":
            rows = [{key: row[key] for key in row.keys() - _TIMED} for row in rows_of(path)]
            digest = digest_value(rows)
        elif path.name == "win_rate.json":
            digest = digest_value({key: value for key, value in read_json(path).items() if key != "spent_usd"})
        else:
            digest = digest_file(path)
        found[str(path.relative_to(place / "output"))] = digest
    return found


def make_all_inputs(root: Path) -> dict[str, Path]:
    """Makes what any stage but a judge reads, by name."""
    inputs = make_inputs(root, "gpt2", dev=20)
    inputs |= make_samples(root, inputs, inputs["start"], per_prompt=1)
    inputs |= {"pairs": make_pairs_folder(root), "teacher": inputs["start"], "preference_teacher": inputs["start"]}
    return inputs | {"values": succeed("build_values", root / "values", _VALUES, **_read_by_values(inputs))}


def _read_by_values(inputs: dict[str, Path]) -> dict[str, Path]:
    return {name: inputs[name] for name in ("pairs", "vocabulary", "tokenizer", "teacher")}


def make_kinds(root: Path, server: FakeOpenAI, batches: FakeOpenAI) -> list[Kind]:
    """Makes the inputs of all kinds below a folder; judges ask the two servers, which must be open."""
    inputs = make_all_inputs(root)
    kinds = [training_kind(inputs, method) for method in METHODS]
    kinds.append(
        replace(training_kind(inputs, "bd", processes=2, zero_stage=2), name="bd in two processes", processes=2)
    )
    sft = training_kind(inputs, "sft")
    kinds.append(replace(sft, name="settings in a file", in_file=True))
    published = "distill.provenance.stage", "forget", 1
    kinds.append(replace(sft, name="published", kill=published, is_finished=True))
    model = {"kind": "scratch", "hidden_size": 32, "layers": 1, "heads": 1, "pretraining": TRAINING}
    base = {"role": "student", "model": model, "vocabulary_size": 400, "plain_text_tokens": 16, "deepspeed": {}}
    read = {name: inputs[name] for name in ("tokenizer", "plain_text")}
    kinds.append(Kind("base", "make_base", base | {"seed": 10}, read, _LAST_UPDATE))
    values, *others = kinds_in_pieces(root, inputs)
    kinds += [values, replace(values, name="published, state there", kill=("shutil", "rmtree", 1), is_finished=True)]
    return [*kinds, *others, *(_judging(root, *own) for own in ((server, False), (batches, True)))]


def kinds_in_pieces(root: Path, inputs: dict[str, Path]) -> list[Kind]:
    """Returns the kinds whose work lies in pieces that processes can share, the teacher's values first."""
    cut = ("distill.candidates.values", "seal_file", 4), {_PAIRS: 16}
    kinds = [Kind("values", "build_values", _VALUES, _read_by_values(inputs), *cut)]
    sets = {"shard": 0, "shards": 1, "p_max": 0.95, "batch": 64, "deepspeed": {}}
    read = {name: inputs[name] for name in ("teacher", "samples", "vocabulary")}
    cut = ("distill.candidates.store", "save_candidate_sets", 5), {_SAMPLES: 64}
    kinds.append(Kind("candidate sets", "build_candidates", sets, read, *cut))
    read = {name: inputs[name] for name in ("teacher", "split", "dev", "tokenizer")}
    last = "distill.sampling.transformers_engine", "sample_sequences", 4
    kinds.append(Kind("teacher samples", "sample_teacher", sample_settings(per_prompt=1), read, last))
    sampled = {"wrapper": "short", "sampling": SAMPLING}
    shutil.copytree(inputs["dev"], root / "other" / "dev two")
    read = {"model": inputs["start"], "datasets": [inputs["dev"], root / "other" / "dev two"]}
    asked = {"decodings": {"sampled": {}, "greedy": {"temperature": 0}}, "primary": "sampled", "seeds": [10, 20]}
    asked |= sampled | {"max_new_tokens": {"dev": 6, "dev two": 5}}
    last = "distill.sampling.entropy", "mean_entropy", 2
    kinds.append(Kind("answers", "generate_responses", asked, read | {"tokenizer": inputs["tokenizer"]}, last))
    (root / "trained").mkdir()
    assert training_kind(inputs, "sft").start(root / "trained").code == 0
    read = {"run": root / "trained" / "output", "start": inputs["start"], "dev": inputs["dev"]}
    asked = sampled | {"decoding": {"temperature": 0}, "max_new_tokens": 6, "dev_rows": None, "dev_seed": 10}
    last = "distill.sampling.resumable", "seal_file", 4
    kinds.append(Kind("dev answers", "validate_run", asked, read | {"tokenizer": inputs["tokenizer"]}, last))
    return kinds


def training_kind(inputs: dict, method: str, **deepspeed: int) -> Kind:
    """Returns a method's training, killed in the update behind its second save."""
    run = {"method": method, "dropout": True, "training": TRAINING} | METHODS[method]
    settings = {"name": method, "run": run, "updates_of": None, "wrapper": "short", "plain_text_tokens": 16}
    settings |= {"deepspeed": deepspeed, "seed": 10}
    read = {name: inputs[name] for name in SHARED_INPUTS + NEEDED_INPUTS}
    return Kind(method, "train_run", settings, read, _LAST_UPDATE)


def _judging(root: Path, server: FakeOpenAI, in_batches: bool) -> Kind:
    """Returns a judge of 12 prompts, killed at the 17th of 24 verdicts."""
    examples, folder = toy_examples()[:12], root / "judged" / f"{in_batches}"
    write_jsonl(folder / "dataset" / "examples.jsonl", (example.to_dict() for example in examples))
    for system in ("one", "two"):
        rows = (
            Generation(own.id, "dolly", 10, "sampled", "", f"{system} says {number}", 4, True)
            for number, own in enumerate(examples)
        )
        write_jsonl(folder / system / "generations.jsonl", (row.to_dict() for row in rows))
    for name in ("dataset", "one", "two"):
        seal_folder(folder / name)
    judge = {"kind": "openai", "base_url": server.base_url, "decoding": "sampled", "batch": in_batches}
    settings = {"judge": judge | {"max_concurrency": 2, "batch_poll_s": 1}, "pair": ("one", "two")}
    read = {"generations": [folder / "one", folder / "two"], "dataset": folder / "dataset"}
    module = "distill.judging.batch_judge" if in_batches else "distill.judging.openai_judge"
    name = "verdicts of batches" if in_batches else "verdicts"
    price = (100 * 0.15 + 0.6) / 1e6 / (1 + in_batches)
    return Kind(name, "judge_pair", settings, read, (module, "verdict_of", 17), billed=server.billed, price=price)


def judged(prompt: str) -> str:
    """Returns the fake judge's reply to a prompt."""
    return "AB"[zlib.crc32(prompt.encode()) % 2]
