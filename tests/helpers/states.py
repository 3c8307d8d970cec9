"""States for the tests of losses: logits as they are, and a small world of student, teacher and responses."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from distill.losses.candidate_sets import CandidateSets, top_p_sets
from distill.losses.states import States
from distill.losses.terms import LossTerms
from distill.methods.bd.section import Bellman
from distill.methods.bd.trajectories import Trajectories

LENGTHS, DONE = (5, 1, 4, 1, 6, 3), (True, True, False, False, True, False)
VOCABULARY = 37


def as_states(logits: Tensor) -> States:
    """Returns states whose logits are the given ones, [N, vocabulary], and whose gradient arrives there."""
    vocabulary = logits.shape[-1]
    return States(logits, torch.eye(vocabulary, dtype=logits.dtype), vocabulary)


@dataclass(frozen=True)
class World:
    """States of both models along responses of the teacher, its sets there (None: all tokens), and a token of each."""

    student: States
    teacher: States
    trajectories: Trajectories
    candidates: CandidateSets | None
    tokens: Tensor

    def __getitem__(self, sequences: slice) -> "World":
        first, end, _ = sequences.indices(len(LENGTHS))
        rows = slice(sum(LENGTHS[:first]) + first, sum(LENGTHS[:end]) + end)
        candidates = None if self.candidates is None else self.candidates[rows]
        models = self.student[rows], self.teacher[rows]
        return World(*models, self.trajectories[sequences], candidates, self.tokens[rows])


def draw_world(p: float, seed: int = 0, dtype: torch.dtype = torch.float64) -> World:
    """Draws six responses, cut and finished ones of one token among them; at p below 1 some tokens leave their sets.

    Both weights have rows that no token names. Many logits lie further than 10 below the largest.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    lengths = torch.tensor(LENGTHS)
    states = int(lengths.sum()) + len(lengths)
    hidden, weight = normal(states, 8), 1.5 * normal(VOCABULARY + 3, 8)
    teacher = torch.cat([hidden / 2, normal(states, 4)], 1), torch.cat([weight, normal(VOCABULARY + 3, 4) / 2], 1)
    probs = (teacher[0] @ teacher[1][:VOCABULARY].T).softmax(-1)
    tokens = torch.multinomial(probs, 1, generator=generator).squeeze(1)
    trajectories = Trajectories(torch.zeros(int(lengths.sum()), dtype=torch.long), lengths, torch.tensor(DONE))
    trajectories = replace(trajectories, actions=tokens[trajectories.state])
    models = [States(own.to(dtype), head.to(dtype), VOCABULARY) for own, head in ((hidden, weight), teacher)]
    return World(*models, trajectories, None if p == 1 else top_p_sets(probs, p), tokens)


def vary(options: Bellman, **keys: Any) -> Bellman:
    """Returns checked options that differ in some keys; those that depended on others when left out stay."""
    return Bellman(**options.model_dump() | keys)


def with_gradients(loss: Callable[[States], LossTerms], states: States) -> tuple[LossTerms, Tensor, Tensor]:
    """Returns a loss and the gradients of its total on hidden states and weight."""
    own = replace(states, hidden=states.hidden.clone().requires_grad_(), weight=states.weight.clone().requires_grad_())
    terms = loss(own)
    terms.total.backward()
    return terms, own.hidden.grad, own.weight.grad


def furthest(found: tuple[LossTerms, Tensor, Tensor], expected: tuple[LossTerms, Tensor, Tensor]) -> float:
    """Returns the largest distance of a number or gradient from the expected one, relative to its size or to 1."""
    distances = []
    for own, other in zip(*(_tensors(*given) for given in (found, expected)), strict=True):
        distances.append((own.double() - other.double()).norm() / other.double().norm().clamp(min=1))
    assert found[0].parts.keys() == expected[0].parts.keys() and found[0].metrics.keys() == expected[0].metrics.keys()
    return max(distances).item()


def _tensors(terms: LossTerms, *gradients: Tensor) -> list[Tensor]:
    metrics = [value for pair in terms.metrics.values() for value in pair]
    return [*gradients, terms.total.detach(), terms.weight, *terms.parts.values(), *metrics]
