"""Groups of a student's answers at work: sampled, rewarded, scored by both models, and learnt from in one pass."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from distill.data.tokens import Encoded, encode_file, load_tokenizer, response_text
from distill.losses.guidance import Guidance
from distill.losses.log_probs import token_log_probs, token_scores
from distill.losses.policy_gradient import Surrogate, group_advantages, on_policy_loss
from distill.losses.states import ChunkLogits, States, softmax_
from distill.losses.terms import LossTerms
from distill.metrics.registry import load_metric
from distill.models.packed import PackedModel
from distill.models.packing import PackedBatch, pack_sequences
from distill.records import read_examples
from distill.rollouts.rollout import Rollout, join_scores
from distill.rollouts.rounds import Rounds
from distill.rollouts.sampler import Sampler
from distill.sampling.transformers_engine import draw_tokens
from distill.seeds import stage_seed
from distill.training.context import MethodContext
from distill.training.engine import TrainingEngine
from distill.training.task import Drawn, Forward, Task

if TYPE_CHECKING:
    from distill.methods.tgpo.section import PolicyRun

Scores = Mapping[str, Tensor]
"""What is kept of each state of an answer, [N, ...], by name. Always there: `student` and `teacher`, log q and log p of
the sampled token when it was sampled, and `top`, the teacher's likeliest token."""

Reward = Callable[[str, list[int]], float]
"""(id of a prompt, answer) -> 0 to 1."""


class Objective(ABC):
    """What a method of the family makes of a round; `number` counts rounds from 0.

    Attributes:
        use_std: whether group advantages are divided by the group's standard deviation.
        is_exact: whether KL(q || p) over the whole vocabulary joins, for which the teacher runs at each update.
    """

    use_std: bool = True
    is_exact: bool = False

    def scores(self, student: States, teacher: States, tokens: Tensor, top: Tensor, uniforms: Tensor) -> Scores:
        """Returns what the method keeps of a round's states besides `student`, `teacher` and `top`.

        Args:
            student, teacher: states [N] of the models that drew and judge, without gradient.
            tokens, top: the sampled tokens and the teacher's likeliest ones, int64 [N].
            uniforms: float64 in [0, 1), [N], from each answer's own seed.
        """
        return {}

    @abstractmethod
    def advantages(self, rewards: Tensor, scores: Scores, number: int) -> Tensor | None:
        """Returns the advantages of tokens, [N], from those of their answers, [N]; None: no policy gradient."""

    def guidance(self, scores: Scores, tokens: Tensor, number: int) -> Guidance | None:
        """Returns the term beside the policy gradient, or None."""
        return None


class PolicyTask(Task):
    """The family's loss, token means over the optimiser batch: surrogate + guidance - c entropy.

    An item is an answer of the current round. The dev loss is minus the mean reward of answers sampled to dev's prompts
    by fixed seeds; its rows hold, for each answer, the reward, the mean of log q - log p (`reverse_kl`) and the share
    of tokens that are not the teacher's likeliest (`mismatch`), both on the student's own text.
    """

    def __init__(
        self,
        rounds: Rounds,
        dev: Sequence[Encoded],
        teacher: PackedModel,
        objective: Objective,
        reward: Reward,
        run: "PolicyRun",
        seed: tuple[int | str, ...],
        device: torch.device | str,
    ):
        self.rounds, self.dev, self.teacher, self.objective = rounds, dev, teacher, objective
        self.reward, self.run, self.seed, self.device = reward, run, seed, device
        self.items, self.coefficients = rounds.size, {"policy": 1.0}
        self._rewarded: int | None = None
        self._rewards, self._advantages = torch.empty(0), torch.empty(0)

    def prepare(self, engine: TrainingEngine, step: int, batch: Sequence[int]) -> None:
        """Samples and rewards a new round where one begins."""
        rollouts = self.rounds.prepare(engine, step)
        if self._rewarded != self.rounds.number:
            prompts = [self.rounds.prompt(index, step).id for index in range(self.items)]
            rewards = [self.reward(id_, own.response_ids) for id_, own in zip(prompts, rollouts, strict=True)]
            groups = torch.arange(self.items) // self.rounds.group
            self._rewards = torch.tensor(rewards)
            self._advantages = group_advantages(self._rewards, groups, self.objective.use_std)
            self._rewarded = self.rounds.number

    def weights(self, indices: Sequence[int], step: int) -> dict[str, float]:
        """Returns the tokens of a micro-batch."""
        return {"policy": sum(len(self.rounds.rollouts[index].response_ids) for index in indices)}

    def losses(self, forward: Forward, indices: Sequence[int], step: int) -> dict[str, LossTerms]:
        """Returns the sums of a micro-batch of the round that was prepared last."""
        rollouts, number = [self.rounds.rollouts[index] for index in indices], step // self.rounds.updates
        batch = self._pack(rollouts)
        scores = {name: join_scores(rollouts, name, self.device) for name in rollouts[0].scores}
        lengths = torch.tensor(batch.response_lengths)
        advantages = self.objective.advantages(
            self._advantages[list(indices)].repeat_interleave(lengths).to(self.device), scores, number
        )
        terms = on_policy_loss(
            forward(batch),
            batch.actions,
            None if advantages is None else Surrogate(scores["student"], advantages, self.run.clip),
            self.objective.guidance(scores, batch.actions, number),
            self.run.entropy_weight,
            self._teacher_states(batch) if self.objective.is_exact else None,
        )
        count = terms.weight.new_tensor(len(indices))
        apart = scores["student"] - scores["teacher"]
        metrics = {
            "reward": (self._rewards[list(indices)].sum().to(count), count),
            "response_length": (terms.weight, count),
            "reverse_kl_sampled": (apart.sum(), terms.weight),
            "mismatch": ((scores["top"] != batch.actions).sum(), terms.weight),
        }
        return {"policy": replace(terms, metrics=terms.metrics | metrics)}

    def drawn(self, index: int, step: int) -> Drawn:
        """Returns the prompt of an answer, which the student gives itself."""
        return Drawn(tuple(self.rounds.prompt(index, step).prompt_ids), is_labelled=False, is_stored=False)

    def evaluate(self, model: PackedModel) -> tuple[float, list[dict]]:
        """Returns minus the mean reward of sampled dev answers, and a row for each; see the class."""
        seeds = [stage_seed(*self.seed, "dev", example.id) for example in self.dev]
        answers = self.rounds.sampler.sample(model, [example.prompt_ids for example in self.dev], seeds)
        rows: list[dict] = []
        for example, answer in zip(self.dev, answers, strict=True):
            apart = answer.scores["student"] - answer.scores["teacher"]
            missed = answer.scores["top"] != torch.tensor(answer.response_ids)
            own = {"reverse_kl": apart.mean().item(), "mismatch": missed.float().mean().item()}
            rows.append({"id": example.id, "loss": -self.reward(example.id, answer.response_ids)} | own)
        return fmean(row["loss"] for row in rows), rows

    def save(self, folder: Path) -> None:
        """Writes the current round."""
        self.rounds.save(folder)

    def load(self, folder: Path) -> None:
        """Reads the round that `save` wrote."""
        self.rounds.load(folder)

    @torch.no_grad()
    def _teacher_states(self, batch: PackedBatch) -> States:
        return self.teacher.states(batch)

    def _pack(self, rollouts: Sequence[Rollout]) -> PackedBatch:
        return pack_sequences([(own.prompt_ids, own.response_ids) for own in rollouts], self.device, False)


def policy_task(context: MethodContext, objective: Objective) -> PolicyTask:
    """Returns the task of a `PolicyRun`, which answers the prompts that the teacher is sampled on."""
    run, teacher, seed = context.run, context.load_teacher(), (context.seed, context.name)
    tokenizer, eos_id = load_tokenizer(context.tokenizer)
    files = context.split / "train.jsonl", context.dev / "examples.jsonl"
    prompts, dev = (encode_file(path, tokenizer, context.wrapper, eos_id) for path in files)
    references = {example.id: example.references for path in files for example in read_examples(path)}
    metric = load_metric(run.reward)

    def reward(id_: str, ids: list[int]) -> float:
        return metric.of(response_text(tokenizer, ids), references[id_], ids[-1] == eos_id) / 100

    def score(student: PackedModel, batch: PackedBatch, seeds: Sequence[int]) -> dict[str, Tensor]:
        states, own = student.states(batch), teacher.states(batch)
        judged = token_scores(own, batch.actions)
        found = {"student": token_log_probs(states, batch.actions), "teacher": judged.log_probs, "top": judged.top}
        uniforms = torch.cat(
            [
                torch.rand(length, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 1))
                for seed, length in zip(seeds, batch.response_lengths, strict=True)
            ]
        )
        return found | dict(objective.scores(states, own, batch.actions, judged.top, uniforms.to(judged.top.device)))

    sampler = Sampler(eos_id, run.max_new_tokens, run.training.micro_batch, score=score, process=context.rollout_engine)
    size = run.prompts_per_round * run.group
    rounds = Rounds(prompts[: context.prompts], sampler, size, run.updates_per_round, seed, run.group)
    return PolicyTask(rounds, dev, teacher, objective, reward, run, seed, context.device)


def draw_from(states: States, uniforms: Tensor) -> Tensor:
    """Returns one token a state drawn from its distribution, int64 [N]; `uniforms`: float64 in [0, 1), [N]."""
    logits = ChunkLogits(states)
    return torch.cat([draw_tokens(softmax_(logits[chunk]), uniforms[chunk]) for chunk in states.chunks()])
