"""What runs share that match the teacher along texts: they watch the divergence along two fixed texts a prompt."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from distill.data.tokens import load_tokenizer
from distill.errors import DataError
from distill.losses.cross_entropy import token_nll
from distill.losses.divergences import state_divergences
from distill.losses.states import States
from distill.models.packed import PackedModel
from distill.models.packing import PackedBatch, pack_sequences
from distill.records import Sample, read_samples
from distill.rollouts.rollout import Rollout, load_rollouts, save_rollouts
from distill.rollouts.sampler import Sampler
from distill.seeds import stage_seed
from distill.training.context import MethodContext
from distill.training.imitation import Pair, human_responses
from distill.training.task import Task

_DEV_BATCH = 64
_STARTS = "starts.safetensors"

Text = Pair | Rollout | Sample


class Watched(NamedTuple):
    """The divergence that a run watches, with its weight, and what divides both models' logits."""

    divergence: str
    weight: float | None
    temperature: float = 1.0


class DivergenceTask(Task):
    """A task that learns from a teacher along texts.

    The dev loss is the cross entropy of dev's human responses; the rows are the watched divergence along two fixed
    texts behind each held-out prompt, a mean over a text's states: the teacher's first sample, and the answer of the
    model that the run started from.
    """

    def __init__(self, context: MethodContext, watched: Watched):
        """`context`: of a run whose section is a `SamplingRun` with a `sampling_temperature`."""
        run = context.run
        folder = context.input("samples")
        samples = read_samples(folder / "samples.jsonl")
        self.held_out = [sample for sample in samples if sample.held_out and sample.sample == 0]
        if not self.held_out:
            raise DataError(
                f"{folder}: expected samples of held-out prompts, found none; rerun sample_teacher or complete the "
                "external samples"
            )
        _, eos_id = load_tokenizer(context.tokenizer)
        self.sampler = Sampler(
            eos_id,
            run.max_new_tokens,
            run.training.micro_batch,
            run.sampling_temperature,
            process=context.rollout_engine,
        )
        self.dev = human_responses(context, context.dev / "examples.jsonl")
        self.teacher, self.device = context.load_teacher(), context.device
        self.watched, self.seed, self._starts = watched, (context.seed, context.name), list[Rollout]()

    def evaluate(self, model: PackedModel) -> tuple[float, list[dict]]:
        """Returns the dev loss in nats a token, and the divergence along each fixed text; see the class."""
        total = tokens = 0.0
        for batch in self._batches(self.dev):
            terms = token_nll(model.states(batch), batch.actions)
            total, tokens = total + terms.total.item(), tokens + terms.weight.item()
        if not self._starts:  # the model is the start
            seeds = [stage_seed(*self.seed, "held_out", sample.id) for sample in self.held_out]
            self._starts = self.sampler.sample(model, [sample.prompt_ids for sample in self.held_out], seeds)
        along_teacher, along_start = map(partial(self._means, model), (self.held_out, self._starts))
        rows = [
            {"id": sample.id, "loss": (one + two) / 2, "along_teacher": one, "along_start": two}
            for sample, one, two in zip(self.held_out, along_teacher, along_start, strict=True)
        ]
        return total / tokens, rows

    def save(self, folder: Path) -> None:
        """Writes the start's answers."""
        save_rollouts(folder / _STARTS, self._starts)

    def load(self, folder: Path) -> None:
        """Reads what `save` wrote."""
        self._starts = load_rollouts(folder / _STARTS)

    def _means(self, model: PackedModel, texts: Sequence[Text]) -> list[float]:
        """Returns the divergence along each text, a mean over its states."""
        means = []
        for batch in self._batches(texts):
            values = state_divergences(model.states(batch), self.teacher_states(batch), *self.watched)
            means += [own.mean().item() for own in values.split(batch.response_lengths)]
        return means

    @torch.no_grad()
    def teacher_states(self, batch: PackedBatch) -> States:
        """Returns the teacher's states of a batch."""
        return self.teacher.states(batch)

    def pack(self, texts: Sequence[Text]) -> PackedBatch:
        """Returns texts as a batch of the states that predict their responses."""
        return pack_sequences([(text.prompt_ids, text.response_ids) for text in texts], self.device, False)

    def _batches(self, texts: Sequence[Text]) -> Iterator[PackedBatch]:
        return (self.pack(texts[start : start + _DEV_BATCH]) for start in range(0, len(texts), _DEV_BATCH))
