"""What chi-square does to the solution: the stationary point of one two-token state, terminal or leading to itself."""

import json
import math
from pathlib import Path

import pytest
import torch

from distill.methods.bd.reference import bellman_transitions
from distill.methods.bd.section import Bellman
from distill.methods.bd.trajectories import Trajectories

CASES = json.loads((Path(__file__).parents[1] / "golden" / "two_token_fixed_points.json").read_text())


def slope(logit: float, case: dict) -> float:
    """Derivative of the expected loss in the second token's logit, the first one's being 0."""
    second = torch.tensor(logit, dtype=torch.float64, requires_grad=True)
    row = torch.stack([torch.zeros_like(second), second])
    batch = Trajectories(torch.tensor([0, 1]), torch.tensor([1, 1]), torch.tensor([case["terminal"]] * 2))
    step = bellman_transitions(row.expand(4, 2), batch, None, Bellman(alpha=case["alpha"]))
    weights = torch.tensor([1 - case["teacher_p2"], case["teacher_p2"]], dtype=torch.float64)
    (weights * (step.linear + step.chi2)).sum().backward()
    return second.grad.item()


@pytest.mark.parametrize(
    "case", CASES, ids=lambda c: f"p{c['teacher_p2']}-{'terminal' if c['terminal'] else 'loop'}-alpha{c['alpha']}"
)
def test_fixed_point(case):
    low, high = -8.0, -1e-6
    assert slope(low, case) < 0 < slope(high, case)
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle, case) < 0 else (low, middle)
    assert 1 / (1 + math.exp(-low)) == pytest.approx(case["student_p2"], abs=1e-3)
