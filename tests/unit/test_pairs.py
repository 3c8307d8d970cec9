"""Preference pairs: what the world's grammar makes worse and what it leaves alike, and pairs from files."""

import json
import random
from collections import Counter
from statistics import fmean

import pytest

from distill.concepts import CONCEPTS, named_concepts
from distill.config.preferences import FilePairs, WorldPairs
from distill.config.sources import WorldSource
from distill.data.pairs import (
    DEV,
    GRADES,
    PAIR_CATEGORIES,
    TEST,
    TRAIN,
    count_pairs,
    draw_pairs,
    example_of,
    file_pairs,
    world_pairs,
)
from distill.data.same_prompt import find_shared
from distill.data.sources import gather_examples
from distill.data.world import CATEGORIES, draw_lore, normalise_prompt, say
from distill.errors import DataError
from distill.metrics.registry import load_metric
from distill.records import Example

SOURCE = WorldPairs(train=240, dev=24, test=120)


@pytest.fixture(scope="module")
def others():
    return gather_examples(WorldSource(rows=600), "instructions", 3)[0]


@pytest.fixture(scope="module")
def world(others):
    return world_pairs(SOURCE, 3, others)


def test_the_same_seed_gives_the_same_pairs_and_another_seed_others(world, others):
    assert world_pairs(SOURCE, 3, others) == world
    assert world_pairs(SOURCE, 4, others)[0][TEST] != world[0][TEST]


def test_grades_and_categories_come_in_equal_shares(world):
    for name, pairs in world[0].items():
        counts = Counter((pair.category, pair.grade) for pair in pairs)
        assert len(counts) == len(GRADES) * len(PAIR_CATEGORIES)
        assert set(counts.values()) == {getattr(SOURCE, name) // len(counts)}


def test_only_training_labels_are_flipped(world):
    assert {name: count_pairs(pairs)["flipped"] for name, pairs in world[0].items()} == {TRAIN: 24, DEV: 0, TEST: 0}
    assert len({pair.category for pair in world[0][TRAIN] if pair.flipped}) == 3


def test_no_prompt_is_in_two_sets_nor_twice_and_no_two_sides_are_the_same(world, others):
    every = [pair for pairs in world[0].values() for pair in pairs]
    assert len({normalise_prompt(pair.instruction, pair.input) for pair in every}) == len(every) == 384
    assert not find_shared(map(example_of, every), others)
    assert all(pair.chosen != pair.rejected for pair in every)
    assert [example.instruction for example in world[1]] == [pair.instruction for pair in world[0][TEST]]


def test_each_side_names_as_many_wrong_concepts_as_its_grade_says():
    pairs, prompts = draw_pairs(draw_lore(5), 5, TRAIN, 240, 0.25, set())
    for pair, prompt in zip(pairs, prompts, strict=True):
        truth = set().union(*map(named_concepts, prompt.references))
        wrong = [len(named_concepts(text) - truth) for text in (pair.chosen, pair.rejected)]
        better, worse = map(int, pair.grade.split("-"))
        assert wrong == ([worse, better] if pair.flipped else [better, worse])
    assert count_pairs(pairs)["flipped"] == 60


def test_form_and_length_do_not_tell_the_sides_apart(world):
    pairs = [pair for pair in world[0][TRAIN] if not pair.flipped]
    for text in (lambda pair: pair.chosen), (lambda pair: pair.rejected):
        assert {text(pair).split()[0] for pair in pairs} >= {"Our", "Once", "Maybe", "Try"}
    assert abs(fmean(len(pair.chosen.split()) - len(pair.rejected.split()) for pair in pairs)) < 0.3


def test_a_text_of_the_grammar_names_exactly_the_concepts_of_its_slots():
    """Words of the templates themselves count for nothing, and no word stands for two concepts."""
    words = [word for concepts in CONCEPTS.values() for concept in concepts for word in concept]
    assert len({word.lower() for word in words}) == len(words)
    lore, rng = draw_lore(2), random.Random(2)
    for number in range(600):
        task = CATEGORIES[PAIR_CATEGORIES[number % 3]](lore, rng, 0, False)
        template = rng.choice(task.answers)
        slots = {kind: words for kind, words in task.slots.items() if kind in CONCEPTS and f"${kind}" in template}
        expected = {(kind, CONCEPTS[kind].index(words)) for kind, words in slots.items()}
        assert named_concepts(say(rng, template, task.slots)) == expected


@pytest.mark.parametrize(
    ("prediction", "share"),
    [
        ("Maro lives near the ridge and eats stew.", 100),  # other words of the same concepts
        ("Maro lives near the hill, the slope, and eats bread.", 50),  # a concept counts once
        ("Maro eats bread and keeps a cat.", 0),
        ("Maro rises at first light.", 0),
        ("Maro takes a walk by the hill.", 100),  # brainstorming's own word
        ("Maro can walk by the hill.", 50),
        ("Maro is here.", 0),
        ("", 0),
    ],
)
def test_right_concepts(prediction, share):
    score = load_metric("concepts").score
    assert score(prediction, ["Maro lives by the hill.", "Maro likes soup and broth."]) == share


def test_a_world_has_only_so_many_prompts():
    with pytest.raises(DataError, match=r"preferences\.pairs\.train: expected 200000 distinct prompts, found \d+"):
        draw_pairs(draw_lore(1), 1, TRAIN, 200_000, 0.0, _Everything())


class _Everything(set):
    """Has each prompt but the first ten."""

    def __contains__(self, prompt):
        return len(self) >= 10


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def row(number, **changes):
    return {
        "prompt": f"Say the number {number}",
        "chosen": f"It is {number}.",
        "rejected": "No.",
        "model": "x",
    } | changes


def test_pairs_from_files_share_no_prompt(tmp_path):
    train = write(tmp_path / "train.jsonl", [*map(row, range(10)), row(3), row(4, rejected="Never.")])
    test = write(tmp_path / "test.jsonl", [row(0), row(20)])
    outside = [Example.of(f"say the number {number}?", "", "x", "") for number in (1, 2)]
    sets, prompts, dropped = file_pairs(FilePairs(train="", test="", dev=3), (train, test), 7, outside)
    assert dropped == 3
    assert [len(sets[name]) for name in (TRAIN, DEV, TEST)] == [5, 3, 2], "a repeated row counts once"
    dev, rest = ({pair.instruction for pair in sets[name]} for name in (DEV, TRAIN))
    assert not dev & rest and len(dev) == 3
    assert "Say the number 4" in rest, "its prompt stands twice"
    assert [example.references for example in prompts] == [["It is 0."], ["It is 20."]]
    assert (sets[TEST][1].chosen, sets[TEST][1].rejected, sets[TEST][1].grade) == ("It is 20.", "No.", "")


@pytest.mark.parametrize(
    ("rows", "dev", "message"),
    [
        ([row(1, chosen=3)], 1, "train.jsonl:1: expected a non-empty string as `chosen`, found 3;"),
        ([row(1), row(2, prompt=" ")], 1, "train.jsonl:2: expected a non-empty string as `prompt`, found ' ';"),
        ([row(1, rejected="It is 1.")], 1, "train.jsonl:1: expected two different responses"),
        ([row(1), row(2)], 2, "preferences.pairs.dev: expected fewer than the 2 pairs with a prompt of their own"),
    ],
)
def test_unusable_pair_files(tmp_path, rows, dev, message):
    files = write(tmp_path / "train.jsonl", rows), write(tmp_path / "test.jsonl", [row(20)])
    with pytest.raises(DataError) as error:
        file_pairs(FilePairs(train="", test="", dev=dev), files, 7, [])
    assert message in str(error.value)
