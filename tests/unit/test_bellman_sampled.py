"""The published objective: number oracles, identities, gradients, options."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from distill.errors import DataError
from distill.losses.candidate_sets import CandidateSets, top_p_sets
from distill.methods.bd.reference import bellman_sampled, bellman_transitions
from distill.methods.bd.section import Bellman
from distill.methods.bd.trajectories import Trajectories
from states import vary

ORACLE = json.loads((Path(__file__).parents[1] / "golden" / "bd_oracles.json").read_text())
TEACHER = torch.tensor(ORACLE["teacher_probs"], dtype=torch.float64)
STUDENT = torch.tensor(ORACLE["student_logits"], dtype=torch.float64)
OPTION_OF = {"chi": "chi2", "qmin": "q_min", "shift": "q_shift", "oos": "oos_action"}
PLAIN = Bellman(chi2="none", q_min=None)


def trajectories(*sequences: tuple[list[int], bool]) -> Trajectories:
    return Trajectories(
        torch.tensor([a for actions, _ in sequences for a in actions]),
        torch.tensor([len(actions) for actions, _ in sequences]),
        torch.tensor([done for _, done in sequences]),
    )


def sets(probs: torch.Tensor, p: float) -> CandidateSets | None:
    return None if p == 1 else top_p_sets(probs, p)


def loss_and_grad(logits, *args):
    logits = logits.clone().requires_grad_()
    mean = bellman_sampled(logits, *args).mean
    mean.backward()
    return mean.detach(), logits.grad


def world(seed: int = 0, vocab: int = 8, p: float = 0.8, scale: float = 3.0):
    """Three sequences (done, cut, done), teacher close enough to the student for both in-set and out-of-set actions."""
    generator = torch.Generator().manual_seed(seed)
    lengths, done = [5, 4, 2], [True, False, True]
    states = sum(lengths) + len(lengths)
    logits = scale * torch.randn(states, vocab, generator=generator, dtype=torch.float64)
    probs = (logits / 2 + torch.randn(states, vocab, generator=generator, dtype=torch.float64)).softmax(-1)
    actions = [torch.multinomial(row, 1, generator=generator).item() for row in probs]
    parts, start = [], 0
    for length, ended in zip(lengths, done, strict=True):
        parts.append((actions[start : start + length], ended))
        start += length + 1
    return logits, trajectories(*parts), sets(probs, p), probs


def close(actual, expected, tolerance=1e-10):
    actual, expected = (torch.as_tensor(value, dtype=torch.float64) for value in (actual, expected))
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


# --- oracles


@pytest.mark.parametrize("p", ["0.5", "0.8"])
def test_oracle_sets(p):
    assert top_p_sets(TEACHER, float(p)).to_mask(3).int().tolist() == ORACLE["masks"][p]


@pytest.mark.parametrize("case", ORACLE["sampled"], ids=lambda case: case["name"])
def test_oracle(case):
    given = {OPTION_OF.get(key, key): value for key, value in case["options"].items()}
    given |= {"chi2": "printed" if given["chi2"] else "none"} if "chi2" in given else {}
    batch = trajectories((case["actions"], given.pop("done")))
    candidates, options = sets(TEACHER, case["p"]), Bellman(**given)
    step = bellman_transitions(STUDENT, batch, candidates, options)
    loss, grad = loss_and_grad(STUDENT, batch, candidates, options)

    def expect(actual, key):
        close(actual, torch.tensor(case[key], dtype=torch.float64), 1e-6)

    expect(step.value[: len(case["V"])], "V")
    expect(step.next_value, "V_next")
    expect(step.residual, "x")
    expect(step.linear + step.chi2, "per_token")
    assert step.kept.tolist() == case["valid"]
    expect(loss, "loss")
    expect(grad, "grad")


def test_oracle_batch():
    batch = trajectories(([1, 2, 0], True), ([1, 2], False))
    rows = torch.tensor([0, 1, 2, 3, 0, 1, 2])
    candidates = top_p_sets(TEACHER[rows], 0.8)
    for reduction in ("token", "sequence"):
        terms = bellman_sampled(STUDENT[rows], batch, candidates, Bellman(reduction=reduction))
        close(terms.mean.item(), ORACLE["batch"][f"{reduction}_mean"], 1e-6)
        assert terms.weight == {"token": 5, "sequence": 2}[reduction]


# --- properties


def test_value_is_the_soft_value_of_the_projected_policy_and_grows_with_p():
    logits, batch, _, probs = world()
    q = logits - logits.max(-1, keepdim=True).values
    values = []
    for p in (0.3, 0.6, 0.9, 1.0):
        candidates = sets(probs, p)
        value = bellman_transitions(logits, batch, candidates, PLAIN).value
        mask = torch.ones_like(q, dtype=torch.bool) if candidates is None else candidates.to_mask(q.shape[-1])
        policy = q.exp() * mask / (q.exp() * mask).sum(-1, keepdim=True)
        close(value, (policy * (q - policy.clamp(min=1e-300).log())).sum(-1))
        values.append(value)
    close(values[-1], q.logsumexp(-1))
    assert all((low <= high + 1e-12).all() for low, high in zip(values, values[1:], strict=False))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("alpha", [0.1, 1.0])
def test_loss_is_projected_nll_plus_chi2(gamma, alpha):
    logits, batch, candidates, _ = world()
    options = Bellman(gamma=gamma, alpha=alpha)
    step = bellman_transitions(logits, batch, candidates, options)
    q = (logits - logits.max(-1, keepdim=True).values).clamp(min=-10).masked_fill(~candidates.to_mask(8), -torch.inf)
    nll = -q.log_softmax(-1)[batch.state, batch.actions][step.kept]
    close(step.linear[step.kept], nll)
    terms = bellman_sampled(logits, batch, candidates, options)
    close(terms.total, (nll + step.residual[step.kept] ** 2 / (4 * alpha)).sum())
    close(terms.parts["linear"] + terms.parts["chi2"], terms.total)
    without = bellman_sampled(logits, batch, candidates, vary(options, chi2="none"))
    close(without.total, nll.sum())  # hence independent of gamma


def test_no_set_no_chi2_no_clip_is_the_token_nll():
    logits, batch, _, _ = world()
    loss, grad = loss_and_grad(logits, batch, None, PLAIN)
    logits = logits.clone().requires_grad_()
    nll = torch.nn.functional.cross_entropy(logits[batch.state], batch.actions)
    nll.backward()
    close(loss, nll.detach())
    close(grad, logits.grad)


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        (Bellman(q_shift="max"), False),
        (Bellman(q_shift="lse"), False),
        (Bellman(q_shift="none", q_min=None), True),
        (Bellman(q_shift="none", q_min=None, chi2="none"), False),
    ],
)
def test_row_shift_invariance(options, changes):
    logits, batch, candidates, _ = world()
    moved = logits + torch.linspace(-3, 5, len(logits), dtype=torch.float64)[:, None]
    loss, grad = loss_and_grad(logits, batch, candidates, options)
    moved_loss, _ = loss_and_grad(moved, batch, candidates, options)
    assert (abs(loss - moved_loss) > 1e-3) == changes
    if options.q_shift != "none":
        close(moved_loss, loss)
        close(grad.sum(-1), torch.zeros(len(grad), dtype=torch.float64))


@pytest.mark.parametrize("seed", range(5))
def test_no_gradient_outside_set_and_argmax(seed):
    logits, batch, candidates, _ = world(seed)
    _, grad = loss_and_grad(logits, batch, candidates)
    untouched = ~candidates.to_mask(8)
    untouched[torch.arange(len(logits)), logits.argmax(-1)] = False
    assert untouched.any() and (grad[untouched] == 0).all() and grad.abs().max() > 0


def test_vocabulary_permutation_invariance():
    logits, batch, candidates, probs = world()
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    moved = replace(batch, actions=order.argsort()[batch.actions])
    close(
        bellman_sampled(logits[:, order], moved, top_p_sets(probs[:, order], 0.8)).total,
        bellman_sampled(logits, batch, candidates).total,
    )


@pytest.mark.parametrize("reduction", ["token", "sequence"])
def test_micro_batches_and_order_do_not_matter(reduction):
    logits, batch, candidates, _ = world()
    options = Bellman(reduction=reduction)
    whole = bellman_sampled(logits, batch, candidates, options)
    rows, actions = [slice(0, 6), slice(6, 11), slice(11, 14)], batch.actions.split(batch.lengths.tolist())

    def take(order):
        part = Trajectories(torch.cat([actions[i] for i in order]), batch.lengths[order], batch.done[order])
        chosen = CandidateSets.cat([candidates[rows[i]] for i in order])
        return bellman_sampled(torch.cat([logits[rows[i]] for i in order]), part, chosen, options)

    for split in ([[2, 0, 1]], [[0], [1], [2]], [[1], [2, 0]]):
        parts = [take(order) for order in split]
        close(sum(part.total for part in parts), whole.total)
        assert sum(part.weight for part in parts) == whole.weight
        for name, (total, count) in whole.metrics.items():
            close(sum(part.metrics[name][0] for part in parts), total)
            assert sum(part.metrics[name][1] for part in parts) == count


@pytest.mark.parametrize("gamma", [0.5, 0.99])
def test_value_terms_telescope(gamma):
    logits, batch, candidates, _ = world()
    step = bellman_transitions(logits, batch, candidates, Bellman(gamma=gamma))
    first = slice(0, 5)  # the first sequence ends with EOS: V = 0 behind it
    value, difference = step.value[first], step.value[first] - gamma * step.next_value[first]
    close((gamma ** torch.arange(5, dtype=torch.float64) * difference).sum(), value[0])
    close(difference.sum(), value[0] + (1 - gamma) * value[1:].sum())


def test_phi_slope_and_large_alpha_limit():
    """One action, two states: dL/dx through the gathered Q alone is -phi'(x) = -(1 - x / (2 alpha))."""
    logits, batch, candidates, _ = world()
    step = bellman_transitions(logits.requires_grad_(), batch, candidates, Bellman(alpha=0.3))
    per_residual = torch.autograd.grad((step.residual**2 / (4 * 0.3) - step.residual).sum(), step.residual)[0]
    close(per_residual, -(1 - step.residual / 0.6).detach())
    close(step.chi2, step.residual**2 / 1.2)
    far = bellman_sampled(logits, batch, candidates, Bellman(alpha=1e12)).total
    close(far, bellman_sampled(logits, batch, candidates, Bellman(chi2="none")).total, 1e-8)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("oos_action", ["drop", "include"])
def test_gradient_closed_form(seed, oos_action):
    """N dL/dz_t = (pi - e_a) + x_t / 2 alpha (e_a - e_m) - gamma (1 - end) x_{t-1} / 2 alpha (pi - e_m)."""
    alpha, gamma = 0.1, 0.99
    logits, batch, candidates, _ = world(seed, scale=1.5)
    options = Bellman(alpha=alpha, gamma=gamma, oos_action=oos_action, q_min=None)
    step = bellman_transitions(logits, batch, candidates, options)
    mask = candidates.to_mask(8)
    if oos_action == "include":
        mask[batch.state, batch.actions] = True
    policy = logits.masked_fill(~mask, -torch.inf).softmax(-1)
    unit = torch.eye(8, dtype=torch.float64)
    top, expected = unit[logits.argmax(-1)], torch.zeros_like(logits)
    for n in step.kept.nonzero()[:, 0].tolist():
        t, action, slope = batch.state[n], unit[batch.actions[n]], step.residual[n] / (2 * alpha)
        expected[t] += policy[t] - action + slope * (action - top[t])
        if not batch.end[n]:
            expected[t + 1] -= gamma * slope * (policy[t + 1] - top[t + 1])
    _, grad = loss_and_grad(logits, batch, candidates, options)
    close(grad * step.kept.sum(), expected)


def test_gradcheck_through_every_branch():
    logits, batch, candidates, _ = world(3)
    options = Bellman(q_shift="lse", oos_action="include", occupancy_weights=True, reduction="sequence")
    assert torch.autograd.gradcheck(
        lambda z: bellman_sampled(z, batch, candidates, options).mean, logits.clone().requires_grad_()
    )


# --- options, metrics, numerics


@pytest.mark.parametrize(
    "changed",
    [
        {"objective": "expected"},
        {"q_shift": "lse"},
        {"q_shift": "none"},
        {"q_min": None},
        {"q_min": -2.0},
        {"clip_scope": "selected"},
        {"remainder": True},
        {"chi2": "none"},
        {"chi2": "centred"},
        {"alpha": 0.5},
        {"gamma": 0.5},
        {"oos_action": "include"},
        {"oos_action": "floor"},
        {"eos_action": "exclude"},
        {"truncation": "drop_last"},
        {"reduction": "sequence"},
        {"occupancy_weights": True},
        {"value_loss": "v0"},
    ],
    ids=lambda changed: "-".join(f"{key}={value}" for key, value in changed.items()),
)
def test_every_option_changes_the_loss(changed):
    logits, batch, candidates, _ = world(0)
    base = Bellman(gamma=0.9, q_min=-4.0)  # low enough a floor for some entries, some of them in a set
    assert (
        abs(
            bellman_sampled(logits, batch, candidates, base).mean
            - bellman_sampled(logits, batch, candidates, vary(base, **changed)).mean
        )
        > 1e-5
    )


def test_detach_next_value_changes_the_gradient_alone():
    logits, batch, candidates, _ = world()
    loss, grad = loss_and_grad(logits, batch, candidates, Bellman())
    held_loss, held_grad = loss_and_grad(logits, batch, candidates, Bellman(detach_next_value=True))
    close(held_loss, loss)
    assert (grad - held_grad).abs().max() > 1e-3
    cut = torch.tensor([10])  # the bootstrap state is only ever a next state
    assert grad[cut].abs().max() > 0 and held_grad[cut].abs().max() == 0


def test_v0_replaces_the_value_term():
    logits, batch, candidates, _ = world()
    options = Bellman(value_loss="v0", gamma=0.9)
    step = bellman_transitions(logits, batch, candidates, options)
    close(step.linear + step.residual, 0.1 * step.value[torch.tensor([0] * 5 + [6] * 4 + [11] * 2)])


def test_occupancy_weights_are_powers_of_gamma():
    logits, batch, candidates, _ = world()
    options = Bellman(occupancy_weights=True, gamma=0.7, oos_action="include")
    step = bellman_transitions(logits, batch, candidates, options)
    weights = 0.7 ** torch.tensor([0, 1, 2, 3, 4, 0, 1, 2, 3, 0, 1], dtype=torch.float64)
    terms = bellman_sampled(logits, batch, candidates, options)
    close(terms.total, (weights * (step.linear + step.chi2)).sum())
    close(terms.weight, weights.sum())


@pytest.mark.parametrize(
    ("options", "lost"),
    [(Bellman(eos_action="exclude"), [4, 10]), (Bellman(truncation="drop_last"), [8])],
)
def test_which_transitions_leave(options, lost):
    logits, batch, _, _ = world()
    step = bellman_transitions(logits, batch, None, options)
    assert (~step.kept).nonzero()[:, 0].tolist() == lost


def test_metrics():
    logits, batch, candidates, _ = world()
    metrics = bellman_sampled(logits, batch, candidates).metrics
    inside = candidates.to_mask(8)[batch.state, batch.actions]
    expected = {
        "oos_fraction": (~inside).double().mean(),
        "set_size": candidates.sizes[batch.state].double().mean(),
        "p_eff": candidates.mass[batch.state].mean(),
    }
    assert 0 < expected["oos_fraction"] < 1
    for name, value in expected.items():
        total, count = metrics[name]
        close(total / count, value, 1e-6)
    everything = bellman_sampled(logits, batch, None).metrics
    assert [float(s / n) for s, n in (everything[k] for k in ("oos_fraction", "set_size", "p_eff"))] == [0, 8, 1]


@pytest.mark.parametrize("reduction", ["token", "sequence"])
def test_nothing_valid_gives_zero_weight_and_zero_gradient(reduction):
    outside = trajectories(([2], True))
    options = Bellman(reduction=reduction)
    assert bellman_sampled(STUDENT[:2], outside, top_p_sets(TEACHER[:2], 0.8), options).weight == 0
    loss, grad = loss_and_grad(STUDENT[:2], outside, top_p_sets(TEACHER[:2], 0.8), options)
    assert loss == 0 and (grad == 0).all()


def test_precision():
    logits, batch, candidates, _ = world()
    exact = bellman_sampled(logits, batch, candidates).mean
    single = bellman_sampled(logits.float(), batch, candidates).mean
    assert exact.dtype == torch.float64 and single.dtype == torch.float32
    assert math.isclose(exact, single, rel_tol=1e-5)
    half = logits.bfloat16()
    assert torch.equal(
        bellman_sampled(half, batch, candidates).total, bellman_sampled(half.float(), batch, candidates).total
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"q_shift": "mean"},
        {"q_min": 0.0},
        {"alpha": 0.0},
        {"gamma": 1.1},
        {"oos_action": "ignore"},
        {"oos_action": "floor", "q_min": None},
        {"chi2": "half"},
        {"chi2": True},
        {"chi2": "centred", "oos_action": "include"},
        {"remainder": True, "oos_action": "include"},
        {"remainder": True, "oos_action": "floor"},
        {"reduction": "mean"},
    ],
)
def test_options_are_validated(wrong):
    with pytest.raises(ValidationError, match="|".join(wrong)):
        Bellman(**wrong)


def test_shapes_are_checked():
    logits, batch, candidates, _ = world()
    for rows, chosen in ((logits[1:], candidates), (logits, candidates[1:])):
        with pytest.raises(DataError, match="rows of logits"):
            bellman_sampled(rows, batch, chosen)
    with pytest.raises(DataError, match="actions"):
        bellman_sampled(logits, replace(batch, actions=batch.actions[1:]), candidates)
