"""Answers of a model in training by a sampling engine in another process, which takes its weights before each round."""

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from distill.errors import DataError
from distill.models.load import save_model
from distill.models.packed import PackedModel
from distill.sampling.protocol import EngineSettings

_OF_TRAINING = ("RANK", "WORLD_SIZE", "LOCAL_", "GROUP_", "ROLE_", "MASTER_", "TORCHELASTIC_", "DS_ACCELERATOR")
"""Variables that would make an engine believe that it is a part of the training's process group."""


class EngineProcess:
    """`distill.sampling.serve`, started at the first answer and ended with this process.

    Args:
        python: the interpreter of the engine's environment.
        settings: of the engine.
        vocabulary: how many ids the tokenizer can name.
        tokenizer: folder of the tokenizer, whose files belong to a model folder.
    """

    def __init__(self, python: str, settings: EngineSettings, vocabulary: int, tokenizer: Path):
        self._command = [python, "-m", "distill.sampling.serve", json.dumps(asdict(settings)), str(vocabulary)]
        self._tokenizer = tokenizer
        self._process: subprocess.Popen[str] | None = None

    def answer(
        self,
        student: PackedModel,
        prompts: Sequence[list[int]],
        seeds: Sequence[int],
        max_new_tokens: int,
        temperature: float,
    ) -> list[list[int]]:
        """Returns one response a prompt, drawn from the student's weights of now, each by a seed of its own.

        Raises:
            DataError: the engine refused, or its process ended.
        """
        if not prompts:
            return []
        asked = {
            "requests": [
                {"id": str(place), "prompt_ids": prompt, "seed": seed}
                for place, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True))
            ],
            "temperature": temperature,
            "top_p": 1.0,
            "max_new_tokens": max_new_tokens,
        }
        with TemporaryDirectory(prefix="rollouts-") as weights:
            save_model(student.model, self._tokenizer, Path(weights))
            answer = self._ask(asked | {"weights": weights})
        return [completion["token_ids"] for completion in answer["completions"]]

    def _ask(self, asked: dict[str, Any]) -> dict[str, Any]:
        if self._process is None:
            try:
                self._process = subprocess.Popen(
                    self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment()
                )
            except OSError as error:
                raise DataError(
                    f"environments.vllm.python: expected an interpreter, found {self._command[0]}: {error.strerror}; "
                    "name the one of an environment with the engine"
                ) from error
        assert self._process.stdin is not None and self._process.stdout is not None  # pipes
        try:
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise DataError(
                f"rollout_engine: expected the sampling process to answer, found it ended with code "
                f"{self._process.wait()}; its messages stand above, in this log"
            )
        answer = json.loads(line)
        if "error" in answer:
            raise DataError(f"rollout_engine: {answer['error']}")
        return answer


def _environment() -> dict[str, str]:
    """Returns this process's variables without those of its process group, with its own device as the only one."""
    found = {key: value for key, value in os.environ.items() if not key.startswith(_OF_TRAINING)}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    rank = os.environ.get("LOCAL_RANK", "0")
    device = visible[int(rank)] if len(visible) > 1 else visible[0] or rank
    return found | {"CUDA_VISIBLE_DEVICES": device}
