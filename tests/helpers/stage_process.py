"""Stage scripts in processes of their own, forked from a server that has the large libraries loaded."""

import importlib
import itertools
import json
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from distill.data.prompts import wrap
from distill.files import read_jsonl, seal_folder, write_json, write_jsonl
from distill.records import Example, PreferencePair
from distill.seeds import stage_seed
from tiny_models import make_model, make_tokenizer
from warm import ENVIRONMENT, prepared, warm_python

WORKFLOW = Path(__file__).parents[2] / "workflow"


@dataclass(frozen=True)
class Finished:
    """A stage's end: its exit code (minus the signal that killed it) and all it printed."""

    code: int
    text: str


def stage_arguments(output: Path, settings: dict, **inputs: Path | list[Path]) -> list[str]:
    """Returns a stage's command line; folders are named by their manifest."""
    flags = []
    for name, paths in inputs.items():
        folders = paths if isinstance(paths, list) else [paths]
        flags += [f"--{name.replace('_', '-')}", *(str(folder / "COMPLETE") for folder in folders)]
    return [
        *flags,
        "--settings",
        json.dumps(settings),
        "--output",
        str(output / "COMPLETE"),
        "--state",
        str(output.parent / ".state"),
    ]


def run_stage_process(
    name: str, output: Path, settings: dict, prepare: Callable[[], None] | None = None, **inputs: Path | list[Path]
) -> Finished:
    """Runs a stage as its rule does; `prepare` (a module's function) runs first in the process."""
    output.parent.mkdir(parents=True, exist_ok=True)
    command = [warm_python("stages"), WORKFLOW / "scripts" / f"{name}.py", *stage_arguments(output, settings, **inputs)]
    environment = ENVIRONMENT | {"PYTHONPATH": str(WORKFLOW)} | prepared(prepare)
    log = output.with_name(f"{output.name}.log")
    with open(log, "w", encoding="utf-8") as file:
        done = subprocess.run(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
    return Finished(done.returncode, log.read_text(encoding="utf-8"))


def succeed(name: str, output: Path, settings: dict, prepare: Callable[[], None] | None = None, **inputs) -> Path:
    """Runs a stage that must succeed; returns its output folder."""
    done = run_stage_process(name, output, settings, prepare, **inputs)
    assert done.code == 0, done.text
    return output


def _before(module: str, function: str, act: Callable[[int], None]) -> None:
    """Lets `act` see the number of each call of a module's function before the call goes on."""
    holder, calls = importlib.import_module(module), itertools.count(1)
    original = getattr(holder, function)

    def watched(*arguments, **options):
        act(next(calls))
        return original(*arguments, **options)

    setattr(holder, function, watched)


def die_at(module: str, function: str, call: int) -> None:
    """Makes the n-th call of a function kill its process as `kill -9` does."""
    _before(module, function, lambda number: os.kill(os.getpid(), signal.SIGKILL) if number == call else None)


def count_calls(module: str, function: str, path: Path) -> None:
    """Keeps the number of calls of a function in a file."""
    path.write_text("0")
    _before(module, function, lambda number: path.write_text(str(number)))


def rows_of(path: Path) -> list[dict]:
    return [row for _, row in read_jsonl(path)]


NOUNS = ("river", "lantern", "orchard", "bridge", "kettle", "tower", "garden", "wagon", "violin", "harbour")
PLACES = ("valley", "hill", "forest", "desert", "island", "market", "castle", "meadow", "canyon", "village")
VERBS = ("Paint", "Go and visit", "Leave", "Please find")


def toy_examples() -> list[Example]:
    """Returns 400 examples in a fixed scattered order, each answered by a colour and a beast of two.

    The noun says which colour is the likely one (4 in 5 answers), the place which beast: both answers are always in the
    top 0.9 of a model that knows this, and how likely each is can only be learnt from the prompt.
    """
    examples = []
    for noun, place, verb in itertools.product(range(10), range(10), range(4)):
        draw = stage_seed("toy", noun, place, verb)
        colour, beast = (noun + (draw % 5 == 0)) % 2, (place + (draw // 5 % 5 == 0)) % 2
        instruction = f"{VERBS[verb]} the {NOUNS[noun]} {PLACES[place]}"
        examples.append(Example.of(instruction, "", f"{('red', 'blue')[colour]} {('fox', 'owl')[beast]}", "toy"))
    return sorted(examples, key=lambda example: example.id)


def make_inputs(root: Path, family: str = "qwen2", dev: int = 80, **shape: float) -> dict[str, Path]:
    """Writes what training runs read (start, vocabulary, split, dev, tokenizer, plain_text); returns the folders."""
    examples = toy_examples()
    texts = [text for e in examples for text in (wrap("short", e.instruction, ""), " ".join(e.references))]
    parts = {name: root / name for name in ("start", "vocabulary", "split", "dev", "tokenizer", "plain_text")}
    shape = {"vocabulary": 400, "width": 32, "layers": 1, "positions": 64} | shape
    make_model(parts["start"], family, texts=texts, **shape)
    make_tokenizer(shape["vocabulary"], texts).save_pretrained(parts["tokenizer"])
    write_json(parts["vocabulary"] / "vocabulary.json", {"size": shape["vocabulary"]})
    for name, rows in (("split/train.jsonl", examples[dev:]), ("dev/examples.jsonl", examples[:dev])):
        write_jsonl(root / name, (example.to_dict() for example in rows))
    write_jsonl(parts["plain_text"] / "documents.jsonl", ({"text": text} for text in texts))
    for folder in parts.values():
        seal_folder(folder)
    return parts


def toy_pairs(examples: list[Example]) -> list[PreferencePair]:
    """Returns pairs whose rejected side has the other colour, and every second one a word more: lengths differ."""
    pairs = []
    for number, example in enumerate(examples):
        colour, beast = example.references[0].split()
        other = {"red": "blue", "blue": "red"}[colour]
        rejected = f"{other} {beast}{' too' * (number % 2)}"
        pairs.append(PreferencePair.of(example.instruction, "", example.references[0], rejected))
    return pairs


def make_pairs_folder(root: Path) -> Path:
    """Writes toy pairs, 64 of them to learn from and 12 each of dev and test; returns the folder."""
    examples = toy_examples()
    for name, part in (("train", examples[:64]), ("dev", examples[64:76]), ("test", examples[76:88])):
        write_jsonl(root / "pairs" / f"{name}.jsonl", (pair.to_dict() for pair in toy_pairs(part)))
    seal_folder(root / "pairs")
    return root / "pairs"


SAMPLING = {"engine": "transformers", "max_sequences": 128}


def sample_settings(**changes: object) -> dict:
    """Returns the slice of sample_teacher: one shard of all prompts, four answers each."""
    values = {"shard": 0, "shards": 1, "prompts": None, "held_out_prompts": 1000, "per_prompt": 4, "temperature": 1.0}
    return values | {"top_p": 1.0, "max_new_tokens": 6, "wrapper": "short", "sampling": SAMPLING, "seed": 10} | changes


def make_samples(root: Path, inputs: dict[str, Path], teacher: Path, **changes: object) -> dict[str, Path]:
    """Samples a teacher and computes its candidate sets by the stages themselves; returns the two folders."""
    folders = {name: inputs[name] for name in ("split", "dev", "tokenizer")}
    samples = succeed("sample_teacher", root / "samples", sample_settings(**changes), teacher=teacher, **folders)
    parts = {"teacher": teacher, "samples": samples, "vocabulary": inputs["vocabulary"]}
    sets = {"shard": 0, "shards": 1, "p_max": 0.95, "batch": 64, "deepspeed": {}}
    return {"samples": samples, "candidates": succeed("build_candidates", root / "candidates", sets, **parts)}
