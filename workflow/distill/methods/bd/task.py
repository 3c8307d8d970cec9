"""Bellman Distill at work: batches of teacher trajectories with their candidate sets, and the loss on them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from distill.candidates.store import StoredSets
from distill.errors import DataError
from distill.losses.candidate_sets import CandidateSets
from distill.losses.states import States
from distill.losses.terms import LossTerms
from distill.methods.bd.objective import bellman, mass_outside
from distill.methods.bd.section import Bellman
from distill.methods.bd.trajectories import Trajectories, loss_weight
from distill.models.packed import PackedModel
from distill.models.packing import pack_sequences
from distill.records import Sample, read_samples
from distill.seeds import stage_seed
from distill.training.cached_teacher import stored_sets
from distill.training.context import MethodContext
from distill.training.plain_text import PlainText
from distill.training.task import Drawn, Forward, Task

_DEV_BATCH = 64


@dataclass(frozen=True)
class Trajectory:
    """One teacher response of L actions and L + 1 states, and its place among all samples, which finds its sets."""

    sample: Sample
    place: int


class BellmanDistill(Task):
    """The Bellman term on teacher trajectories plus the plain-text term, one chunk a trajectory."""

    def __init__(
        self,
        train: list[Trajectory],
        dev: list[Trajectory],
        sets: StoredSets | None,
        options: Bellman,
        plain_text: PlainText | None,
        plain_text_weight: float,
        seed: tuple[int | str, ...],
        device: torch.device | str,
    ):
        self.train, self.dev, self.sets, self.options = train, dev, sets, options
        self.items, self.plain_text, self.seed, self.device = len(train), plain_text, seed, device
        self.coefficients = {"bellman": 1.0} | ({"plain_text": plain_text_weight} if plain_text else {})

    def weights(self, indices: Sequence[int], step: int) -> dict[str, float]:
        """Returns the transitions (or sequences) and the plain-text positions of a micro-batch."""
        trajectories, sets = self._join([self.train[index] for index in indices], "cpu")
        counts = {"bellman": loss_weight(trajectories, sets, self.options).item()}
        return counts | ({"plain_text": self.plain_text.weight(len(indices))} if self.plain_text else {})

    def losses(self, forward: Forward, indices: Sequence[int], step: int) -> dict[str, LossTerms]:
        """Returns the Bellman sums and, where it has a weight, the plain-text sums of a micro-batch."""
        items = [self.train[index] for index in indices]
        states = self._states(forward, items)
        terms = {"bellman": bellman(states, *self._join(items, self.device), self.options)}
        if self.plain_text:
            terms["plain_text"] = self.plain_text.draw(forward, indices, (*self.seed, "plain_text", step))
        return terms

    def drawn(self, index: int, step: int) -> Drawn:
        """Returns the prompt of a trajectory, whose response is the teacher's."""
        return Drawn(tuple(self.train[index].sample.prompt_ids), False)

    def evaluate(self, model: PackedModel) -> tuple[float, list[dict]]:
        """Returns the objective on held-out trajectories and a row for each: its mean loss with its parts, and the mean
        mass that the student and the teacher have outside the sets.

        A trajectory without a valid transition counts in neither.
        """
        rows = []
        for start in range(0, len(self.dev), _DEV_BATCH):
            batch = self.dev[start : start + _DEV_BATCH]
            states, end = self._states(model.states, batch), 0
            _, sets = self._join(batch, self.device)
            outside = {}
            if sets is not None:
                masses = mass_outside(states, sets), sets.rest(states.vocabulary)
                outside = dict(zip(("student_outside", "teacher_outside"), masses, strict=True))
            for item in batch:
                start, end = end, end + len(item.sample.response_ids) + 1
                terms = bellman(states[start:end], *self._join([item], self.device), self.options)
                if terms.weight > 0:
                    means = {name: (value / terms.weight).item() for name, value in terms.parts.items()}
                    means |= {name: mass[start : end - 1].mean().item() for name, mass in outside.items()}
                    rows.append(
                        {"id": item.sample.id, "sample": item.sample.sample, "loss": terms.mean.item(), **means}
                    )
        return float(np.mean([row["loss"] for row in rows])), rows

    def _states(self, forward: Forward, items: list[Trajectory]) -> States:
        pairs = [(item.sample.prompt_ids, item.sample.response_ids) for item in items]
        return forward(pack_sequences(pairs, self.device, with_final_state=True))

    def _join(self, items: list[Trajectory], device: torch.device | str) -> tuple[Trajectories, CandidateSets | None]:
        samples = [item.sample for item in items]
        trajectories = Trajectories(
            torch.tensor([token for sample in samples for token in sample.response_ids], device=device),
            torch.tensor([len(sample.response_ids) for sample in samples], device=device),
            torch.tensor([sample.finished for sample in samples], device=device),
        )
        if self.sets is None:
            return trajectories, None
        return trajectories, self.sets.take([item.place for item in items]).to(device)


def permute_responses(trajectories: list[Trajectory], *seed: int | str) -> list[Trajectory]:
    """Returns the control data: every response, with its sets, stands behind another prompt.

    Prompts are put in a seeded cycle and each takes all responses of the next one.
    """
    by_prompt: dict[str, list[Trajectory]] = {}
    for item in trajectories:
        by_prompt.setdefault(item.sample.id, []).append(item)
    groups = list(by_prompt.values())
    if len(groups) < 2:
        raise DataError(
            f"permute_responses: expected samples of at least 2 prompts, found {len(groups)}; sample more prompts"
        )
    order = np.random.default_rng(stage_seed(*seed)).permutation(len(groups)).tolist()
    permuted = []
    for here, there in zip(order, order[1:] + order[:1], strict=True):
        prompt = groups[here][0].sample.prompt_ids
        permuted += [Trajectory(replace(item.sample, prompt_ids=prompt), item.place) for item in groups[there]]
    return permuted


def read_trajectories(context: MethodContext, p: float) -> tuple[list[Trajectory], list[Trajectory], StoredSets | None]:
    """Returns the teacher's samples, those of training prompts and those of held-out ones, and their sets cut to p.

    At p = 1 there are no sets.

    Raises:
        DataError: one of the two kinds is missing, or the sets belong to other samples.
    """
    folder = context.input("samples")
    samples = read_samples(folder / "samples.jsonl")
    sets = stored_sets(context, p) if p < 1 else None
    trajectories = [Trajectory(sample, place) for place, sample in enumerate(samples)]
    train = [item for item in trajectories if not item.sample.held_out]
    dev = [item for item in trajectories if item.sample.held_out]
    if not train or not dev:
        raise DataError(
            f"{folder}: expected samples of training and of held-out prompts, found {len(train)} and "
            f"{len(dev)}; rerun sample_teacher or complete the external samples"
        )
    return train, dev, sets
