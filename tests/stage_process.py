"""Stage scripts in processes of their own, forked from a server that has the heavy libraries loaded."""

import json
import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path

from distill.data.prompts import wrap
from distill.files import read_jsonl, seal_folder, write_json, write_jsonl
from distill.records import Example
from tiny_models import make_model, make_tokenizer

WORKFLOW = Path(__file__).parents[1] / "workflow"
_CONTEXT = multiprocessing.get_context("forkserver")
_LIBRARIES = ["torch", "deepspeed"] + [f"transformers.models.{name}.modeling_{name}" for name in ("qwen2", "gpt2", "opt")]


@dataclass(frozen=True)
class Finished:
    """A stage's end: its exit code (minus the signal that killed it) and all it printed."""

    code: int
    text: str


def _start_server() -> None:
    """Starts the server once; its processes see the CPU, whatever else the machine has."""
    _CONTEXT.set_forkserver_preload(_LIBRARIES)
    before = os.environ.get("DS_ACCELERATOR")
    os.environ["DS_ACCELERATOR"] = "cpu"
    try:
        forkserver.ensure_running()
    finally:
        os.environ.pop("DS_ACCELERATOR")
        os.environ.update({"DS_ACCELERATOR": before} if before else {})


def _child(script: Path, arguments: list[str], prepare: Callable[[], None] | None, log: Path) -> None:
    sys.argv = [str(script), *arguments]
    with open(log, "w", encoding="utf-8") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    if prepare:
        prepare()
    runpy.run_path(str(script), run_name="__main__")


def stage_arguments(output: Path, settings: object, **inputs: Path | list[Path]) -> list[str]:
    """Returns a stage's command line; `settings` is a section model or JSON-like, folders are named by their manifest."""
    text = settings.model_dump_json() if hasattr(settings, "model_dump_json") else json.dumps(settings)
    flags = []
    for name, paths in inputs.items():
        folders = paths if isinstance(paths, list) else [paths]
        flags += [f"--{name.replace('_', '-')}", *(str(folder / "COMPLETE") for folder in folders)]
    return [*flags, "--settings", text, "--output", str(output / "COMPLETE"), "--state", str(output.parent / ".state")]


def run_stage_process(
    name: str, output: Path, settings: object, prepare: Callable[[], None] | None = None, **inputs: Path | list[Path]
) -> Finished:
    """Runs a stage as its rule does; `prepare` (a module's function) runs first in the process."""
    _start_server()
    output.parent.mkdir(parents=True, exist_ok=True)
    log = output.with_name(f"{output.name}.log")
    arguments = stage_arguments(output, settings, **inputs)
    process = _CONTEXT.Process(target=_child, args=(WORKFLOW / "scripts" / f"{name}.py", arguments, prepare, log))
    process.start()
    process.join()
    return Finished(process.exitcode, log.read_text(encoding="utf-8"))


def succeed(name: str, output: Path, settings: object, prepare: Callable[[], None] | None = None, **inputs) -> Path:
    """Runs a stage that must succeed; returns its output folder."""
    done = run_stage_process(name, output, settings, prepare, **inputs)
    assert done.code == 0, done.text
    return output


def die_at(module: str, function: str, call: int) -> None:
    """Makes a function kill its process, as `kill -9` does, when it is called for the n-th time."""
    holder, calls = sys.modules.get(module) or __import__(module, fromlist=["x"]), []
    original = getattr(holder, function)

    def counted(*arguments, **options):
        calls.append(1)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)

    setattr(holder, function, counted)


def rows_of(path: Path) -> list[dict]:
    return [row for _, row in read_jsonl(path)]
