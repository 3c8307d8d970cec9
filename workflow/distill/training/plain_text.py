"""Language modelling on plain-text chunks: the pretraining of scratch models, and the plain-text term of phase 2."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from distill.losses.cross_entropy import plain_text_loss
from distill.losses.terms import LossTerms
from distill.training.task import Forward


class PlainText:
    """Plain-text chunks [chunks, tokens] as a loss term: every position but the first is predicted.

    With a teacher and `kd_ratio` r the term is (1 - r) CE + r KD (authors' scripts: 0.5; paper: 0).
    """

    def __init__(
        self, chunks: np.ndarray, device: torch.device | str, teacher: Forward | None = None, kd_ratio: float = 0.0
    ):
        self.chunks, self.device, self.teacher, self.kd_ratio = (
            torch.from_numpy(chunks).long(),
            device,
            teacher,
            kd_ratio,
        )

    def weight(self, count: int) -> float:
        """Returns the predicted positions of `count` chunks."""
        return count * (self.chunks.shape[1] - 1)

    def loss(self, forward: Forward, indices: Sequence[int]) -> LossTerms:
        """Returns the sums over all predicted positions of the chunks."""
        input_ids = self.chunks[list(indices)].to(self.device)
        count, length = input_ids.shape
        rows = torch.arange(count * length, device=self.device).view(count, length)[:, :-1].flatten()
        arguments: tuple[Tensor, Tensor, Tensor] = (input_ids, torch.ones_like(input_ids), rows)
        teacher_logits = None
        if self.kd_ratio > 0:
            with torch.no_grad():
                teacher_logits = self.teacher(*arguments)
        return plain_text_loss(forward(*arguments), input_ids[:, 1:].flatten(), teacher_logits, self.kd_ratio)


class Pretraining:
    """A training task on plain text alone; the first chunks, at most 64 and at most a tenth, are held out."""

    def __init__(self, chunks: np.ndarray, device: torch.device | str):
        held_out = min(64, len(chunks) // 10)
        self.train, self.dev = PlainText(chunks[held_out:], device), PlainText(chunks[:held_out], device)
        self.items, self.coefficients = len(chunks) - held_out, {"plain_text": 1.0}

    def weights(self, indices: Sequence[int], step: int) -> dict[str, float]:
        """Returns the predicted positions of a micro-batch."""
        return {"plain_text": self.train.weight(len(indices))}

    def losses(self, forward: Forward, indices: Sequence[int], step: int) -> dict[str, LossTerms]:
        """Returns the micro-batch's cross entropy sums."""
        return {"plain_text": self.train.loss(forward, indices)}

    def evaluate(self, forward: Forward) -> tuple[float, list[dict]]:
        """Returns the held-out cross entropy in nats a token."""
        return self.dev.loss(forward, range(len(self.dev.chunks))).mean.item(), []
