"""DistiLLM-2 at work: a teacher's and a student's answer to each prompt, both fixed before the training."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from distill.files import read_json, write_json
from distill.losses.divergences import divergence_loss
from distill.losses.terms import LossTerms
from distill.methods.gkd.watched import DivergenceTask, Text, Watched
from distill.rollouts.rollout import Rollout, load_rollouts, save_rollouts
from distill.seeds import stage_seed
from distill.training.context import MethodContext
from distill.training.engine import TrainingEngine
from distill.training.imitation import teacher_responses
from distill.training.task import Drawn, Forward

if TYPE_CHECKING:
    from distill.methods.distillm2 import Distillm2Run

_ANSWERS, _ITEMS = "answers.safetensors", "answers.json"


class Contrastive(DivergenceTask):
    """(2 - b) SKL along the teacher's answer + b SRKL along the start's, each a mean over its tokens, then over items.

    An item is a teacher's response to a prompt. The model that the run started from answers the prompt when the item
    comes for the first time; an item has one such answer, however often it comes.
    """

    def __init__(self, context: MethodContext):
        """`context`: of a run whose section is a `Distillm2Run`."""
        run: Distillm2Run = context.run
        super().__init__(context, Watched("skew_kl", run.skew))
        self.run, self.start = run, context.load_frozen("start")
        self.train = teacher_responses(context, run.samples_per_prompt)
        self.items, self._answers = len(self.train), dict[int, Rollout]()
        self.coefficients = {"teacher_text": 2 - run.student_weight, "student_text": run.student_weight}

    def prepare(self, engine: TrainingEngine, step: int, batch: Sequence[int]) -> None:
        """Samples the start's answers to the items of an update that have none yet."""
        new = [index for index in batch if index not in self._answers]
        seeds = [stage_seed(*self.seed, "answer", index) for index in new]
        prompts = [self.train[index].prompt_ids for index in new]
        self._answers |= zip(new, self.sampler.answer(engine, prompts, seeds, self.start), strict=True)

    def weights(self, indices: Sequence[int], step: int) -> dict[str, float]:
        """Returns the items of a micro-batch."""
        return dict.fromkeys(self.coefficients, len(indices))

    def losses(self, forward: Forward, indices: Sequence[int], step: int) -> dict[str, LossTerms]:
        """Returns the sums of a micro-batch of the update that was prepared last."""
        teacher, student = ([held[index] for index in indices] for held in (self.train, self._answers))
        return {
            "teacher_text": self._divergence(forward, teacher, "skew_kl", detach=False),
            "student_text": self._divergence(forward, student, "skew_reverse_kl", self.run.detach_mixture),
        }

    def drawn(self, index: int, step: int) -> Drawn:
        """Returns the prompt of an item, which the teacher answered."""
        return Drawn(tuple(self.train[index].prompt_ids), is_labelled=False)

    def save(self, folder: Path) -> None:
        """Writes the answers of the items that came, too."""
        super().save(folder)
        save_rollouts(folder / _ANSWERS, list(self._answers.values()))
        write_json(folder / _ITEMS, list(self._answers))

    def load(self, folder: Path) -> None:
        """Reads what `save` wrote."""
        super().load(folder)
        self._answers = dict(zip(read_json(folder / _ITEMS), load_rollouts(folder / _ANSWERS), strict=True))

    def _divergence(self, forward: Forward, texts: Sequence[Text], name: str, detach: bool) -> LossTerms:
        batch = self.pack(texts)
        lengths = torch.tensor(batch.response_lengths, device=self.device)
        by_text = (1 / lengths).repeat_interleave(lengths)
        skew = self.run.skew
        states = forward(batch), self.teacher_states(batch)
        terms = divergence_loss(*states, name, skew, detach, state_weights=by_text)
        return replace(terms, weight=terms.weight.new_tensor(len(texts)))  # what the parts of 1 add up to, unrounded
