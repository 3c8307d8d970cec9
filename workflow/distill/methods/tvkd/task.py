"""TVKD's two forms: DPO with the teacher's values as offsets, and the rewards of the released code."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from distill.candidates.values import load_values
from distill.files import MANIFEST, digest_file
from distill.losses.log_probs import bucket_log_probs, top_log_probs
from distill.losses.preference import (
    bucket_entropy,
    bucket_of_tokens,
    bucket_values,
    control_offsets,
    preference_loss,
    released_rewards,
    shaping_sums,
)
from distill.losses.states import States
from distill.losses.terms import LossTerms
from distill.methods.dpo.task import Dpo, PairBatch, PairTask, Preferences, read_preferences
from distill.models.packed import PackedModel
from distill.seeds import stage_seed
from distill.training.context import MethodContext

if TYPE_CHECKING:
    from distill.methods.tvkd import TvkdRun


def shaping_task(context: MethodContext) -> Dpo:
    """Returns DPO with the weighted shaping sums of the teacher's stored values, or of a control, as offsets."""
    run, preferences = context.run, read_preferences(context)
    digest = digest_file(context.input("pairs") / MANIFEST)
    values = load_values(context.input("values"), digest, preferences.train.pairs)
    discount = 0.7 if run.discount is None else run.discount
    offsets = run.shaping_weight * shaping_offsets(values, discount, run.terminal)
    if run.control:
        offsets = control_offsets(offsets, run.control, stage_seed(context.seed, context.name, "control"))
    return Dpo(preferences, offsets)


def shaping_offsets(values: Sequence[Tensor], discount: float, terminal: str) -> Tensor:
    """Returns `shaping_sums` of V(s_0) .. V(s_n) of each response, [responses].

    `terminal`: V(s_n) is 0 (`zero`), the last of the values (`model`), or the one before (`last`).
    """
    lengths = torch.tensor([len(own) - 1 for own in values])
    final = None if terminal == "zero" else torch.stack([own[-1 if terminal == "model" else -2] for own in values])
    return shaping_sums(torch.cat([own[:-1] for own in values]), lengths, discount, final)


def released_task(context: MethodContext) -> "Released":
    """Returns the pairwise loss of the released code, with the teacher in memory."""
    return Released(read_preferences(context), context.load_frozen("preference_teacher"), context.run)


class Released(PairTask):
    """-log sigmoid of the margin between sums of log q(a_t) - gamma V(s_{t+1}): no reference, no beta.

    Both models' distributions are summed into buckets: one for each of the teacher's likeliest tokens, one for the
    rest.
    """

    def __init__(self, preferences: Preferences, teacher: PackedModel, run: "TvkdRun"):
        super().__init__(preferences)
        self.teacher, self.variant, self.top_k = teacher, run.variant, run.top_k
        self.discount = 1.0 if run.discount is None else run.discount
        self.exponent = (1.0 if run.variant == "repo_joint" else 0.7) if run.exponent is None else run.exponent
        self.student_exponent = run.student_exponent

    def terms(self, states: States, batch: PairBatch, indices: Sequence[int]) -> dict[str, LossTerms]:
        """Returns the sum over the pairs."""
        with torch.no_grad():
            of_teacher = self.teacher.states(batch.packed)
            # With a bucket for each token nothing is left for the rest.
            _, ids = top_log_probs(of_teacher, self.top_k)
            teacher = bucket_log_probs(of_teacher, ids)
        student = bucket_log_probs(states, ids)
        log_probs = bucket_of_tokens(student, ids, batch.packed.actions)
        values = self._values(student, teacher)
        invariant = self.variant == "repo_policy_invariant"
        rewards = released_rewards(log_probs, values, batch.lengths, self.discount, invariant)
        return {"preference": preference_loss(rewards)}

    def _values(self, student: Tensor, teacher: Tensor) -> Tensor:
        if self.variant == "repo_recipe":
            return bucket_entropy(student)
        if self.variant == "repo_joint":
            return bucket_values(teacher, self.exponent, student, self.student_exponent)
        return bucket_values(teacher, self.exponent)
