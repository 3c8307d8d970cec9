"""ADPA's task."""

from collections.abc import Sequence

import torch

from distill.losses.preference import advantage_loss
from distill.losses.states import States
from distill.losses.terms import LossTerms
from distill.methods.dpo.task import PairBatch, PairTask, Preferences
from distill.models.packed import PackedModel


class Adpa(PairTask):
    """-sum_a q(a | s) A(a | s) along rejected responses, a mean over the tokens of the global batch."""

    def __init__(self, preferences: Preferences, teacher: PackedModel, reference: PackedModel, clamp: bool):
        super().__init__(preferences, {"advantage": 1.0})
        self.teacher, self.reference, self.clamp = teacher, reference, clamp

    def weights(self, indices: Sequence[int], step: int) -> dict[str, float]:
        """Returns the tokens of the rejected responses of a micro-batch."""
        return {"advantage": sum(len(self.train.pairs[index].rejected_ids) for index in indices)}

    def terms(self, states: States, batch: PairBatch, indices: Sequence[int]) -> dict[str, LossTerms]:
        """Returns the sum over the tokens of the rejected responses."""
        lengths = batch.lengths.to(self.device)
        rejected = torch.arange(2, device=self.device).repeat(len(indices)).repeat_interleave(lengths) == 1
        with torch.no_grad():
            teacher, reference = (model.states(batch.packed)[rejected] for model in (self.teacher, self.reference))
        return {"advantage": advantage_loss(states[rejected], teacher, reference, self.clamp)}
