import random

import pytest

from distill.data.same_prompt import drop_shared, find_alone, find_shared, normalise
from distill.records import Example


def shares(one: Example, two: Example) -> bool:
    return bool(find_shared([one], [two]))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("Who WAS it?", "who was it"),
        ("two  words\n", "two words"),
        ("Straße 5", "STRASSE 5"),
        ("“quoted” – yes", '"quoted" - yes'),
        ("it's", "it’s"),
        ("Print hello in C++.", "print hello in c++"),
        ("12 - 3", "12−3"),
        ("¿Qué es?", "qué es"),
        ("你好，世界。", "你好世界"),
        ("「東京」は？", "東京は"),
        ("नमस्ते।", "नमस्ते"),
        ("می‌خواهم", "میخواهم"),
        ("love ❤️", "love ❤"),
        ("ＡＢＣ １", "abc 1"),
        ("He said 'go.' Why ?", "he said go why"),
        ("one, two; three: four…", "one two three four"),
        ("Add 1  2", "add 1\n\n2"),
        ("Happy 2024!", "happy 2024"),
        ("Is it 5' or 5?", "is it 5' or 5"),
        ("ماذا؟", "ماذا"),
    ],
)
def test_case_spaces_and_sentence_punctuation_do_not_count(one, two):
    assert normalise(one) == normalise(two)


APART = [
    ("Print hello in C++.", "Print hello in C#."),
    ("Print hello in C++.", "Print hello in C."),
    ("What is 12 - 3?", "What is 12 + 3?"),
    ("What is 12 - 3?", "What is 123?"),
    ("What is -5 + 3?", "What is 5 + 3?"),
    ("What is 6! / 5!?", "What is 6 / 5?"),
    ("What is 3.5 x 2?", "What is 35 x 2?"),
    ('Add "5", "6".', 'Add "56".'),
    ("Add 1 2", "Add 12"),
    ("at 10:30", "at 1030"),
    ("What is 5²?", "What is 52?"),
    ("Add 2½", "Add 21/2"),
    ("Is a != b?", "Is a = b?"),
    ("Find f'(2).", "Find f(2)."),
    ("Find f''(2).", "Find f'(2)."),
    ("What is (1 + 2) * 3?", "What is 1 + (2 * 3)?"),
    ("50% of it", "50 of it"),
    ("x < 3", "x > 3"),
    ("$5", "€5"),
    ("2/3", "2*3"),
    ("What does x[1] hold?", "What does x[2] hold?"),
    ("add 12", "add 13"),
    ("Add 1  2", "Add 12"),
    ("12\n\n13", "1213"),
    ("What is xs[:2]?", "What is xs[2:]?"),
    ("Does if (!a) run?", "Does if (a) run?"),
    ("Round .5", "Round 5"),
    ("Solve y'' = 0", "Solve y' = 0"),
    ("Solve y' = 0", "Solve y = 0"),
    ("5' to cm", '5" to cm'),
    ("5' to cm", "5 to cm"),
    ('type("5")', "type(5)"),
    ("Run cd .. now", "Run cd . now"),
    ("a?.b", "a.b"),
    ("std::move", "std:move"),
    ("What does ; do in C?", "What does , do in C?"),
    ("return nums[0]", "return nums[1]"),
    ("[5]", "[7]"),
    ("list [12, 13]", "list"),
    ("???", "!!!"),
    ("你好", "你"),
    ("कि", "की"),
    ("কলা", "কালো"),
    ("மலை", "மாலை"),
    ("น้ำ", "นำ"),
    ("café", "cafe"),
    ("😀", "😢"),
]


@pytest.mark.parametrize(("one", "two"), APART)
def test_what_bears_meaning_counts(one, two):
    assert normalise(one) != normalise(two)
    rows = [Example.of(text, "", f"Answer {place}.", "") for place, text in enumerate((one, two))]
    assert find_alone(rows) == rows
    inputs = [Example.of("Go on.", text, "Fine.", "") for text in (one, two)]
    assert find_alone(inputs) == inputs


@pytest.mark.parametrize(
    ("marked", "bare"),
    [("in 2000.[12] It", "in 2000. It"), ("Capital[a] and", "capital and"), ("(born 1951[1][2])", "(Born 1951)")],
)
def test_citation_marks_do_not_count_where_only_one_passage_has_them(marked, bare):
    other = marked.replace("[12]", "[13]").replace("[a]", "[b]").replace("[1]", "[3]")
    rows = {text: Example.of("Sum up.", text, "Well.", "") for text in (marked, bare, other)}
    assert shares(rows[marked], rows[bare]) and shares(rows[bare], rows[marked])
    assert not shares(rows[marked], rows[other])
    assert normalise(marked) != normalise(bare)


PASSAGE = Example.of("Who is Bo?", "Bo is a cook from Rome.[3]", ["A cook from Rome, born in 1951", "A cook"], "")
SAME = [
    Example.of("who is bo", "Bo is a cook, from Rome", "Somebody else", ""),
    Example.of("Who is Bo? Bo is a cook from Rome.", "", "Somebody else", ""),
    Example.of("Bo is a cook from Rome. Who is Bo?", "", "Somebody else", ""),
    Example.of("Who is Bo?", " ", "A cook from Rome, born in 1951!", ""),
]
OTHER = [
    Example.of("Who is Bo?", "Bo is a cook from Pisa.", "A cook", ""),
    Example.of("Who is Bo?", "", "A baker", ""),
    Example.of("Who is Al?", "", "A cook", ""),
    Example.of("Who is", "Bo? Bo is a cook from Rome.", "A cook", ""),
]


@pytest.mark.parametrize("row", SAME)
def test_a_passage_may_be_in_the_input_in_the_instruction_or_nowhere(row):
    assert find_shared([*OTHER, row], [PASSAGE]) == [(row, PASSAGE)]
    assert find_shared([PASSAGE], [*OTHER[:1], row]) == [(PASSAGE, row)]


def test_rows_with_different_inputs_are_different_whatever_the_answer():
    assert not find_shared(OTHER, [PASSAGE])
    assert find_alone([PASSAGE, *OTHER]) == [PASSAGE, *OTHER]


def test_sets_take_their_prompts_out_and_are_counted():
    pool = [*OTHER, *SAME]
    kept, counts = drop_shared(pool, {"one": [PASSAGE], "two": [*SAME[:1]], "three": OTHER[2:3]})
    assert kept == [row for row in OTHER if row is not OTHER[2]]
    assert counts == {"one": 4, "two": 0, "three": 1}


def test_a_label_ties_no_rows_together():
    assert not shares(PASSAGE, Example.of("Who is Bo?", "", "A cook", ""))
    rows = [Example.of("Classify the review.", f"Film number {place}.", "positive", "") for place in range(9)]
    rows.append(Example.of("Classify the review.", "", "Positive.", ""))
    assert find_alone(rows) == rows


def test_all_pairs_one_by_one_give_the_same_and_both_ways():
    draw = random.Random(1)
    texts = ["a", "A.", "b", "a b", "C++", "C#", "a[1]", "a[2]"]
    answers = ["yes, it is longer than a label", "No.", "Yes, it is longer than a label!"]
    pool = [
        Example.of(draw.choice(texts), draw.choice(["", *texts]), draw.sample(answers, 2), str(place))
        for place in range(60)
    ]
    half = [row for row in pool[:30] if any(shares(row, other) for other in pool[30:])]
    assert [row for row, _ in find_shared(pool[:30], pool[30:])] == half
    assert all(shares(one, two) == shares(two, one) for one in pool for two in pool)
    alone = [row for row in pool if not any(shares(row, other) for other in pool if other is not row)]
    assert find_alone(pool) == alone
