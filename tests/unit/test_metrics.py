"""Text metrics: the scoring protocol of the paper's tables, on cases small enough to work out by hand."""

import subprocess
import sys
from itertools import product

import pytest
from rouge_score import rouge_scorer

from distill.metrics import distinct_n, exact_match, references_of, rouge_l
from distill.records import clean_response


@pytest.mark.parametrize(
    ("prediction", "references", "score"),
    [
        ("The cat sat.", ["The cat sat."], 100),
        ("the cat sat", ["a cat sat down", "the cat sat"], 100),
        ("the cat", ["the cat sat"], 80),
        ("the cat", ["the cat sat", "a dog"], 80),
        ("dog", ["the cat sat"], 0),
        ("", ["the cat sat"], 0),
        ("...", ["the cat sat"], 0),
        ("the cat sat", [""], 0),
        ("THE CAT-SAT", ["the cat sat!"], 100),
        ("nation running", ["nations runs"], 100),  # stemmed
        ("c b a", ["a b c"], 100 / 3),  # order counts: a common subsequence, not a common bag
        ("one two\nthree", ["three\none two"], 200 / 3),  # rougeL over the whole text, not rougeLsum by line
    ],
)
def test_rouge_l(prediction, references, score):
    assert rouge_l(prediction, references) == pytest.approx(score)


@pytest.mark.parametrize(
    ("prediction", "references", "score"),
    [
        ("Paris.", ["paris"], 100),
        ("It's  Paris", ["no", "its paris!"], 100),
        ("Paris, France", ["Paris"], 0),
        ("", [""], 0),
        ("?", ["!"], 0),
    ],
)
def test_exact_match(prediction, references, score):
    assert exact_match(prediction, references) == score


@pytest.mark.parametrize(
    ("texts", "n", "share"),
    [
        (["a b", "a b"], 1, 1 / 2),
        (["a b", "b a"], 2, 1),
        (["a a a"], 2, 1 / 2),
        (["A, a!"], 1, 1 / 2),
        (["a"], 2, 0),
        ([], 1, 0),
    ],
)
def test_distinct_n(texts, n, share):
    assert distinct_n(texts, n) == pytest.approx(share)


@pytest.mark.parametrize(
    ("text", "clean"),
    [("  yes \n", "yes"), ("yes<|endoftext|>no<|endoftext|>", "yes"), ("<|endoftext|>yes", ""), ("yes", "yes")],
)
def test_clean_response_cuts_at_the_first_end_of_text(text, clean):
    assert clean_response(text) == clean


@pytest.mark.parametrize(("output", "references"), [("one", ["one"]), (["one", "two"], ["one", "two"])])
def test_references_are_a_list_whatever_the_output(output, references):
    assert references_of({"output": output}) == references


def test_words_stemmed_once_score_as_rouge_score_itself_does():
    own = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)
    texts = [
        "Nations, running to the caresses of ponies!",
        "runs a pony's caress",
        "He agreed: 2 generalizations",
        "",
        "a",
    ]
    for first, second in product(texts, texts):
        assert rouge_l(first, [second]) == 100 * own.score(second, first)["rougeL"].fmeasure


def test_rouge_needs_no_nltk_data(tmp_path):
    code = "from distill.metrics import rouge_l; assert rouge_l('running', ['runs']) == 100"
    environment = {"HOME": str(tmp_path), "NLTK_DATA": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert list(tmp_path.iterdir()) == []
