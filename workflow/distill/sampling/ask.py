"""Asks published models at the terminal: `python -m distill chat MODEL` and `ask A B`.

Prompts go through the model's own chat template, and the transformers engine answers on the CPU in float32, greedily.
Nothing is downloaded, and no code of a model runs.
"""

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill.command import Command, say
from distill.data.chat_template import TEMPLATE, conversation
from distill.data.tokens import load_tokenizer, response_text
from distill.errors import DataError, ModelError
from distill.files import read_jsonl
from distill.models.folders import read_model_json
from distill.sampling.engines import open_engine
from distill.sampling.protocol import EngineSettings, Request


class Student:
    """A published model in memory."""

    def __init__(self, folder: Path):
        """Loads the folder.

        Raises:
            ModelError: it is damaged, or does not say how it is asked.
        """
        self.template = folder / TEMPLATE
        if not self.template.is_file():
            raise ModelError(f"{self.template}: expected a chat template, found none; give models/SYSTEM of a study")
        length = read_model_json(folder / "generation_config.json").get("max_new_tokens")
        if not isinstance(length, int):
            raise ModelError(
                f"{folder / 'generation_config.json'}: expected max_new_tokens to be a number, found {length!r}; give "
                "models/SYSTEM of a study"
            )
        self.max_new_tokens = length
        config = read_model_json(folder / "config.json")
        positions = config.get("max_position_embeddings") or config.get("n_positions") or sys.maxsize
        threads = len(os.sched_getaffinity(0))
        self.engine = open_engine(folder, EngineSettings("transformers", max_model_len=positions, threads=threads))
        self.vocabulary, _ = load_tokenizer(folder)
        from transformers import AutoTokenizer  # seconds, which no other sub-command should take

        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)

    def answer(self, instruction: str, input: str = "") -> str:
        """Returns the greedy answer to an instruction with its input, "" if none.

        Raises:
            DataError: the template refuses the prompt, or it is too long for the model.
        """
        from jinja2.exceptions import TemplateError

        try:
            ids = self.tokenizer.apply_chat_template(conversation(instruction, input), return_dict=False)
        except TemplateError as error:
            raise DataError(f"{self.template}: {error}; change the prompt") from error
        (done,) = self.engine.generate([Request("prompt", ids, 0)], 0.0, 1.0, self.max_new_tokens)
        return response_text(self.vocabulary, done.token_ids)


def _lines() -> Iterator[str]:
    """Yields what is typed or piped in, without blank lines, to its end."""
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "")
        except (EOFError, KeyboardInterrupt):
            return
        if line.strip():
            yield line


def _chat(options: Namespace) -> int:
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
