"""DCKD's task."""

from collections.abc import Sequence

import torch

from distill.losses.preference import pair_kl
from distill.losses.states import States
from distill.losses.terms import LossTerms
from distill.methods.dpo.task import PairBatch, PairTask, Preferences
from distill.models.packed import PackedModel


class Dckd(PairTask):
    """w_c KL(p || q) along chosen + w_r along rejected responses, each a mean over the tokens of the global batch."""

    def __init__(self, preferences: Preferences, teacher: PackedModel, weights: dict[str, float]):
        super().__init__(preferences, weights)
        self.teacher = teacher

    def weights(self, indices: Sequence[int], step: int) -> dict[str, float]:
        """Returns the tokens of each side of a micro-batch."""
        pairs = [self.train.pairs[index] for index in indices]
        return {
            "chosen": sum(len(pair.chosen_ids) for pair in pairs),
            "rejected": sum(len(pair.rejected_ids) for pair in pairs),
        }

    def terms(self, states: States, batch: PairBatch, indices: Sequence[int]) -> dict[str, LossTerms]:
        """Returns the sums of both sides."""
        with torch.no_grad():
            teacher = self.teacher.states(batch.packed)
        chosen, rejected = pair_kl(states, teacher, batch.lengths.to(self.device))
        return {"chosen": chosen, "rejected": rejected}
