"""A divergence between student and teacher along texts: the data's, or what the student answers on the way."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from distill.files import read_json, write_json
from distill.losses.divergences import divergence_loss
from distill.losses.states import States
from distill.losses.terms import LossTerms
from distill.methods.gkd.section import OnPolicyRun
from distill.methods.gkd.watched import DivergenceTask, Text, Watched
from distill.models.packing import PackedBatch
from distill.rollouts.replay import Replay
from distill.seeds import stage_seed
from distill.training.context import MethodContext
from distill.training.engine import TrainingEngine
from distill.training.imitation import Pair, labelled_responses, teacher_responses
from distill.training.plain_text import plain_text_term
from distill.training.task import Drawn, Forward

_SOURCES = "sources.json"


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


class OnPolicyDistillation(DivergenceTask):
    """A divergence at each state of a text, a mean over the states of the global batch, plus the plain-text term.

    An item is a prompt with its response in the data. A response that was cut counts in full.
    """

    def __init__(self, context: MethodContext, sources: Sources, plain_text_weight: float = 0.0):
        """`context`: of a run whose section is an `OnPolicyRun`."""
        run: OnPolicyRun = context.run
        super().__init__(context, Watched(run.divergence, run.weight, run.loss_temperature))
        self.train, self.sources, self.run = training_pairs(context), sources, run
        self.plain_text = plain_text_term(context, 0.0) if plain_text_weight > 0 else None
        self.items = len(self.train)
        self.coefficients = {"divergence": 1.0} | ({"plain_text": plain_text_weight} if self.plain_text else {})
        self.store, self._texts = Replay(run.capacity), dict[int, Text]()
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
        batch = self.pack([self._texts[index] for index in indices])
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

    def evaluated(self, step: int, loss: float) -> None:
        """Tells the sources."""
        self.sources.evaluated(loss)

    def save(self, folder: Path) -> None:
        """Writes the store, and the sources of all updates so far, too."""
        super().save(folder)
        self.store.save(folder)
        write_json(folder / _SOURCES, {"chosen": self.chosen, "state": self.sources.state()})

    def load(self, folder: Path) -> None:
        """Reads what `save` wrote."""
        super().load(folder)
        self.store.load(folder)
        saved = read_json(folder / _SOURCES)
        self.chosen = [Source(*own) for own in saved["chosen"]]
        self.sources.restore(saved["state"])

    def _divergence(self, states: States, batch: PackedBatch) -> LossTerms:
        run = self.run
        return divergence_loss(
            states, self.teacher_states(batch), run.divergence, run.weight, run.detach_mixture, run.loss_temperature
        )


def training_pairs(context: MethodContext) -> list[Pair]:
    """Returns the prompts with their responses in the data, human or the teacher's."""
    run = context.run
    if run.responses == "labels":
        return labelled_responses(context)
    return teacher_responses(context, run.samples_per_prompt)
