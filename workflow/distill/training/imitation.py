"""Imitation of fixed responses, human or the teacher's: cross entropy, mixed with the teacher's distribution for KD."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from distill.config.keys import run_key
from distill.data.tokens import encode_file, load_tokenizer
from distill.errors import DataError
from distill.losses.cross_entropy import token_nll
from distill.losses.terms import LossTerms
from distill.models.packed import PackedModel
from distill.models.packing import PackedBatch, pack_sequences
from distill.records import read_samples
from distill.training.context import MethodContext
from distill.training.task import Drawn, Forward, Task
from distill.training.teacher import Teacher

_DEV_BATCH = 64


@dataclass(frozen=True)
class Pair:
    """A prompt with a response, which ends with EOS unless it was cut.

    Attributes:
        is_labelled: whether the response is a label of the data.
        place: of the response among the teacher's samples; None for one that is none of them.
    """

    prompt_ids: list[int]
    response_ids: list[int]
    is_labelled: bool = False
    place: int | None = None


class Imitation(Task):
    """(1 - r) CE + r KD over response tokens and EOS, means over the global batch, r = kd_ratio.

    CE is -log q(y_t | s_t); KD is the cross entropy of the teacher's distribution against the student's, both at
    temperature 1 (forward KL plus the teacher's entropy). Without a teacher r is 0; so it is along dev responses, where
    the teacher knows its own samples alone.
    """

    def __init__(
        self,
        train: Sequence[Pair],
        dev: Sequence[Pair],
        device: torch.device | str,
        teacher: Teacher | None = None,
        kd_ratio: float = 0.0,
    ):
        self.train, self.dev, self.device, self.items = train, dev, device, len(train)
        self.teacher, self.kd_ratio, self.coefficients = teacher, kd_ratio, {"response": 1.0}

    def weights(self, indices: Sequence[int], step: int) -> dict[str, float]:
        """Returns the response tokens of a micro-batch."""
        return {"response": sum(len(self.train[index].response_ids) for index in indices)}

    def losses(self, forward: Forward, indices: Sequence[int], step: int) -> dict[str, LossTerms]:
        """Returns the micro-batch's sums over response tokens."""
        return {"response": self.loss(forward, [self.train[index] for index in indices])}

    def drawn(self, index: int, step: int) -> Drawn:
        """Returns the prompt of a training pair, and whether a human answered it."""
        return Drawn(tuple(self.train[index].prompt_ids), self.train[index].is_labelled)

    def evaluate(self, model: PackedModel) -> tuple[float, list[dict]]:
        """Returns the loss on the dev responses in nats a token."""
        terms = [self.loss(model.states, self.dev[i : i + _DEV_BATCH]) for i in range(0, len(self.dev), _DEV_BATCH)]
        return sum(term.total.item() for term in terms) / sum(term.weight.item() for term in terms), []

    def loss(self, forward: Forward, pairs: Sequence[Pair]) -> LossTerms:
        """Returns the sums over the response tokens of these pairs; what a child overrides."""
        batch, places = self.pack(pairs), [pair.place for pair in pairs]
        states = forward(batch)
        if self.teacher is None or (None in places and not self.teacher.knows_any_text):
            return token_nll(states, batch.actions)
        return self.teacher.nll(states, batch, places, self.kd_ratio)

    def pack(self, pairs: Sequence[Pair]) -> PackedBatch:
        """Returns pairs as a batch of the states that predict their responses."""
        return pack_sequences([(pair.prompt_ids, pair.response_ids) for pair in pairs], self.device, False)


def human_responses(context: MethodContext, path: Path) -> list[Pair]:
    """Returns the prompts of an examples file with their human responses; of several answers the first."""
    tokenizer, eos_id = load_tokenizer(context.tokenizer)
    examples = encode_file(path, tokenizer, context.wrapper, eos_id)
    return [Pair(example.prompt_ids, example.response_ids, is_labelled=True) for example in examples]


def labelled_responses(context: MethodContext) -> list[Pair]:
    """Returns the labelled rows of train, as `human_responses`.

    Raises:
        DataError: train has fewer rows.
    """
    train, wanted = human_responses(context, context.split / "train.jsonl"), context.labelled_rows
    if wanted is not None and wanted > len(train):
        raise DataError(
            f"data.labelled_rows: expected at most the {len(train)} rows of train, found {wanted}; lower it or add "
            "instructions"
        )
    return train[:wanted]


def teacher_responses(context: MethodContext, per_prompt: int | None) -> list[Pair]:
    """Returns the teacher's responses to training prompts, the first so many of each prompt; None takes all.

    Raises:
        DataError: there is none, or a prompt has fewer.
    """
    samples = read_samples(context.input("samples") / "samples.jsonl")
    places = [place for place, sample in enumerate(samples) if not sample.held_out]
    fewest = min(Counter(samples[place].id for place in places).values(), default=0)
    if fewest < (per_prompt or 1):
        raise DataError(
            f"{context.input('samples')}: expected at least {per_prompt or 1} samples of each training prompt, found "
            f"{fewest}; raise teacher_samples.per_prompt or lower {run_key(context.name)}.samples_per_prompt"
        )
    return [
        Pair(samples[place].prompt_ids, samples[place].response_ids, place=place)
        for place in places
        if per_prompt is None or samples[place].sample < per_prompt
    ]


def imitation_task(
    context: MethodContext, train: Sequence[Pair], teacher: Teacher | None = None, kd_ratio: float = 0.0
) -> Imitation:
    """Returns the task on these training pairs; the dev loss is over the dev set's human responses."""
    dev = human_responses(context, context.dev / "examples.jsonl")
    return Imitation(train, dev, context.device, teacher, kd_ratio)
