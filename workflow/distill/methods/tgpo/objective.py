"""TGPO's guidance in its four forms (released code; the paper's text beyond the abstract was not at hand)."""

from typing import TYPE_CHECKING

from torch import Tensor

from distill.losses.guidance import Guidance, annealed_weight, guided_advantages
from distill.losses.log_probs import token_log_probs, top_log_probs
from distill.losses.states import States
from distill.methods.tgpo.task import Objective, Scores, draw_from

if TYPE_CHECKING:
    from distill.methods.tgpo import TgpoRun


class Tgpo(Objective):
    """L_pg + w_k L_tg; the guidance keeps the tokens of its round, and no ratio or clip touches it."""

    def __init__(self, run: "TgpoRun"):
        self.run, self.use_std = run, run.use_std
        assert run.training.steps is not None, "a length in epochs is refused"
        rounds = max(1, run.training.steps // run.updates_per_round)
        self._decay = run.guidance_weight / rounds if run.guidance_decay is None else run.guidance_decay

    def scores(self, student: States, teacher: States, tokens: Tensor, top: Tensor, uniforms: Tensor) -> Scores:
        """Keeps `guide`, the tokens of the form, with `guide_log_probs` under the teacher or the student."""
        if self.run.form == "mc":
            return {"guide": draw_from(teacher, uniforms)}
        if self.run.form == "fwd_topk":
            log_probs, ids = top_log_probs(teacher, self.run.top_k)
            return {"guide": ids, "guide_log_probs": log_probs}
        if self.run.form == "adv":
            return {"guide_log_probs": token_log_probs(student, top)}
        return {}

    def advantages(self, rewards: Tensor, scores: Scores, number: int) -> Tensor | None:
        """Returns the group's, with the guidance in them for `adv`."""
        if not self.run.policy_gradient:
            return None
        if self.run.form == "adv":
            return guided_advantages(rewards, scores["guide_log_probs"], self._weight(number))
        return rewards

    def guidance(self, scores: Scores, tokens: Tensor, number: int) -> Guidance | None:
        """Returns the term of the form with the round's weight; None once that is 0."""
        weight, form = self._weight(number), self.run.form
        if weight == 0 or form == "adv":
            return None
        if form == "fwd_topk":
            return Guidance("forward", scores["guide"], scores["guide_log_probs"], weight)
        return Guidance.towards(scores["top" if form == "reg" else "guide"], weight)

    def _weight(self, number: int) -> float:
        return annealed_weight(number + 1, self.run.guidance_weight, self._decay, self.run.guidance_floor)
