"""MiniLLM at work: rounds of responses drawn from student and teacher together, and policy-gradient updates on them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from distill.data.tokens import Encoded
from distill.losses.log_probs import token_log_probs
from distill.losses.states import States
from distill.losses.terms import LossTerms
from distill.methods.minillm.objective import (
    future_rewards,
    importance_weights,
    policy_loss,
    reverse_kl,
    token_rewards,
    whiten,
)
from distill.models.packed import PackedModel
from distill.models.packing import PackedBatch, pack_sequences
from distill.rollouts.rollout import join_scores
from distill.rollouts.rounds import Rounds
from distill.rollouts.sampler import Score
from distill.training.engine import TrainingEngine
from distill.training.plain_text import PlainText
from distill.training.task import Drawn, Forward, Task

if TYPE_CHECKING:
    from distill.methods.minillm import MiniLlmRun


def log_probs_with(teacher: PackedModel) -> Score:
    """Returns what keeps the log-probabilities of a response's tokens: `student` and `teacher`, [N] each."""

    def score(student: PackedModel, batch: PackedBatch, seeds: Sequence[int]) -> dict[str, Tensor]:
        models = {"student": student, "teacher": teacher}
        return {name: token_log_probs(model.states(batch), batch.actions) for name, model in models.items()}

    return score


class MiniLlm(Task):
    """Policy loss and single-step term, token means over the global batch, plus the plain-text term.

    An item is a rollout of the current round; rounds keep the scores of `log_probs_with`.
    """

    def __init__(
        self,
        rounds: Rounds,
        dev: list[Encoded],
        teacher: PackedModel,
        run: "MiniLlmRun",
        plain_text: PlainText | None,
        seed: tuple[int | str, ...],
        device: torch.device | str,
    ):
        """`run`: settled, so that no key is null."""
        self.rounds, self.dev, self.teacher, self.run = rounds, dev, teacher, run
        self.plain_text, self.seed, self.device = plain_text, seed, device
        self.micro_batch, self.items = run.training.micro_batch, rounds.size
        self.coefficients = {"policy": 1.0} | ({"plain_text": run.plain_text_weight} if plain_text else {})
        self._advantages: dict[int, Tensor] = {}

    def prepare(self, engine: TrainingEngine, step: int, batch: Sequence[int]) -> None:
        """Samples a new round where one begins, and computes the advantages of the batch."""
        drawn, run = self.rounds.prepare(engine, step), self.run
        assert run.reward_scaling is not None and run.discount is not None and run.current_token is not None  # settled
        rollouts = [drawn[index] for index in batch]
        rewards = rollouts[0].scores["student"].new_zeros(len(batch), run.max_new_tokens)
        for row, rollout in zip(rewards, rollouts, strict=True):
            row[: len(rollout.response_ids)] = token_rewards(
                rollout.scores["student"], rollout.scores["teacher"], run.reward_scaling, run.reward_clip
            )
        lengths = torch.tensor([len(rollout.response_ids) for rollout in rollouts])
        advantages = future_rewards(rewards, lengths, run.discount, run.current_token)
        if run.whitening:
            advantages = whiten(advantages)
        self._advantages = {
            index: row[:length] for index, row, length in zip(batch, advantages, lengths.tolist(), strict=True)
        }

    def weights(self, indices: Sequence[int], step: int) -> dict[str, float]:
        """Returns the response tokens of a micro-batch and its plain-text positions."""
        counts = {"policy": sum(len(self.rounds.rollouts[index].response_ids) for index in indices)}
        return counts | ({"plain_text": self.plain_text.weight(len(indices))} if self.plain_text else {})

    def losses(self, forward: Forward, indices: Sequence[int], step: int) -> dict[str, LossTerms]:
        """Returns the sums of a micro-batch of the batch that was prepared last."""
        rollouts = [self.rounds.rollouts[index] for index in indices]
        batch = pack_sequences([(own.prompt_ids, own.response_ids) for own in rollouts], self.device, False)
        student, teacher = (join_scores(rollouts, name, self.device) for name in ("student", "teacher"))
        advantages = torch.cat([self._advantages[index] for index in indices]).to(self.device)
        weights = importance_weights(student, teacher, self.run.teacher_mix)
        one_step = self._teacher_states(batch) if self.run.single_step else None
        policy = policy_loss(forward(batch), batch.actions, student, advantages, weights, self.run.clip, one_step)
        reward = {"reward": ((teacher - student).sum(), policy.weight)}
        length = {"response_length": (policy.weight, policy.weight.new_tensor(len(rollouts)))}
        terms = {"policy": replace(policy, metrics=policy.metrics | reward | length)}
        if self.plain_text:
            terms["plain_text"] = self.plain_text.draw(forward, indices, (*self.seed, "plain_text", step))
        return terms

    def drawn(self, index: int, step: int) -> Drawn:
        """Returns the prompt of a rollout, which the student answers itself."""
        prompt = self.rounds.prompt(index, step).prompt_ids
        return Drawn(tuple(prompt), is_labelled=False, is_stored=False)

    def evaluate(self, model: PackedModel) -> tuple[float, list[dict]]:
        """Returns the held-out objective and a row for each dev prompt: the reverse KL a token.

        It is KL(q || p) at each state along the human response, a mean over its tokens, then over prompts. The human
        response is fixed, so that nothing is sampled and checkpoints are compared on the same states; it is cheap, and
        not the KL of whole sampled responses.
        """
        rows = []
        for start in range(0, len(self.dev), self.micro_batch):
            examples = self.dev[start : start + self.micro_batch]
            batch = pack_sequences([(own.prompt_ids, own.response_ids) for own in examples], self.device, False)
            divergences = reverse_kl(model.states(batch), self._teacher_states(batch)).split(batch.response_lengths)
            means = [own.mean().item() for own in divergences]
            rows += [{"id": own.id, "loss": mean} for own, mean in zip(examples, means, strict=True)]
        return float(np.mean([row["loss"] for row in rows])), rows

    def save(self, folder: Path) -> None:
        """Writes the current round."""
        self.rounds.save(folder)

    def load(self, folder: Path) -> None:
        """Reads the round that `save` wrote."""
        self.rounds.load(folder)

    @torch.no_grad()
    def _teacher_states(self, batch: PackedBatch) -> States:
        return self.teacher.states(batch)
