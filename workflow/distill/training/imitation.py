"""Imitation of fixed responses, human or the teacher's: cross entropy, mixed with the teacher's distribution for KD."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from distill.config.keys import run_key
from distill.data.tokens import encode_file, load_tokenizer
from distill.errors import DataError
from distill.losses.cross_entropy import distilled_nll
from distill.losses.terms import LossTerms
from distill.models.packing import pack_sequences
from distill.records import Sample, read_samples
from distill.training.context import MethodContext
from distill.training.task import Drawn, Forward, Task

_DEV_BATCH = 64

Pairs = list[tuple[list[int], list[int]]]
"""Prompt ids and response ids; a response ends with EOS unless it was cut."""


class LabelledPair(tuple):
    """A pair whose response is a label of the data."""

    __slots__ = ()


class Imitation(Task):
    """(1 - r) CE + r KD over response tokens and EOS, means over the global batch, r = kd_ratio.

    CE is -log q(y_t | s_t); KD is the cross entropy of the teacher's full distribution against the student's, both at
    temperature 1 (forward KL plus the teacher's entropy). With r = 0 no teacher is needed.
    """

    def __init__(
        self,
        train: Pairs,
        dev: Pairs,
        device: torch.device | str,
        teacher: Forward | None = None,
        kd_ratio: float = 0.0,
    ):
        self.train, self.dev, self.device, self.items = train, dev, device, len(train)
        self.teacher, self.kd_ratio, self.coefficients = teacher, kd_ratio, {"response": 1.0}

    def weights(self, indices: Sequence[int], step: int) -> dict[str, float]:
        """Returns the response tokens of a micro-batch."""
        return {"response": sum(len(self.train[index][1]) for index in indices)}

    def losses(self, forward: Forward, indices: Sequence[int], step: int) -> dict[str, LossTerms]:
        """Returns the micro-batch's sums over response tokens."""
        return {"response": self.loss(forward, [self.train[index] for index in indices])}

    def drawn(self, index: int, step: int) -> Drawn:
        """Returns the prompt of a training pair, and whether a human answered it."""
        return Drawn(tuple(self.train[index][0]), isinstance(self.train[index], LabelledPair))

    def evaluate(self, forward: Forward) -> tuple[float, list[dict]]:
        """Returns the loss on the dev responses in nats a token."""
        terms = [self.loss(forward, self.dev[i : i + _DEV_BATCH]) for i in range(0, len(self.dev), _DEV_BATCH)]
        return sum(term.total.item() for term in terms) / sum(term.weight.item() for term in terms), []

    def loss(self, forward: Forward, pairs: Pairs) -> LossTerms:
        """Returns the sums over the response tokens of these pairs; what a child overrides."""
        batch = pack_sequences(pairs, self.device, with_final_state=False)
        teacher = None
        if self.kd_ratio > 0:
            with torch.no_grad():
                teacher = self.teacher(batch)
        return distilled_nll(forward(batch), batch.actions, teacher, self.kd_ratio)


def human_responses(context: MethodContext, path: Path) -> Pairs:
    """Returns the prompts of an examples file with their human responses; of several answers the first."""
    tokenizer, eos_id = load_tokenizer(context.tokenizer)
    examples = encode_file(path, tokenizer, context.wrapper, eos_id)
    return [LabelledPair((example.prompt_ids, example.response_ids)) for example in examples]


def labelled_responses(context: MethodContext) -> Pairs:
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


def teacher_responses(context: MethodContext, per_prompt: int | None) -> Pairs:
    """Returns the teacher's responses to training prompts, the first so many of each prompt; None takes all.

    Raises:
        DataError: there is none, or a prompt has fewer.
    """
    samples = read_samples(context.input("samples") / "samples.jsonl")
    return [
        (samples[place].prompt_ids, samples[place].response_ids)
        for place in chosen_places(context, samples, per_prompt)
    ]


def chosen_places(context: MethodContext, samples: Sequence[Sample], per_prompt: int | None) -> list[int]:
    """Returns the places among all samples of those that `teacher_responses` takes; errors as there."""
    places = [place for place, sample in enumerate(samples) if not sample.held_out]
    fewest = min(Counter(samples[place].id for place in places).values(), default=0)
    if fewest < (per_prompt or 1):
        raise DataError(
            f"{context.input('samples')}: expected at least {per_prompt or 1} samples of each training prompt, found "
            f"{fewest}; raise teacher_samples.per_prompt or lower {run_key(context.name)}.samples_per_prompt"
        )
    return [place for place in places if per_prompt is None or samples[place].sample < per_prompt]


def imitation_task(context: MethodContext, train: Pairs, kd_ratio: float = 0.0) -> Imitation:
    """Returns the task on these training pairs; the dev loss is over the dev set's human responses."""
    dev = human_responses(context, context.dev / "examples.jsonl")
    teacher = context.load_teacher().states if kd_ratio > 0 else None
    return Imitation(train, dev, context.device, teacher, kd_ratio)
