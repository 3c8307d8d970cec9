"""What a task is made from, and a training loop without DeepSpeed, for tests that look into a task."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from distill.config.runs import Run
from distill.models.packed import PackedModel
from distill.training.context import MethodContext
from distill.training.order import batch_indices
from distill.training.task import Task


def make_context(folders: Mapping[str, Path], run: Run, **own: Any) -> MethodContext:
    """Returns the context of a run on sealed folders by name; `own`: what is other than usual."""
    usual = {"name": "tried", "seed": 10, "wrapper": "short", "plain_text_tokens": 16, "device": "cpu"}
    usual |= {"labelled_rows": None, "prompts": None, "inputs": {}}
    parts = {part: folders[part] for part in ("split", "dev", "tokenizer")}
    return MethodContext(run=run, **usual | parts | own)


@dataclass
class Trainer:
    """A plain loop over the task, with what the task asks of an engine."""

    task: Task
    model: PackedModel
    batch: int = 4
    micro_batch: int = 4
    learning_rate: float = 1e-3
    rank: int = 0
    world: int = 1
    shares: list = field(default_factory=list)

    def __post_init__(self):
        self.model.train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), self.learning_rate)

    def gather(self, values):
        self.shares.append(values)
        return values

    def gradients(self, step):
        """Returns the loss of an update after adding up the gradients of its micro-batches."""
        indices = batch_indices(step, self.task.items, self.batch, "order")
        self.task.prepare(self, step, indices)
        weights, total = self.task.weights(indices, step), 0.0
        self.optimizer.zero_grad()
        for start in range(0, self.batch, self.micro_batch):
            micro = indices[start : start + self.micro_batch]
            terms = self.task.losses(self.model.states, micro, step)
            assert {name: term.weight.item() for name, term in terms.items()} == self.task.weights(micro, step)
            loss = sum(self.task.coefficients[name] * term.total / weights[name] for name, term in terms.items())
            loss.backward()
            total += loss.item()
        return total

    def run(self, steps):
        losses = []
        for step in steps:
            losses.append(self.gradients(step))
            self.optimizer.step()
        return losses
