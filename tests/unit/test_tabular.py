"""Where each form of BD pulls a student on trees of responses, and that the committed study is the code's."""

import csv
import sys
from pathlib import Path

import pytest
import torch

from distill.methods.bd.section import Bellman

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))
import tabular  # noqa: E402

FOREST = tabular.random_forest(trees=4, vocab=4)
ORDER = ("start", "printed", "printed, alpha 1", "no chi-square", "remainder, no chi-square")


def end(form, noise=tabular.NOISE, width=None):
    """The measures of where a form takes a student."""
    first = tabular.start(FOREST, noise, width)
    last = first if form == "start" else tabular.solve(first, FOREST, form, rounds=1)
    return tabular.mean_measures(last, FOREST)


@pytest.fixture(scope="module")
def ends():
    return {form: end(form) for form in ORDER}


def test_every_transition_has_its_share_of_the_teachers_responses():
    states, vocab = FOREST.probs.shape
    before, after = FOREST.rows.view(-1, 2).T
    shares = FOREST.occupancy[before] * FOREST.probs[before, FOREST.transitions.actions]
    torch.testing.assert_close(FOREST.weights, shares)
    done = FOREST.transitions.done
    assert done.view(-1, vocab).sum(-1).tolist() == [1] * (4 + 12) + [vocab] * 36  # EOS, and all tokens at the end
    assert FOREST.weights[done].sum().item() == pytest.approx(1)  # every response ends once
    entered = torch.zeros(states, dtype=torch.float64).index_add(0, after[~done], FOREST.weights[~done])
    torch.testing.assert_close(entered[4:], FOREST.occupancy[4:])


def test_without_sets_and_chi_square_the_loss_is_the_cross_entropy():
    logits = tabular.start(FOREST, 1.0, None).logits
    cross = -(FOREST.occupancy[:, None] * FOREST.probs * logits.log_softmax(-1)).sum() / FOREST.occupancy.sum()
    loss = tabular.expected_loss(logits, FOREST, None, Bellman(chi2="none", q_min=None))
    torch.testing.assert_close(loss, cross)


def test_the_parts_of_the_kl_add_up(ends):
    for one in ends.values():
        assert one["kl"] == pytest.approx(one["kl_mass"] + one["kl_inside"] + one["kl_outside"], abs=1e-12)
        assert min(one["kl_mass"], one["kl_inside"], one["kl_outside"]) > -1e-12


def test_the_weaker_chi_square_the_nearer_and_a_remainder_is_nearest(ends):
    distances = [ends[form]["kl"] for form in ORDER]
    assert distances == sorted(distances, reverse=True)


def test_without_chi_square_the_projected_teacher_is_learnt_and_what_is_left_lies_outside(ends):
    assert ends["no chi-square"]["kl_inside"] < 1e-6 < 0.01 < ends["no chi-square"]["kl_mass"]
    assert ends["no chi-square"]["kl_outside"] == pytest.approx(ends["start"]["kl_outside"], abs=1e-6)


def test_a_remainder_holds_the_mass_outside(ends):
    held = ends["remainder, no chi-square"]
    assert max(held["kl_inside"], held["kl_mass"]) < 1e-6
    assert held["outside"] == pytest.approx(held["teacher_outside"], abs=1e-4)


def test_a_teacher_is_left_by_the_printed_chi_square_alone():
    assert end("printed", noise=0.0)["kl"] > 1e-3
    for form in ("no chi-square", "centred", "remainder, no chi-square", "remainder, centred"):
        assert end(form, noise=0.0)["kl"] < 1e-9


def test_where_states_share_parameters_the_mass_outside_drifts_without_a_remainder():
    outside = {form: end(form, width=20)["outside"] for form in (*ORDER, "p 1, no chi-square")}
    assert min(outside["printed"], outside["no chi-square"]) > 1.3 * outside["start"]
    assert outside["remainder, no chi-square"] == pytest.approx(outside["p 1, no chi-square"], rel=0.2)


def test_the_committed_study_is_the_codes():
    with open(ROOT / "docs/studies/tabular/optima.csv", newline="") as file:
        rows = {(row["student"], float(row["noise"]), row["form"]): row for row in csv.DictReader(file)}
    distances = [float(rows["free", tabular.NOISE, form]["kl"]) for form in ORDER]
    assert distances == sorted(distances, reverse=True)
    assert {form for *_, form in rows} == {"start", *tabular.FORMS}
    forest = tabular.random_forest()
    for (student, noise, form), row in rows.items():
        if form == "start":
            found = tabular.mean_measures(tabular.start(forest, noise, tabular.WIDTHS[student]), forest)
            assert {name: float(row[name]) for name in found} == pytest.approx(found, abs=1e-5)
