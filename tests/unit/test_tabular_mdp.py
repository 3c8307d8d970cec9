"""Theory on a tabular MDP: the top-p Bellman operator and the value gaps."""

import json
import math
from pathlib import Path

import pytest
import torch

from distill.losses.candidate_sets import top_p_sets

ORACLE = json.loads((Path(__file__).parents[1] / "golden" / "tabular_mdp.json").read_text())
GAMMA, P = ORACLE["gamma"], ORACLE["p"]
NEXT, REWARD = torch.tensor(ORACLE["nxt"]), torch.tensor(ORACLE["r"], dtype=torch.float64)


def soft_value(q, mask):
    return q.masked_fill(~mask, -torch.inf).logsumexp(-1)


def backup(value):
    return REWARD + GAMMA * value[NEXT]


def fixed_point(update):
    q = torch.zeros_like(REWARD)
    for _ in range(600):
        q = update(q)
    return q


@pytest.fixture(scope="module")
def mdp():
    """Optimal Q, the sets of its policy, Q of the projected optimal policy, and the best Q within the sets."""
    full = torch.ones_like(REWARD, dtype=torch.bool)
    q_star = fixed_point(lambda q: backup(soft_value(q, full)))
    policy = q_star.softmax(-1)
    sets = top_p_sets(policy, P)
    mask = sets.to_mask(5)
    projected = policy * mask / (policy * mask).sum(-1, keepdim=True)
    own_value = lambda q: (projected * (q - projected.clamp(min=1e-300).log())).sum(-1)  # noqa: E731
    q_projected = fixed_point(lambda q: backup(own_value(q)))
    q_best = fixed_point(lambda q: backup(soft_value(q, mask)))
    return q_star, sets, mask, projected, q_projected, own_value(q_projected), q_best


def test_fixture(mdp):
    q_star, sets, mask, _, q_projected, _, q_best = mdp

    def close(actual, key):
        torch.testing.assert_close(actual, torch.tensor(ORACLE[key], dtype=torch.float64), atol=1e-6, rtol=0)

    close(q_star.logsumexp(-1), "V_star")
    assert mask.int().tolist() == ORACLE["mask"]
    close(sets.mass, "p_eff")
    close((q_star - q_projected)[mask].max(), "max_gap_projected")
    close((q_star - q_best)[mask].max(), "max_gap_optimal_in_Mp")
    assert -GAMMA / (1 - GAMMA) * math.log(P) == pytest.approx(ORACLE["kappa"], abs=1e-6)


def test_sandwich_and_gap_bound(mdp):
    q_star, _, mask, _, q_projected, _, q_best = mdp
    kappa = -GAMMA / (1 - GAMMA) * math.log(P)
    assert (q_projected <= q_best + 1e-9)[mask].all() and (q_best <= q_star + 1e-9)[mask].all()
    assert (q_star - q_projected)[mask].max() <= kappa and (q_star - q_best)[mask].max() <= kappa


def test_gap_recursion(mdp):
    q_star, sets, mask, projected, q_projected, value_projected, _ = mdp
    gap = q_star.logsumexp(-1) - value_projected
    torch.testing.assert_close(gap, -sets.mass.log() + GAMMA * (projected * gap[NEXT]).sum(-1))
    torch.testing.assert_close((q_star - q_projected)[mask], (GAMMA * gap[NEXT])[mask])


@pytest.mark.parametrize("seed", range(10))
def test_top_p_operator_contracts(mdp, seed):
    mask, generator = mdp[2], torch.Generator().manual_seed(seed)
    a, b = 10 * torch.randn(2, 6, 5, generator=generator, dtype=torch.float64)
    after = (backup(soft_value(a, mask)) - backup(soft_value(b, mask)))[mask].abs().max()
    assert after <= GAMMA * (a - b)[mask].abs().max()
