"""The reverse KL in its forms: as an advantage, exact, or as a term of the loss of weight 1."""

from typing import TYPE_CHECKING

from torch import Tensor

from distill.losses.guidance import Guidance, reverse_kl_advantages, top_reverse_kl
from distill.losses.log_probs import token_log_probs, top_log_probs
from distill.losses.states import States
from distill.methods.tgpo.task import Objective, Scores

if TYPE_CHECKING:
    from distill.methods.rkl import RklRun


class Rkl(Objective):
    """No reward enters; what is kept of a round is fixed while the student changes."""

    def __init__(self, run: "RklRun"):
        self.run, self.is_exact = run, run.form == "full"

    def scores(self, student: States, teacher: States, tokens: Tensor, top: Tensor, uniforms: Tensor) -> Scores:
        """Keeps the baseline of `centred`, or the tokens of `dist` with the teacher's log-probabilities."""
        if self.run.form == "centred":
            return {"divergence": top_reverse_kl(student, teacher, self.run.top_k)}
        if self.run.form == "dist":
            _, ids = top_log_probs(student, self.run.top_k)
            return {"support": ids, "support_log_probs": token_log_probs(teacher, ids)}
        return {}

    def advantages(self, rewards: Tensor, scores: Scores, number: int) -> Tensor | None:
        """Returns log p - log q_old of the sampled tokens, for `sampled` and `centred`."""
        if self.run.form not in ("sampled", "centred"):
            return None
        return reverse_kl_advantages(scores["student"], scores["teacher"], scores.get("divergence"))

    def guidance(self, scores: Scores, tokens: Tensor, number: int) -> Guidance | None:
        """Returns the term of the other forms but `full`."""
        if self.run.form == "dist":
            return Guidance("reverse", scores["support"], scores["support_log_probs"], 1.0)
        if self.run.form in ("k1", "k2", "k3"):
            return Guidance(self.run.form, tokens[:, None], scores["teacher"][:, None], 1.0)
        return None
