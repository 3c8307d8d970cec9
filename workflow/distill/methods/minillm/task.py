"""MiniLLM at work: rounds of responses drawn from student and teacher together, and policy-gradient updates on them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from distill.data.tokens import Encoded
from distill.losses.states import States
from distill.losses.terms import LossTerms
from distill.methods.minillm.objective import (
    future_rewards,
    importance_weights,
    policy_loss,
    reverse_kl,
    token_log_probs,
    token_rewards,
    whiten,
)
from distill.models.packed import PackedModel
from distill.models.packing import PackedBatch, pack_sequences
from distill.sampling.mixed_sampling import sample_mixture
from distill.sampling.protocol import sequence_seed
from distill.training.engine import TrainingEngine
from distill.training.order import stage_seed
from distill.training.plain_text import PlainText
from distill.training.task import Drawn, Forward, Task

if TYPE_CHECKING:
    from distill.methods.minillm import MiniLlmRun

_FILE = "rollouts.safetensors"


@dataclass(frozen=True)
class Rollout:
    """One sampled response; `student` and `teacher`: log-probabilities of its tokens at sampling time, float [T]."""

    prompt_ids: list[int]
    response_ids: list[int]
    student: Tensor
    teacher: Tensor


class MiniLlm(Task):
    """Policy loss and single-step term, token means over the global batch, plus the plain-text term.

    An item is a rollout of the current round. A round lasts `inner_epochs` passes over its rollouts; then the current
    student answers the next prompts, which are those of the training split in a seeded order, again and again.
    """

    def __init__(
        self,
        prompts: list[Encoded],
        dev: list[Encoded],
        teacher: PackedModel,
        eos_id: int,
        run: "MiniLlmRun",
        plain_text: PlainText | None,
        seed: tuple[int | str, ...],
        device: torch.device | str,
    ):
        """`run`: settled, so that no key is null."""
        order = np.random.default_rng(stage_seed(*seed, "prompts")).permutation(len(prompts))
        self.prompts, self.dev, self.teacher = [prompts[index] for index in order], dev, teacher
        self.eos_id, self.run, self.plain_text, self.seed, self.device = eos_id, run, plain_text, seed, device
        self.micro_batch, self.items = run.training.micro_batch, run.prompts_per_round
        self.coefficients = {"policy": 1.0} | ({"plain_text": run.plain_text_weight} if plain_text else {})
        self._updates_per_round = run.inner_epochs * (self.items // run.training.batch)
        self._round: int | None = None
        self._rollouts: list[Rollout] = []
        self._advantages: dict[int, Tensor] = {}

    def prepare(self, engine: TrainingEngine, step: int, batch: Sequence[int]) -> None:
        """Samples a new round where one begins, and computes the advantages of the batch."""
        current = step // self._updates_per_round
        if current != self._round:
            self._rollouts, self._round = self._sample(engine, current), current
        run, rollouts = self.run, [self._rollouts[index] for index in batch]
        rewards = rollouts[0].student.new_zeros(len(batch), run.max_new_tokens)
        for row, rollout in zip(rewards, rollouts, strict=True):
            row[: len(rollout.response_ids)] = token_rewards(
                rollout.student, rollout.teacher, run.reward_scaling, run.reward_clip
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
        counts = {"policy": sum(len(self._rollouts[index].response_ids) for index in indices)}
        return counts | ({"plain_text": self.plain_text.weight(len(indices))} if self.plain_text else {})

    def losses(self, forward: Forward, indices: Sequence[int], step: int) -> dict[str, LossTerms]:
        """Returns the sums of a micro-batch of the batch that was prepared last."""
        rollouts = [self._rollouts[index] for index in indices]
        batch = pack_sequences([(own.prompt_ids, own.response_ids) for own in rollouts], self.device, False)
        student, teacher, advantages = (
            torch.cat(parts).to(self.device)
            for parts in (
                [own.student for own in rollouts],
                [own.teacher for own in rollouts],
                [self._advantages[index] for index in indices],
            )
        )
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
        place = step // self._updates_per_round * self.items + index
        return Drawn(tuple(self.prompts[place % len(self.prompts)].prompt_ids), is_labelled=False, is_stored=False)

    def evaluate(self, forward: Forward) -> tuple[float, list[dict]]:
        """Returns the held-out objective and a row for each dev prompt: the reverse KL a token.

        It is KL(q || p) at each state along the human response, a mean over its tokens, then over prompts. The human
        response is fixed, so that nothing is sampled and checkpoints are compared on the same states; it is cheap, and
        not the KL of whole sampled responses.
        """
        rows = []
        for start in range(0, len(self.dev), self.micro_batch):
            examples = self.dev[start : start + self.micro_batch]
            batch = pack_sequences([(own.prompt_ids, own.response_ids) for own in examples], self.device, False)
            divergences = reverse_kl(forward(batch), self._teacher_states(batch)).split(batch.response_lengths)
            means = [own.mean().item() for own in divergences]
            rows += [{"id": own.id, "loss": mean} for own, mean in zip(examples, means, strict=True)]
        return float(np.mean([row["loss"] for row in rows])), rows

    def save(self, folder: Path) -> None:
        """Writes the current round: its number, token ids and lengths, and log-probabilities, end to end."""
        tensors = {"round": torch.tensor(self._round)}
        for name in ("prompt_ids", "response_ids"):
            ids = [getattr(own, name) for own in self._rollouts]
            tensors[name] = torch.tensor([token for own in ids for token in own])
            tensors[f"{name}_lengths"] = torch.tensor([len(own) for own in ids])
        for name in ("student", "teacher"):
            tensors[name] = torch.cat([getattr(own, name) for own in self._rollouts])
        save_file(tensors, folder / _FILE)

    def load(self, folder: Path) -> None:
        """Reads the round that `save` wrote."""
        tensors = load_file(folder / _FILE)
        prompts, responses = (tensors[f"{name}_lengths"].tolist() for name in ("prompt_ids", "response_ids"))
        columns = (("prompt_ids", prompts), ("response_ids", responses), ("student", responses), ("teacher", responses))
        parts = zip(*(tensors[name].split(lengths) for name, lengths in columns), strict=True)
        self._rollouts = [
            Rollout(prompt.tolist(), response.tolist(), student, teacher)
            for prompt, response, student, teacher in parts
        ]
        self._round = tensors["round"].item()

    @torch.no_grad()
    def _sample(self, engine: TrainingEngine, number: int) -> list[Rollout]:
        """Returns the rollouts of a round; each rank samples its share, and all get all."""
        first, end = (
            number * self.items + rank * self.items // engine.world for rank in (engine.rank, engine.rank + 1)
        )
        student, rollouts = engine.model, []
        student.eval()
        for start in range(first, end, self.micro_batch):
            rollouts += self._answer(student, range(start, min(start + self.micro_batch, end)))
        student.train()
        return engine.gather(rollouts)

    def _answer(self, student: PackedModel, places: Sequence[int]) -> list[Rollout]:
        """Samples and scores the prompts at `places` of the run's endless sequence of prompts."""
        passes = [divmod(place, len(self.prompts)) for place in places]
        examples = [self.prompts[position] for _, position in passes]
        base = stage_seed(*self.seed, "rollouts")
        responses = sample_mixture(
            student,
            self.teacher,
            self.run.teacher_mix,
            [example.prompt_ids for example in examples],
            [sequence_seed(base, example.id, number) for example, (number, _) in zip(examples, passes, strict=True)],
            self.eos_id,
            self.run.max_new_tokens,
        )
        pairs = [(example.prompt_ids, response) for example, response in zip(examples, responses, strict=True)]
        batch = pack_sequences(pairs, self.device, False)
        log_probs = (
            token_log_probs(states, batch.actions).cpu().split(batch.response_lengths)
            for states in (student.states(batch), self._teacher_states(batch))
        )
        # Copies, since a slice would be sent to the other ranks with the whole tensor behind it.
        return [Rollout(*pair, *(part.clone() for part in own)) for pair, *own in zip(pairs, *log_probs, strict=True)]

    @torch.no_grad()
    def _teacher_states(self, batch: PackedBatch) -> States:
        return self.teacher.states(batch)
