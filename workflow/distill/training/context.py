"""What a training run hands its method: settings, data folders, and models; each method takes what it needs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from distill.errors import DataError
from distill.models.packed import PackedModel
from distill.rollouts.engine_process import EngineProcess


def _nothing(name: str) -> PackedModel:
    raise DataError(f"{name}: expected a context that loads models, found one that does not; give it load_frozen")


@dataclass(frozen=True)
class MethodContext:
    """Inputs of one training run.

    Attributes:
        name: the run's name, part of its seeds.
        seed: the study's seed.
        run: the run's config section, of the method's own type.
        wrapper, plain_text_tokens: prompt wrapper and chunk length of the config's data section.
        labelled_rows: how many rows of train, from the first, the run may take responses from; None for all.
        prompts: how many rows of train, from the first, it may take prompts from; None for all.
        split, dev, tokenizer: sealed folders.
        inputs: sealed folders of what the run needs, by input as in `distill.methods.needs`.
        load_teacher: loads the fine-tuned teacher in eval mode, once; only called by methods that need it.
        device: where tensors go.
        load_frozen: loads the model of an input in eval mode: `start`, or one of `inputs`.
        rollout_engine: answers prompts with the student's weights in a process of its own, where the run asks for it.
    """

    name: str
    seed: int
    run: Any
    wrapper: str
    plain_text_tokens: int
    labelled_rows: int | None
    prompts: int | None
    split: Path
    dev: Path
    tokenizer: Path
    inputs: dict[str, list[Path]]
    load_teacher: Callable[[], PackedModel]
    device: torch.device | str
    load_frozen: Callable[[str], PackedModel] = _nothing
    rollout_engine: EngineProcess | None = None

    def input(self, name: str) -> Path:
        """Returns the one folder of an input."""
        (folder,) = self.inputs[name]
        return folder
