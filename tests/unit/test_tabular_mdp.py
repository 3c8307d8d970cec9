"""Theory on a tabular MDP: the top-p Bellman operator, the value gaps, and the policy BD converges to on a tree."""

import itertools
import json
import math
from pathlib import Path

import pytest
import torch

from distill.losses.bellman_options import BellmanOptions
from distill.losses.candidate_sets import top_p_sets
from distill.losses.reference import bellman_transitions
from distill.losses.trajectories import Trajectories

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


@pytest.mark.parametrize("seed", range(3))
def test_bd_without_chi2_learns_the_projected_teacher_on_a_tree(seed):
    """Every path of a tree (4 actions, depth 3), weighed by its teacher probability: pibar becomes PROJ_p(pi*)."""
    width, depth, generator = 4, 3, torch.Generator().manual_seed(seed)
    starts = [sum(width**d for d in range(level)) for level in range(depth + 1)]
    nodes = starts[depth] + 1  # one row more stands for every end of a response
    probs = (1.5 * torch.randn(nodes, width, generator=generator, dtype=torch.float64)).softmax(-1)
    student = torch.randn(nodes, width, generator=generator, dtype=torch.float64).requires_grad_()
    sets = top_p_sets(probs, 0.8)
    mask = sets.to_mask(width)

    paths = list(itertools.product(range(width), repeat=depth))
    rows = [
        [*(starts[d] + sum(a * width ** (d - 1 - i) for i, a in enumerate(path[:d])) for d in range(depth)), nodes - 1]
        for path in paths
    ]
    batch = Trajectories(torch.tensor(paths).flatten(), torch.full((len(paths),), depth), torch.ones(len(paths)).bool())
    rows = torch.tensor(rows)
    taken = probs[rows[:, :depth].flatten(), batch.actions].view(len(paths), depth)
    reach = taken.prod(-1).repeat_interleave(depth)
    row_sets = top_p_sets(probs[rows.flatten()], 0.8)

    def expected_loss():
        step = bellman_transitions(student[rows.flatten()], batch, row_sets, BellmanOptions(chi2="none"))
        return (reach * step.kept * (step.linear + step.chi2)).sum()

    optimiser = torch.optim.LBFGS(
        [student], max_iter=500, line_search_fn="strong_wolfe", tolerance_grad=1e-9, tolerance_change=0
    )

    def closure():
        optimiser.zero_grad()
        loss = expected_loss()
        loss.backward()
        return loss

    optimiser.step(closure)
    learned = student.detach().masked_fill(~mask, -torch.inf).softmax(-1)[:-1]
    target = (probs * mask / sets.mass[:, None])[:-1]
    torch.testing.assert_close(learned, target, atol=1e-3, rtol=0)
