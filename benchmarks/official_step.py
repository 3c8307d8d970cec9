"""Our own literal transcription of the micro-step of Bellman Distill's released code, and its stepwise repair.

One sample of a prompt padded on the left and a response padded on the right, logits at all positions, a live teacher
whose graph is kept, full-vocabulary sorts of teacher and student (the student's result is unused), and three passes
over the response's logits: the objective, a copy without gradient, and statistics on selections by boolean masks.
Where the description of the release is silent, the cheaper way is taken: no selection of single logits, positions of
padding left out of the statistics, no padding and no unused position in the plain-text term.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from distill.losses.candidate_sets import CandidateSets
from distill.methods.bd.section import Bellman

TEMPERATURE = 1.0
"""The released objective divides by it twice."""


@dataclass(frozen=True)
class Recipe:
    """What the micro-step does; each `False` leaves one waste out.

    `unused_work`: the student's sort, the copy and the statistics, the teacher's graph. `live_teacher`: its forward
    pass and sort, instead of stored sets. `padding`: a fixed shape and logits at all its positions.
    """

    unused_work: bool = True
    live_teacher: bool = True
    padding: bool = True


class OfficialStep:
    """Losses of one sample and of one plain-text chunk.

    Args:
        student: trained.
        teacher: None where neither term asks for it.
        options: objective `released` for the release as it is. With `sampled` (defaults but for the reduction, which
            is `sequence` here) the paper's objective stands in the same loop, densely and without statistics.
        p: mass of the candidate sets.
        prompt, response: tokens to pad to; a response is shorter than that.
        pad_id: also EOS.
        kd_ratio: share of the teacher's distribution in the plain-text term.
        recipe: what is done.
    """

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: PreTrainedModel | None,
        options: Bellman,
        p: float,
        prompt: int,
        response: int,
        pad_id: int,
        kd_ratio: float,
        recipe: Recipe,
    ):
        self.student, self.teacher, self.options, self.p = student, teacher, options, p
        self.prompt, self.response, self.pad_id = prompt, response, pad_id
        self.kd_ratio, self.recipe = kd_ratio, recipe
        self._teacher_graph: Tensor | None = None

    def bellman(self, prompt: Sequence[int], response: Sequence[int], sets: CandidateSets | None = None) -> Tensor:
        """Returns the Bellman term of one sample, the mean over its transitions; the response ends with EOS.

        `sets`: at s_0 .. s_L, for a recipe without a live teacher.
        """
        left, right = (self.prompt - len(prompt), self.response - len(response)) if self.recipe.padding else (0, 0)
        device = self.student.device
        tokens = [*[self.pad_id] * left, *prompt, *response, *[self.pad_id] * right]
        input_ids = torch.tensor([tokens], device=device)
        place = torch.arange(len(tokens), device=device)[None]
        mask = (place >= left) & (place < len(tokens) - right)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        first = left + len(prompt) - 1
        actions = input_ids[:, first + 1 :]
        inside = mask[:, first + 1 :]

        def response_logits(model: PreTrainedModel) -> Tensor:
            if self.recipe.padding:
                output = model(input_ids, attention_mask=mask.long(), position_ids=positions, use_cache=False)
            else:
                output = model(input_ids, use_cache=False, logits_to_keep=actions.shape[1] + 1)
            return output.logits[:, -actions.shape[1] - 1 : -1]

        logits = response_logits(self.student)
        if self.recipe.live_teacher:
            with torch.set_grad_enabled(self.recipe.unused_work):
                self._teacher_graph = response_logits(self.teacher)
            candidates = top_p_mask(self._teacher_graph, self.p)
        else:
            candidates = torch.zeros_like(logits, dtype=torch.bool)
            candidates[0, : len(response)] = sets[: len(response)].to_mask(logits.shape[-1])
        if self.recipe.unused_work:
            top_p_mask(logits, self.p)

        if self.options.objective != "released":
            return published_loss(logits, candidates, actions, inside, self.options)
        valid = inside & (actions != self.pad_id)
        arguments = logits, candidates.to(logits.dtype), valid.to(logits.dtype), self.p, self.options
        loss, q, residual = released_loss(*arguments)
        if self.recipe.unused_work:
            with torch.no_grad():
                released_loss(*arguments)
                self.statistics = q[valid].flatten().mean(), residual[valid[:, :-1]].flatten().mean()
        return loss

    def plain_text(self, chunk: Tensor) -> Tensor:
        """Returns the plain-text term of one chunk of tokens, the mean over all tokens but the first."""
        logits = self.student(chunk[None, :-1], use_cache=False).logits[0].float()
        loss = cross_entropy(logits, chunk[1:])
        if self.kd_ratio == 0:
            return loss
        with torch.no_grad():
            teacher = self.teacher(chunk[None, :-1], use_cache=False).logits[0].float().softmax(-1)
        distilled = -(teacher * logits.log_softmax(-1)).sum(-1).mean()
        return (1 - self.kd_ratio) * loss + self.kd_ratio * distilled

    def drop_teacher_graph(self) -> None:
        """Ends the micro-step: the teacher's graph lives until then."""
        self._teacher_graph = None


@torch.no_grad()
def top_p_mask(logits: Tensor, p: float) -> Tensor:
    """Returns which tokens are in the nucleus, bool like `logits`: sorted, summed up, put back in place."""
    sorted_probs, order = logits.softmax(-1).sort(dim=-1, descending=True)
    kept = sorted_probs.cumsum(-1) - sorted_probs < p
    return torch.zeros_like(kept).scatter_(-1, order, kept)


def released_loss(
    logits: Tensor, candidates: Tensor, valid: Tensor, p: float, options: Bellman
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the released objective of logits [B, T, vocabulary], with Q and the residuals at t < T - 1.

    `candidates`: 1 or 0, like logits. `valid`: [B, T], 0 on pads and on EOS, which is the pad.
    """
    q = logits / TEMPERATURE
    q = (q - q.max(-1, keepdim=True).values).clamp(min=options.q_min)
    policy = (q / TEMPERATURE).softmax(-1) * candidates / p + options.epsilon
    policy = policy / policy.sum(-1, keepdim=True)
    value = (policy * (q - policy.log())).sum(-1) * valid
    now, after = value[:, :-1], options.gamma * value[:, 1:]
    residual = (valid[..., None] * candidates * q)[:, :-1] - after[..., None]
    columns = now - after - residual.mean(-1)
    if options.chi2 == "printed":
        columns = columns + residual.square().mean(-1) / (4 * options.alpha)
    return columns.sum() / valid[:, :-1].sum(), q, residual


def published_loss(logits: Tensor, candidates: Tensor, actions: Tensor, inside: Tensor, options: Bellman) -> Tensor:
    """Returns the paper's objective of logits [B, T, vocabulary] at responses that end with EOS.

    `candidates`: bool like logits. `actions`: [B, T]. `inside`: bool [B, T], false on pads. A token outside its set
    leaves the mean.
    """
    q = (logits - logits.max(-1, keepdim=True).values).clamp(min=options.q_min)
    value = q.masked_fill(~candidates, -torch.inf).logsumexp(-1).masked_fill(~inside, 0)
    chosen = q.gather(-1, actions[..., None]).squeeze(-1)
    kept = inside & candidates.gather(-1, actions[..., None]).squeeze(-1)
    after = options.gamma * torch.nn.functional.pad(value[:, 1:], (0, 1))
    residual = chosen - after
    columns = value - after - residual + residual.square() / (4 * options.alpha)
    return (columns * kept).sum() / kept.sum().clamp(min=1)
