"""Seed spreads, bootstrap intervals and the scoring of generations files."""

import numpy as np
import pytest

from distill.errors import DataError
from distill.evaluation.p_values import SMALLEST, bound
from distill.evaluation.scoring import score_generations
from distill.evaluation.statistics import RESAMPLES, Spread, bootstrap, holm, mean_std, paired_bootstrap


@pytest.mark.parametrize(
    ("values", "spread"),
    [([2.0, 4.0], Spread(3.0, 2**0.5, 2)), ([1.0, 2.0, 3.0], Spread(2.0, 1.0, 3)), ([7.0], Spread(7.0, None, 1))],
)
def test_mean_std_is_the_sample_deviation(values, spread):
    assert mean_std(values) == spread


def test_bootstrap_agrees_with_the_normal_interval_of_many_values():
    values = np.random.default_rng(1).normal(3, 2, size=400)
    interval = bootstrap(values)
    half = 1.96 * values.std() / 20
    assert interval.estimate == pytest.approx(values.mean())
    assert (interval.lo, interval.hi) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)
    assert interval.n == 400


def test_bootstrap_interval_depends_on_its_seed_and_level_only():
    values = list(np.random.default_rng(2).random(50))
    assert bootstrap(values, seed=3) == bootstrap(values, seed=3)
    assert bootstrap(values, seed=3) != bootstrap(values, seed=4)
    narrow = bootstrap(values, level=0.5)
    assert bootstrap(values).lo < narrow.lo < narrow.hi < bootstrap(values).hi


def test_pairing_removes_what_makes_prompts_hard():
    hardness = dict(enumerate(np.random.default_rng(5).normal(50, 30, size=100)))
    first = {str(prompt): score + 1 + (prompt % 2) for prompt, score in hardness.items()}
    second = {str(prompt): score for prompt, score in hardness.items()}
    difference = paired_bootstrap(first, second)
    assert difference.estimate == pytest.approx(1.5)
    assert 1 < difference.lo < 1.5 < difference.hi < 2
    assert difference.n == 100
    assert bootstrap(list(first.values())).hi - bootstrap(list(first.values())).lo > 5


def test_paired_bootstrap_of_swapped_systems_is_the_negative():
    generator = np.random.default_rng(6)
    first, second = ({str(i): float(x) for i, x in enumerate(generator.random(30))} for _ in range(2))
    one, other = paired_bootstrap(first, second), paired_bootstrap(second, dict(reversed(first.items())))
    assert (one.estimate, one.lo, one.hi) == pytest.approx((-other.estimate, -other.hi, -other.lo))


def test_the_p_value_agrees_with_the_normal_test_of_many_values():
    values = np.random.default_rng(8).normal(0, 2, size=400)
    values += 0.2 - values.mean()  # z = 2, so p = 0.0455
    values *= 2 / values.std()
    values += 0.2 - values.mean()
    assert bootstrap(values).p_value == pytest.approx(0.0455, abs=0.01)
    assert bootstrap(-values).p_value == pytest.approx(0.0455, abs=0.01)
    assert bootstrap(values - values.mean()).p_value > 0.9


def test_the_p_value_and_the_interval_agree_on_0():
    generator = np.random.default_rng(9)
    for shift in (0.1, 0.2, 0.25, 0.3, 0.5):
        interval = bootstrap(generator.normal(shift, 1, size=60))
        if min(abs(interval.lo), abs(interval.hi)) > 0.01:
            assert (interval.p_value < 0.05) is not (interval.lo < 0 < interval.hi)


def test_the_smallest_p_value_is_that_of_no_resample_on_the_other_side():
    assert bootstrap([1.0, 2.0]).p_value == 2 / (RESAMPLES + 1)
    assert bootstrap([0.0, 0.0]).p_value == 1


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.04, 0.04], [0.08, 0.08]),
        ([0.5, 0.9, 0.6], [1.0, 1.0, 1.0]),
        ([0.001, 0.5, 0.02], [0.003, 0.5, 0.04]),
        ([0.2], [0.2]),
        ([], []),
    ],
)
def test_holm_by_hand(p_values, adjusted):
    assert holm(p_values) == pytest.approx(adjusted)


def test_equal_systems_differ_by_nothing():
    scores = {"a": 1.0, "b": 5.0}
    difference = paired_bootstrap(scores, scores)
    assert (difference.estimate, difference.lo, difference.hi, difference.n) == (0, 0, 0, 2)


@pytest.mark.parametrize(
    "compute",
    [
        lambda: mean_std([]),
        lambda: bootstrap([]),
        lambda: paired_bootstrap({}, {}),
        lambda: paired_bootstrap({"a": 1.0}, {"a": 1.0, "b": 2.0}),
    ],
)
def test_statistics_of_nothing_or_of_unlike_prompts_are_errors(compute):
    with pytest.raises(DataError, match="expected .* found"):
        compute()


EXAMPLES = {
    "dolly": [{"id": "p1", "output": "the cat sat"}, {"id": "p2", "output": ["a dog", "the dog ran"]}],
    "vicuna": [{"id": "v1", "output": "yes"}],
}
METRICS = {"dolly": "rouge_l", "vicuna": "exact_match"}


def response(prompt, text, dataset="dolly", seed=10, decoding="top_p_1.0", tokens=4, finished=True):
    return {
        "id": prompt,
        "dataset": dataset,
        "seed": seed,
        "decoding": decoding,
        "prompt": "",
        "response": text,
        "tokens": tokens,
        "finished": finished,
    }


def complete():
    return [
        response("p2", "The dog ran", seed=10, tokens=3),
        response("p1", " the cat\n", seed=10, tokens=8, finished=False),
        response("p1", "the cat sat", seed=20),
        response("p2", "", seed=20),
        response("v1", "no", dataset="vicuna", seed=10),
        response("v1", "yes", dataset="vicuna", seed=20),
    ]


def test_scores_by_dataset_decoding_and_seed():
    scores = score_generations(complete(), EXAMPLES, METRICS)
    first = dict(scores.seeds[0])
    assert first.pop("score") == pytest.approx(90)
    assert first == {
        "dataset": "dolly",
        "metric": "rouge_l",
        "decoding": "top_p_1.0",
        "seed": 10,
        "exact_match": 50,
        "mean_tokens": 5.5,
        "finished": 0.5,
        "distinct_1": 4 / 5,
        "distinct_2": 1,
        "n": 2,
    }
    found = [(row["dataset"], row["metric"], row["seed"], row["score"]) for row in scores.seeds[1:]]
    assert found == [("dolly", "rouge_l", 20, 50), *(("vicuna", "exact_match", *row) for row in ((10, 0), (20, 100)))]


def test_scores_by_prompt_are_means_over_seeds():
    rows = {(row["dataset"], row["id"]): row for row in score_generations(complete(), EXAMPLES, METRICS).prompts}
    assert rows["dolly", "p1"]["score"] == pytest.approx(90)
    assert rows["dolly", "p2"] == {"dataset": "dolly", "metric": "rouge_l", "decoding": "top_p_1.0"} | {
        **{"id": "p2", "score": 50, "seeds": 2}
    }
    assert len(rows) == 3


def test_scores_do_not_depend_on_the_order_of_rows():
    assert score_generations(complete(), EXAMPLES, METRICS) == score_generations(
        reversed(complete()), EXAMPLES, METRICS
    )


@pytest.mark.parametrize(
    ("rows", "examples", "found"),
    [
        (complete()[1:], EXAMPLES, "seed 10.* 1 missing, such as p2"),
        ([*complete(), response("p9", "")], EXAMPLES, "unknown prompt p9"),
        ([*complete(), response("v1", "")], EXAMPLES, "unknown prompt v1 of dolly"),
        ([*complete(), response("p1", "", dataset="selfinst")], EXAMPLES, "unknown prompt p1 of selfinst"),
        ([*complete(), response("p1", "")], EXAMPLES, "second response to prompt p1"),
        (complete()[:4], EXAMPLES, "1 prompts of vicuna.*, found none"),
        ([], EXAMPLES, "found none"),
        (complete(), {**EXAMPLES, "vicuna": []}, "vicuna to have prompts, found none"),
        (complete(), {**EXAMPLES, "vicuna": [{"id": "v1", "output": ""}]}, "every prompt of vicuna, found none for v1"),
    ],
)
def test_incomplete_or_foreign_generations_are_errors(rows, examples, found):
    with pytest.raises(DataError, match=f"^run.jsonl: expected .*{found}"):
        score_generations(rows, examples, METRICS, place="run.jsonl")


@pytest.mark.parametrize(
    ("p", "tests", "text"),
    [
        (SMALLEST, 1, "<= 0.0002"),
        (10 * SMALLEST, 10, "<= 0.002"),
        (51 * SMALLEST, 51, "<= 0.011"),  # rounded up: 0.0102
        (2 * SMALLEST, 1, None),
        (11 * SMALLEST, 10, None),
        (1.0, 9999, None),
    ],
)
def test_a_p_value_at_the_floor_of_the_resamples_is_a_bound(p, tests, text):
    assert bound(p, tests) == text


def test_adjusting_keeps_a_bound_a_bound_and_what_rests_on_it():
    least = bootstrap([1.0, 2.0]).p_value
    adjusted = holm([least, 1.5 * least, 0.02, least])
    assert [bound(p, 4) for p in adjusted] == ["<= 0.0008", "<= 0.0008", None, "<= 0.0008"]
