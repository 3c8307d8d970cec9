"""Pretraining of a scratch model on plain text."""

import shutil
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from distill.checkpoints import CHECKPOINTS, checkpoint_name
from distill.config.base_models import ScratchModel
from distill.config.slices.make_base import MakeBase
from distill.data.plain_text import read_chunks, read_separately
from distill.data.tokens import load_tokenizer
from distill.models.load import save_model
from distill.models.packed import PackedModel
from distill.training.engine import TrainingEngine, local_device
from distill.training.loop import TrainingPlan, train
from distill.training.order import plan_steps
from distill.training.plain_text import Pretraining


def pretrain(
    model: PreTrainedModel,
    settings: MakeBase,
    tokenizer: Path,
    plain_text: Path,
    state: Path,
    output: Path,
    minutes: float,
    tracker: tuple[str, str] | None = None,
) -> dict[str, Any]:
    """Pretrains the model and writes its last checkpoint with the training log; returns notes for the record.

    The state that outlives a kill lies in `state`; it is saved every so many `minutes`, too.
    A `tracker`, package and project, shows the curves, too.
    """
    assert isinstance(settings.model, ScratchModel), "no other base is pretrained here"
    fast_tokenizer, eos_id = load_tokenizer(tokenizer)
    read = read_separately if settings.model.documents == "apart" else read_chunks
    sequences = read(plain_text, fast_tokenizer, eos_id, settings.plain_text_tokens)
    training = settings.model.pretraining
    task = Pretraining(sequences, local_device(settings.deepspeed))
    steps = plan_steps(training, task.items, f"models.{settings.role}.pretraining")
    engine = TrainingEngine(PackedModel(model), training, settings.deepspeed, steps)
    plan = TrainingPlan(settings.seed, f"pretrain-{settings.role}", training, steps)

    def save(folder: Path) -> None:
        save_model(model, tokenizer, folder)

    resumes = train(engine, task, plan, state, save, output, minutes, tracker)
    if engine.rank == 0:
        last = output / CHECKPOINTS / checkpoint_name(steps)
        for path in last.iterdir():
            path.rename(output / path.name)
        shutil.rmtree(output / CHECKPOINTS)
    return {"updates": steps, "sequences": task.items, "resumes": resumes}
