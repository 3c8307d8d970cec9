"""A published model that answers plain messages, by its own chat template and the transformers engine."""

import os
import sys
from pathlib import Path
from typing import Any

from jinja2.exceptions import TemplateError, TemplateSyntaxError
from transformers import AutoTokenizer

from distill.data.chat_template import TEMPLATE, conversation
from distill.data.tokens import load_tokenizer, response_text
from distill.errors import DataError, ModelError
from distill.models.folders import read_model_json
from distill.models.load import quiet
from distill.sampling.engines import open_engine
from distill.sampling.protocol import EngineSettings, Request


class Student:
    """A published model in memory."""

    def __init__(self, folder: Path):
        """Loads the folder.

        Raises:
            ModelError: it is damaged, or does not say how it is asked.
        """
        quiet()
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
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except ValueError as error:
            raise ModelError(f"{folder}: expected a tokenizer with a template, found {error}; copy it again") from error

    def answer(self, instruction: str, input: str = "") -> str:
        """Returns the greedy answer to an instruction with its input, "" if none.

        Raises:
            DataError: the template refuses the prompt, or it is no text, or too long for the model.
        """
        try:
            (instruction + input).encode()  # no tokenizer takes half a character
            ids = self.tokenizer.apply_chat_template(conversation(instruction, input), return_dict=False)
        except TemplateError as error:
            fix = "copy the folder again" if isinstance(error, TemplateSyntaxError) else "change the prompt"
            raise DataError(f"{self.template}: {error}; {fix}") from error
        except UnicodeEncodeError as error:
            raise DataError(f"the prompt: expected a text in UTF-8, found {error}; change it") from error
        (done,) = self.engine.generate([Request("prompt", ids, 0)], 0.0, 1.0, self.max_new_tokens)
        return response_text(self.vocabulary, done.token_ids)
