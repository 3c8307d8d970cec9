"""Top-p candidate sets: the nucleus rule, prefixes of p_max sets, ragged operations."""

import pytest
import torch

from distill.errors import DataError
from distill.losses.candidate_sets import CandidateSets, top_p_sets

ALL_P = [0.05, 0.3, 0.5, 0.8, 0.95, 0.999]


def teacher(seed: int, rows: int, vocab: int, dtype=torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(rows, vocab, generator=generator, dtype=dtype)).softmax(-1)


def same(a: CandidateSets, b: CandidateSets) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("indptr", "ids", "probs")) and a.p == b.p


@pytest.mark.parametrize(
    ("probs", "p", "members"),
    [
        ([0.5, 0.25, 0.25], 0.75, [0, 1]),  # dyadic boundary: mass before token 2 is exactly p
        ([0.5, 0.25, 0.25], 0.5, [0]),
        ([0.25, 0.25, 0.5], 0.75, [2, 0]),  # lower id first among equals
        ([0.06, 0.12, 0.82], 0.8, [2]),
        ([0.25, 0.40, 0.35], 0.8, [1, 2, 0]),  # the token that crosses p is a member
        ([1.0, 0.0, 0.0], 0.999, [0]),
        ([1.0, 0.0, 0.0], 1.0, [0, 1, 2]),  # p = 1 keeps tokens whose probability underflowed
    ],
)
@pytest.mark.parametrize("head", [1, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_members_by_hand(probs, p, members, head, dtype):
    assert top_p_sets(torch.tensor([probs], dtype=dtype), p, head).ids.tolist() == members


@pytest.mark.parametrize("p", ALL_P)
def test_agrees_with_an_ascending_nucleus_filter(p):
    """The usual formulation drops tokens while the ascending cumulative mass is <= 1 - p."""
    probs = teacher(1, 200, 37)
    ascending, ids = probs.sort(-1)
    expected = torch.zeros_like(probs, dtype=torch.bool).scatter(-1, ids, ascending.cumsum(-1) > 1 - p)
    assert torch.equal(top_p_sets(probs, p).to_mask(37), expected)


@pytest.mark.parametrize("p", ALL_P)
def test_mass_is_minimal_and_sets_are_nested(p):
    probs = teacher(2, 100, 50)
    sets = top_p_sets(probs, p)
    least = sets.probs[sets.indptr[1:] - 1]
    assert (sets.sizes >= 1).all()
    assert (sets.mass >= p).all() and (sets.mass - least < p).all()
    assert torch.allclose(sets.mass, (probs * sets.to_mask(50)).sum(-1))
    assert (sets.to_mask(50) <= top_p_sets(probs, min(1.0, p + 0.02)).to_mask(50)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("p_max", [0.95, 1.0])
@pytest.mark.parametrize("p", ALL_P[:5])
def test_prefix_equals_direct_computation(dtype, p_max, p):
    """5,000 rows: enough for the integer running total of the ragged form to wrap."""
    probs = teacher(3, 5000, 30, dtype)
    probs[::7] = torch.full((30,), 1 / 30, dtype=dtype)  # rows of ties
    assert same(top_p_sets(probs, p_max).prefix(p), top_p_sets(probs, p))


@pytest.mark.parametrize("p", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("kind", ["peaked", "flat", "ties"])
def test_partial_sort_equals_full_sort(p, kind):
    probs = teacher(4, 40, 300, torch.float32)
    if kind == "flat":
        probs = probs.pow(0.01)
    if kind == "ties":
        probs = (torch.arange(12000) * 7919 % 41).view(40, 300).float() ** 4
    probs = probs / probs.sum(-1, keepdim=True)
    assert same(top_p_sets(probs, p, head=4), top_p_sets(probs, p, head=300))


def test_half_precision_is_computed_in_float32():
    probs = teacher(5, 20, 40).to(torch.bfloat16)
    assert same(top_p_sets(probs, 0.8), top_p_sets(probs.float(), 0.8))
    assert top_p_sets(probs, 0.8).probs.dtype == torch.float32


def test_contains_matches_the_mask():
    probs = teacher(6, 60, 11)
    sets, actions = top_p_sets(probs, 0.8), torch.arange(60) % 11
    expected = sets.to_mask(11).gather(-1, actions[:, None])[:, 0]
    assert 0 < expected.sum() < 60
    assert torch.equal(sets.contains(actions), expected)


def test_rows_are_selected_and_joined():
    probs = teacher(7, 10, 9)
    sets = top_p_sets(probs, 0.8)
    assert len(sets) == 10 and len(sets[3:3]) == 0
    assert same(sets[3:7], top_p_sets(probs[3:7], 0.8))
    assert same(CandidateSets.cat([sets[:4], sets[4:4], sets[4:]]), sets)


@pytest.mark.parametrize(
    "misuse",
    [
        lambda sets: sets.prefix(0.9),
        lambda sets: CandidateSets.cat([sets, sets.prefix(0.5)]),
        lambda sets: sets[::2],
    ],
)
def test_misuse_is_refused(misuse):
    with pytest.raises(DataError):
        misuse(top_p_sets(teacher(8, 4, 9), 0.8))
