"""The generated world: same seed same rows, Dolly's schema, asked sizes, and no prompt in two sets."""

import re

import pytest

from distill.data.world import (
    CATEGORIES,
    CONCEPTS,
    REFERENCES,
    UNSEEN_FACT_PAIRS,
    WITHOUT_INPUT,
    Task,
    generate_world,
    normalise_prompt,
)
from distill.errors import DataError

SETS = ("instructions", "self_inst", "vicuna")
SIZES = {"instructions": 4500, "self_inst": 320, "vicuna": 320}


@pytest.fixture(scope="module")
def world():
    return generate_world(3, SIZES["instructions"], SIZES["vicuna"], 40)


def test_same_seed_gives_the_same_world_and_another_seed_another():
    first, again, other = (generate_world(seed, 16, 8, 4) for seed in (1, 1, 2))
    assert first == again
    assert first.instructions != other.instructions
    assert first.plain_text != other.plain_text


@pytest.mark.parametrize("name", SETS)
def test_rows_have_dolly_schema_and_non_empty_references(world, name):
    rows = getattr(world, name)
    assert len(rows) == SIZES[name]
    for row in rows:
        assert list(row) == ["instruction", "input", "output", "category"]
        references = row["output"]
        assert len(references) == REFERENCES
        texts = [row["instruction"], *references]
        assert all(isinstance(text, str) and text.strip() == text != "" for text in texts)
        assert not re.search(r"[\[\]|$@{}]| ,|  ", " ".join([*texts, row["input"]])), "an unexpanded template"


@pytest.mark.parametrize("name", SETS)
def test_every_category_is_present(world, name):
    expected = WITHOUT_INPUT if name == "vicuna" else CATEGORIES
    assert {row["category"] for row in getattr(world, name)} == set(expected)


def test_vicuna_has_no_input(world):
    assert all(row["input"] == "" for row in world.vicuna)


def test_no_prompt_occurs_twice_in_or_across_sets(world):
    prompts = [normalise_prompt(row["instruction"], row["input"]) for name in SETS for row in getattr(world, name)]
    assert len(set(prompts)) == len(prompts) == sum(SIZES.values())


def test_a_prompt_is_compared_without_case_space_or_punctuation():
    assert normalise_prompt("Give  the Food, please!", "Tam: cat.") == normalise_prompt(
        "give the food please", "TAM cat"
    )


def test_plain_text_has_the_asked_number_of_documents(world):
    assert len(world.plain_text) == 40
    assert all(document and "\n" not in document for document in world.plain_text)


def test_self_inst_opens_no_prompt_as_train_does(world):
    def openings(rows):
        return {(row["category"], " ".join(row["instruction"].split()[:2])) for row in rows}

    assert not openings(world.self_inst) & openings(world.instructions)


def test_train_never_asks_for_a_held_out_pair_of_facts(world):
    asked = {
        "home": {"home", "place"},
        "act": {"fun", "play"},
        "food": {"food", "meal"},
        "time": {"time", "hour"},
        "pet": {"pet", "animal"},
        "trait": {"mood", "temper"},
    }

    def asks(row, pair):
        words = set(normalise_prompt(row["instruction"], "").split())
        return all(words & asked[kind] for kind in pair)

    for name, held_out in (("instructions", False), ("vicuna", True)):
        rows = [row for row in getattr(world, name) if row["category"] == "open_qa"]
        assert all(any(asks(row, pair) for pair in UNSEEN_FACT_PAIRS) == held_out for row in rows)


def test_answers_depend_on_the_prompt(world):
    """An extraction answer names the asked folk's value or another word for it."""
    for row in world.instructions:
        if row["category"] != "closed_qa":
            continue
        who = re.search(r"(?:has|is) (\w+)", row["instruction"])[1]
        listed = re.search(rf"{who}: (\w+), (\w+), (\w+)", row["input"]).groups()
        for kind, value in zip(("thing", "pet", "home"), listed, strict=True):
            words = next(words for words in CONCEPTS[kind] if value in words)
            assert all(any(word in answer.split() for word in words) for answer in map(_plain, row["output"]))


def _plain(answer):
    return answer.rstrip(".!").replace(",", "")


def test_more_rows_than_distinct_prompts_is_an_error(monkeypatch):
    monkeypatch.setitem(CATEGORIES, "open_qa", lambda *_: Task("Say it.", "", ["Yes."], {}))
    with pytest.raises(DataError, match="expected 9 distinct prompts, found 8"):
        generate_world(0, 9, 0, 1)
