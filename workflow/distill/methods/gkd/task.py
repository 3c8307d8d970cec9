"""A divergence between student and teacher along texts: the data's, or what the student answers on the way."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from distill.data.tokens import load_tokenizer
from distill.errors import DataError
from distill.files import read_json, write_json
from distill.losses.cross_entropy import token_nll
from distill.losses.divergences import divergence_loss, state_divergences
from distill.losses.states import States
from distill.losses.terms import LossTerms
from distill.methods.gkd.section import OnPolicyRun
from distill.models.packed import PackedModel
from distill.models.packing import PackedBatch, pack_sequences
from distill.records import Sample, read_samples
from distill.rollouts.replay import Replay
from distill.rollouts.rollout import Rollout, load_rollouts, save_rollouts
from distill.rollouts.sampler import Sampler
from distill.seeds import stage_seed
from distill.training.context import MethodContext
from distill.training.engine import TrainingEngine
from distill.training.imitation import Pair, human_responses, labelled_responses, teacher_responses
from distill.training.plain_text import PlainText, plain_text_term
from distill.training.task import Drawn, Forward, Task

_DEV_BATCH = 64
_STARTS, _SOURCES = "starts.safetensors", "sources.json"

Text = Pair | Rollout | Sample


class Source(NamedTuple):
    """Which texts an update learns from: stored answers (`replay`), else the student's (`fresh`), else the data's.

    `fresh`: the student answers the update's prompts, and its answers are stored.
    """

    fresh: bool
    replay: bool


class Sources(Protocol):
    """Says which texts each update learns from; the same on every process."""

    def choose(self, step: int, uniform: float, store: Replay) -> Source:
        """Returns the source of update `step`, counted from 0, by a number in [0, 1)."""
        ...

    def evaluated(self, loss: float) -> None:
        """Hears the dev loss."""
        ...

    def state(self) -> dict[str, Any]:
        """Returns what a resumed run needs, as JSON."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Takes what `state` returned."""
        ...


@dataclass(frozen=True)
class StudentShare:
    """GKD: an update learns from student answers with a fixed probability (lambda), else from the data."""

    share: float
    replay: bool = False

    def choose(self, step: int, uniform: float, store: Replay) -> Source:
        """Returns the source; one draw an update, where TRL draws once a process."""
        # A uniform number is below 1, so that a share of 1 always samples and one of 0 never does.
        is_student = uniform < self.share
        return Source(is_student, is_student and self.replay)

    def evaluated(self, loss: float) -> None:
        """Nothing changes."""

    def state(self) -> dict[str, Any]:
        """Returns nothing."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes nothing."""


class OnPolicyDistillation(Task):
    """A divergence at each state of a text, a mean over the states of the global batch, plus the plain-text term.

    An item is a prompt with its response in the data. A response that was cut counts in full. The dev loss is the cross
    entropy of dev's human responses; the rows are the divergence along two fixed texts behind each held-out prompt, a
    mean over a text's states: the teacher's first sample, and the answer of the model that the run started from.
    """

    def __init__(
        self,
        train: Sequence[Pair],
        dev: Sequence[Pair],
        held_out: Sequence[Sample],
        teacher: PackedModel,
        sampler: Sampler,
        sources: Sources,
        run: OnPolicyRun,
        plain_text: PlainText | None,
        plain_text_weight: float,
        seed: tuple[int | str, ...],
        device: torch.device | str,
    ):
        self.train, self.dev, self.held_out, self.teacher = train, dev, held_out, teacher
        self.sampler, self.sources, self.run, self.seed, self.device = sampler, sources, run, seed, device
        self.plain_text, self.items = plain_text, len(train)
        self.coefficients = {"divergence": 1.0} | ({"plain_text": plain_text_weight} if plain_text else {})
        self.store, self._starts, self._texts = Replay(run.capacity), list[Rollout](), dict[int, Text]()
        self.chosen: list[Source] = []

    def prepare(self, engine: TrainingEngine, step: int, batch: Sequence[int]) -> None:
        """Chooses the texts of an update, and samples them where the student answers."""
        uniform = np.random.default_rng(stage_seed(*self.seed, "source", step)).random()
        source = self.sources.choose(step, uniform, self.store)
        self.chosen.append(source)
        texts: Sequence[Text] = [self.train[index] for index in batch]
        if source.fresh:
            seeds = [stage_seed(*self.seed, "answer", step, index) for index in batch]
            texts = self.sampler.answer(engine, [text.prompt_ids for text in texts], seeds)
            self.store.add(texts)
        if source.replay:
            texts = self.store.draw(len(batch), stage_seed(*self.seed, "replay", step))
        self._texts = dict(zip(batch, texts, strict=True))

    def weights(self, indices: Sequence[int], step: int) -> dict[str, float]:
        """Returns the states of a micro-batch and its plain-text positions."""
        counts = {"divergence": sum(len(self._texts[index].response_ids) for index in indices)}
        return counts | ({"plain_text": self.plain_text.weight(len(indices))} if self.plain_text else {})

    def losses(self, forward: Forward, indices: Sequence[int], step: int) -> dict[str, LossTerms]:
        """Returns the sums of a micro-batch of the update that was prepared last."""
        batch = self._pack([self._texts[index] for index in indices])
        terms = self._divergence(forward(batch), batch)
        count = terms.weight.new_tensor(len(indices))
        is_own = any(self.chosen[-1])
        metrics = {"response_length": (terms.weight, count), "student_share": (count * is_own, count)}
        found = {"divergence": replace(terms, metrics=metrics)}
        if self.plain_text:
            found["plain_text"] = self.plain_text.draw(forward, indices, (*self.seed, "plain_text", step))
        return found

    def drawn(self, index: int, step: int) -> Drawn | None:
        """Returns an item's prompt; None where the update learnt from answers that were stored before."""
        source, pair = self.chosen[step], self.train[index]
        if source.replay and not source.fresh:
            return None
        is_data = not source.fresh
        return Drawn(tuple(pair.prompt_ids), is_data and pair.is_labelled, is_data)

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

    def evaluated(self, step: int, loss: float) -> None:
        """Tells the sources."""
        self.sources.evaluated(loss)

    def save(self, folder: Path) -> None:
        """Writes the start's answers, the store, and the sources of all updates so far."""
        save_rollouts(folder / _STARTS, self._starts)
        self.store.save(folder)
        write_json(folder / _SOURCES, {"chosen": self.chosen, "state": self.sources.state()})

    def load(self, folder: Path) -> None:
        """Reads what `save` wrote."""
        self._starts = load_rollouts(folder / _STARTS)
        self.store.load(folder)
        saved = read_json(folder / _SOURCES)
        self.chosen = [Source(*own) for own in saved["chosen"]]
        self.sources.restore(saved["state"])

    def _means(self, model: PackedModel, texts: Sequence[Text]) -> list[float]:
        """Returns the divergence along each text, a mean over its states."""
        run, means = self.run, []
        for batch in self._batches(texts):
            states = model.states(batch), self._teacher_states(batch)
            values = state_divergences(*states, run.divergence, run.weight, run.loss_temperature)
            means += [own.mean().item() for own in values.split(batch.response_lengths)]
        return means

    def _divergence(self, states: States, batch: PackedBatch) -> LossTerms:
        run = self.run
        return divergence_loss(
            states, self._teacher_states(batch), run.divergence, run.weight, run.detach_mixture, run.loss_temperature
        )

    @torch.no_grad()
    def _teacher_states(self, batch: PackedBatch) -> States:
        return self.teacher.states(batch)

    def _pack(self, texts: Sequence[Text]) -> PackedBatch:
        return pack_sequences([(text.prompt_ids, text.response_ids) for text in texts], self.device, False)

    def _batches(self, texts: Sequence[Text]) -> Iterator[PackedBatch]:
        return (self._pack(texts[start : start + _DEV_BATCH]) for start in range(0, len(texts), _DEV_BATCH))


def on_policy_task(context: MethodContext, sources: Sources, plain_text_weight: float = 0.0) -> OnPolicyDistillation:
    """Returns the task of a run whose section is an `OnPolicyRun`."""
    run, device, seed = context.run, context.device, (context.seed, context.name)
    samples = read_samples(context.input("samples") / "samples.jsonl")
    held_out = [sample for sample in samples if sample.held_out and sample.sample == 0]
    if not held_out:
        raise DataError(
            f"{context.input('samples')}: expected samples of held-out prompts, found none; rerun sample_teacher or "
            "complete the external samples"
        )
    _, eos_id = load_tokenizer(context.tokenizer)
    sampler = Sampler(
        eos_id,
        run.max_new_tokens,
        run.training.micro_batch,
        run.sampling_temperature,
        process=context.rollout_engine,
    )
    dev = human_responses(context, context.dev / "examples.jsonl")
    plain_text = plain_text_term(context, 0.0) if plain_text_weight > 0 else None
    return OnPolicyDistillation(
        training_pairs(context),
        dev,
        held_out,
        context.load_teacher(),
        sampler,
        sources,
        run,
        plain_text,
        plain_text_weight,
        seed,
        device,
    )


def training_pairs(context: MethodContext) -> list[Pair]:
    """Returns the prompts with their responses in the data, human or the teacher's."""
    run = context.run
    if run.responses == "labels":
        return labelled_responses(context)
    return teacher_responses(context, run.samples_per_prompt)
