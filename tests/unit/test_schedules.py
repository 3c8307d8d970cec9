"""Which texts an update of GKD or DistiLLM learns from: fixed shares, thresholds that rise, and replay."""

import json
from pathlib import Path

import pytest

from distill.methods.distillm.adaptive import Adaptive
from distill.methods.gkd.task import StudentShare
from distill.rollouts.replay import Replay
from distill.rollouts.rollout import Rollout

SCHEDULES = json.loads((Path(__file__).parents[1] / "golden" / "further_oracles.json").read_text())["schedules"]
NAMES = {(True, False): "fresh", (False, True): "replay", (False, False): "data"}


def answers(count):
    return [Rollout([1], [place], {}) for place in range(count)]


@pytest.mark.parametrize("case", SCHEDULES["distillm_threshold"])
def test_the_threshold_rises_with_the_dev_loss(case):
    sources, found = Adaptive(case["start"], 0.1, case["tolerance"], "decreasing", 100), []
    for loss in case["dev_losses"]:
        sources.evaluated(loss)
        found.append(sources.threshold)
    assert found == pytest.approx(case["thresholds"])


def test_a_loss_at_the_bound_raises_and_the_threshold_ends_at_one():
    sources = Adaptive(0.95, 0.1, 0.5, "decreasing", 100)
    for loss, threshold in ((1.0, 0.95), (1.25, 0.95), (1.5, 1.0), (1.75, 1.0), (9.0, 1.0)):
        sources.evaluated(loss)
        assert sources.threshold == threshold
    assert sources.reference == 9.0


@pytest.mark.parametrize("case", SCHEDULES["distillm_sources"])
def test_the_sources_of_the_released_code(case):
    """`stored_before` answers are there; each fresh batch joins them."""
    options = case["options"]
    sources = Adaptive(case["threshold"], 0.1, 0.1, options["replay"], options["total"])
    store, found = Replay(options["capacity"]), []
    store.add(answers(case["stored_before"]))
    for step, uniform in zip(case["steps"], case["uniforms"], strict=True):
        source = sources.choose(step - 1, uniform, store)
        found.append(NAMES[source])
        if source.fresh:
            store.add(answers(options["batch"]))
    assert found == case["sources"]


def test_a_share_of_none_never_samples_and_one_of_all_always_does():
    store = Replay(8)
    for uniform in (0.0, 0.4, 1 - 2**-53):
        assert NAMES[StudentShare(0.0).choose(0, uniform, store)] == "data"
        assert NAMES[StudentShare(1.0).choose(0, uniform, store)] == "fresh"
        assert StudentShare(1.0, replay=True).choose(0, uniform, store) == (True, True)
        assert NAMES[Adaptive(0.0, 0.1, 0.1, "decreasing", 10).choose(0, uniform, store)] == "data"
    assert [NAMES[StudentShare(0.5).choose(0, uniform, store)] for uniform in (0.49, 0.5)] == ["fresh", "data"]


def test_the_store_keeps_the_newest_and_draws_each_once(tmp_path):
    store = Replay(6)
    store.add(answers(4))
    assert not store.is_full
    store.add(answers(9))
    assert store.is_full and [own.response_ids for own in store.rollouts] == [[3], [4], [5], [6], [7], [8]]
    drawn = store.draw(6, 1)
    assert sorted(own.response_ids for own in drawn) == [[3], [4], [5], [6], [7], [8]]
    assert store.draw(3, 1) == store.draw(3, 1) != store.draw(3, 2)
    store.save(tmp_path)
    other = Replay(6)
    other.load(tmp_path)
    assert list(other.rollouts) == list(store.rollouts)
