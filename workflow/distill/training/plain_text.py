"""Language modelling on plain-text chunks: the pretraining of scratch models, and the plain-text term of phase 2."""

from collections.abc import Sequence

import numpy as np
import torch

from distill.data.plain_text import read_chunks
from distill.data.tokens import load_tokenizer
from distill.losses.cross_entropy import token_nll
from distill.losses.terms import LossTerms
from distill.models.packed import PackedModel
from distill.models.packing import pack_sequences
from distill.seeds import stage_seed
from distill.training.context import MethodContext
from distill.training.task import Forward, Task
from distill.training.teacher import LiveTeacher, Teacher

Chunks = np.ndarray | Sequence[np.ndarray]
"""Token ids: chunks of one length, [chunks, tokens], or documents of several."""


class PlainText:
    """Plain text as a loss term: every position but the first of a sequence is predicted.

    With a teacher that knows any text and `kd_ratio` r the term is (1 - r) CE + r KD (authors' scripts: 0.5; paper: 0).
    """

    def __init__(
        self,
        chunks: Chunks,
        device: torch.device | str,
        teacher: Teacher | None = None,
        kd_ratio: float = 0.0,
    ):
        self.chunks, self.device, self.teacher, self.kd_ratio = chunks, device, teacher, kd_ratio

    def weight(self, count: int) -> float:
        """Returns the predicted positions of `count` chunks of one length, which `draw` takes."""
        return count * (len(self.chunks[0]) - 1)

    def loss(self, forward: Forward, indices: Sequence[int]) -> LossTerms:
        """Returns the sums over all predicted positions of the chunks."""
        batch = pack_sequences([(self.chunks[i][:1], self.chunks[i][1:]) for i in indices], self.device, False)
        if self.teacher is None:
            return token_nll(forward(batch), batch.actions)
        return self.teacher.nll(forward(batch), batch, (), self.kd_ratio)

    def draw(self, forward: Forward, items: Sequence[int], seed: tuple[int | str, ...]) -> LossTerms:
        """Returns the sums over one chunk for each training item, chosen by (seed, item)."""
        return self.loss(forward, [stage_seed(*seed, item) % len(self.chunks) for item in items])


def plain_text_term(context: MethodContext, kd_ratio: float) -> PlainText:
    """Returns the plain-text term of a training run, with the teacher where kd_ratio is above 0."""
    tokenizer, eos_id = load_tokenizer(context.tokenizer)
    chunks = read_chunks(context.input("plain_text"), tokenizer, eos_id, context.plain_text_tokens)
    teacher = LiveTeacher(context.load_teacher()) if kd_ratio > 0 else None
    return PlainText(chunks, context.device, teacher, kd_ratio)


class Pretraining(Task):
    """A training task on plain text alone; the first sequences, at most 64 and at most a tenth, are held out."""

    def __init__(self, sequences: Chunks, device: torch.device | str):
        held_out = min(64, len(sequences) // 10)
        self.train, self.dev = PlainText(sequences[held_out:], device), PlainText(sequences[:held_out], device)
        self.items, self.coefficients = len(sequences) - held_out, {"plain_text": 1.0}

    def weights(self, indices: Sequence[int], step: int) -> dict[str, float]:
        """Returns the predicted positions of a micro-batch."""
        return {"plain_text": sum(len(self.train.chunks[index]) - 1 for index in indices)}

    def losses(self, forward: Forward, indices: Sequence[int], step: int) -> dict[str, LossTerms]:
        """Returns the micro-batch's cross entropy sums."""
        return {"plain_text": self.train.loss(forward, indices)}

    def evaluate(self, model: PackedModel) -> tuple[float, list[dict]]:
        """Returns the held-out cross entropy in nats a token."""
        return self.dev.loss(model.states, range(len(self.dev.chunks))).mean.item(), []
