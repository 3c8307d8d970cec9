"""The task sums: right answers, prompts held out by a rule, two ways to answer in the plain text, and the verifier."""

import json
import re
from collections import Counter

import pytest

from distill.audit.words import source
from distill.config.data import SumsDev
from distill.config.slices.gather_source import GatherSource
from distill.config.sources import SumsSource, SumsText
from distill.data.same_prompt import find_shared
from distill.data.sources import gather_documents, gather_examples
from distill.data.sums import draw_documents, generate_sums
from distill.errors import ConfigError, DataError
from distill.metrics.last_digit import METRIC, last_digit

SIZES = {3: {"train": 909, "dev": 30, "test": 61}, 4: {"train": 9091, "dev": 300, "test": 609}}


@pytest.fixture(scope="module", params=SIZES, ids="{} digits".format)
def parts(request):
    """Every prompt of each part."""
    return {part: generate_sums(part, rows, request.param, 3) for part, rows in SIZES[request.param].items()}


def digits_of(prompt: str) -> list[int]:
    return [*map(int, re.fullmatch(r"(\d(?:\+\d)*)[=?]", prompt)[1].split("+"))]


def test_the_parts_hold_every_prompt_once(parts):
    prompts = [row["instruction"] for rows in parts.values() for row in rows]
    digits = len(digits_of(prompts[0]))
    assert len(set(prompts)) == len(prompts) == 10**digits
    assert {len(digits_of(prompt)) for prompt in prompts} == {digits} and all(prompt[-1] == "=" for prompt in prompts)


def test_prompts_are_held_out_by_the_rule(parts):
    for part, rows in parts.items():
        for row in rows:
            total = sum(
                weight * digit for weight, digit in zip((7, 3, 5, 2), digits_of(row["instruction"]), strict=False)
            )
            assert (total % 11 == 0) == (part != "train"), row


def test_no_part_of_one_seed_shares_a_prompt_with_train_of_another():
    held_out = {row["instruction"] for part in ("dev", "test") for row in generate_sums(part, SIZES[4][part], 4, 1)}
    assert len(held_out) == 909
    assert not held_out & {row["instruction"] for row in generate_sums("train", 9091, 4, 2)}


def test_each_step_and_answer_is_right(parts):
    for row in (row for rows in parts.values() for row in rows):
        first, *rest = digits_of(row["instruction"])
        *steps, answer = row["output"].split(";")
        running = first
        for step, digit in zip(steps, rest, strict=True):
            total = (running + digit) % 10
            assert step == f"{running}+{digit}={total}"
            running = total
        assert answer == f"#{sum((first, *rest)) % 10}"


def test_written_out():
    assert generate_sums("train", 9091, 4, 0)[0].keys() == {"instruction", "output"}
    by_prompt = {row["instruction"]: row["output"] for row in generate_sums("train", 9091, 4, 0)}
    assert by_prompt["3+7+5+2="] == "3+7=0;0+5=5;5+2=7;#7"
    assert "0+0+0+0=" not in by_prompt


def test_the_seed_gives_the_order_and_fewer_rows_are_its_beginning():
    rows = generate_sums("test", 609, 4, 5)
    assert generate_sums("test", 9, 4, 5) == rows[:9]
    other = generate_sums("test", 609, 4, 6)
    assert other != rows and len({row["instruction"] for row in (*rows, *other)}) > 609


def test_more_rows_than_prompts_is_an_error():
    with pytest.raises(
        DataError, match="^sums of 4 digits: expected at most 300 rows of dev, found 301; lower `rows`$"
    ):
        generate_sums("dev", 301, 4, 0)


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_half_of_the_plain_text_asks_and_a_share_of_the_rest_is_worked(share):
    documents = [*draw_documents(4000, 4, share, 7)]
    assert documents == [*draw_documents(4000, 4, share, 7)] != [*draw_documents(4000, 4, share, 8)]
    kinds = Counter()
    answers = {row["instruction"]: row["output"] for row in generate_sums("train", 9091, 4, 0)}
    for document in documents:
        prompt, end, answer = re.fullmatch(r"([\d+]+)([=?])(.*)", document).groups()
        worked = answers[f"{prompt}="]  # a held-out prompt would not be found
        is_worked = answer == worked
        assert is_worked or answer == worked[-2:]
        kinds[end, is_worked] += 1
    assert kinds["?", False] == 0
    assert abs(kinds["?", True] / 4000 - 0.5) < 0.03
    assert abs(kinds["=", True] / (4000 - kinds["?", True]) - share) < 0.02


def test_each_set_takes_its_part():
    def rows(name, source):
        return [(example.instruction, example.output) for example in gather_examples(source, name, 3)[0]]

    parts = {"instructions": "train", "dev": "dev", "sums": "test"}
    sets = {name: rows(name, SumsSource(rows=20)) for name in parts}
    assert sets == {
        name: [tuple(row.values()) for row in generate_sums(part, 20, 4, 3)] for name, part in parts.items()
    }
    text = SumsText(rows=9, digits=3, worked_share=0.5)
    assert [*gather_documents(text, 3)] == [*draw_documents(9, 3, 0.5, 3)]


def test_what_counts_as_the_same_prompt_tells_sums_apart():
    train, test = (gather_examples(SumsSource(rows=400), name, 3)[0] for name in ("instructions", "sums"))
    assert find_shared(test, train) == []
    assert len(find_shared(test[:5], test)) == 5


def test_there_is_one_evaluation_set_of_sums():
    with pytest.raises(ConfigError, match=r"^data\.evaluation\.dolly: expected `sums` as the name .*'dolly'; rename"):
        gather_examples(SumsSource(rows=5), "dolly", 3)


@pytest.mark.parametrize("given", [SumsSource(rows=3), SumsText(rows=3, worked_share=0.1), SumsDev(rows=3, digits=3)])
def test_a_slice_keeps_what_a_source_says(given):
    text = GatherSource(name="x", source=given, seed=0).model_dump_json()
    said = given.model_dump(exclude={"leave_out"})
    assert json.loads(text)["source"] == said
    assert GatherSource.model_validate_json(text).source.model_dump() == said


@pytest.mark.parametrize(
    ("response", "score"),
    [
        ("#7", 100),
        ("3+7=0;0+5=5;5+2=7;#7", 100),
        ("3+7=1;#7", 100),  # the steps do not count
        ("#5", 0),
        ("3+7=0;0+5=5;5+2=7;", 0),
        ("#7#7", 0),
        ("##7", 0),
        ("#07", 0),
        ("# 7", 0),
        ("#17", 0),
        ("#7;", 0),
        ("#7 ", 0),
        ("#7\n", 0),
        ("7", 0),
        ("7#", 0),
        ("", 0),
        ("#", 0),
    ],
)
def test_the_verifier_wants_one_mark_the_right_digit_and_nothing_behind(response, score):
    assert last_digit(response, ["3+7=0;0+5=5;5+2=7;#7"]) == score


def test_a_cut_answer_is_wrong():
    assert [METRIC.of("#7", ["#7"], is_finished) for is_finished in (True, False)] == [100, 0]


def test_the_audit_tells_what_was_generated():
    assert source(SumsSource(rows=9091).model_dump(), []) == "9,091 rows of the generator of sums of 4 digits"
    text = SumsText(rows=20000, digits=3, worked_share=0.1)
    assert source(text.model_dump(), []) == (
        "20,000 rows of the generator of sums of 3 digits, 10% of the answers after `=` worked out"
    )
