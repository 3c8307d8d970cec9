"""Asks published models at the terminal: `python -m distill chat MODEL` and `ask A B`.

Prompts go through the model's own chat template, and the transformers engine answers on the CPU in float32, greedily.
Nothing is downloaded, and no code of a model runs.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path

from distill.command import Command, say
from distill.errors import DataError
from distill.files import read_jsonl


def _lines() -> Iterator[str]:
    """Yields what is typed or piped in, without blank lines, to its end."""
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return
        if line.strip():
            yield line


def _chat(options: Namespace) -> int:
    if sys.stdin is None:
        raise DataError("standard input: expected prompts, found it closed; type them, or pipe them in")
    from distill.sampling.student import Student  # libraries that an environment for audits lacks

    student = Student(options.model)
    for line in _lines():
        say(*student.answer(line).splitlines())
    return 0


def _prompts(options: Namespace) -> Iterator[tuple[str, str]]:
    """Yields (instruction, input)."""
    if options.prompt is not None:
        yield options.prompt, options.input
        return
    for number, row in read_jsonl(options.file):
        instruction, given = row.get("instruction"), row.get("input", "")
        if not isinstance(instruction, str) or not isinstance(given, str):
            raise DataError(
                f"{options.file}:{number}: expected texts as instruction and input, found {instruction!r} and "
                f"{given!r}; fix this line"
            )
        yield instruction, given


def _ask(options: Namespace) -> int:
    prompts = [*_prompts(options)]
    from distill.sampling.student import Student

    students = {folder: Student(folder) for folder in (options.first, options.second)}
    for instruction, input in prompts:
        say(*f"> {instruction}\n{input}".splitlines())
        for folder, student in students.items():
            say(*f"{folder}: {student.answer(instruction, input)}".splitlines())
    return 0


def _add_chat(parser: ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model folder of a study: results/models/SYSTEM")


def _add_ask(parser: ArgumentParser) -> None:
    for name in ("first", "second"):
        parser.add_argument(name, type=Path, metavar=name.upper(), help="a model folder: results/models/SYSTEM")
    prompts = parser.add_mutually_exclusive_group(required=True)
    prompts.add_argument("--prompt", metavar="TEXT", help="an instruction")
    prompts.add_argument("--file", type=Path, help="JSONL with instruction and input, as data/evaluation/SET has it")
    parser.add_argument("--input", default="", metavar="TEXT", help="what goes with --prompt (default: nothing)")


CHAT = Command("chat", "answer each line on standard input, each alone, with a trained model", _add_chat, _chat)
ASK = Command("ask", "answer the same prompts with two trained models", _add_ask, _ask)
