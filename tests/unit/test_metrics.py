"""Text metrics: the scoring protocol of the paper's tables, on cases small enough to work out by hand."""

import subprocess
import sys
from itertools import product

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer

import distill.metrics
from distill.errors import ConfigError, DataError
from distill.evaluation.dev_scores import score_checkpoints
from distill.evaluation.scoring import score_generations
from distill.evaluation.selection import SCORER, selection
from distill.files import write_jsonl
from distill.metrics.boxed_answer import boxed_answer
from distill.metrics.distinct_n import distinct_n
from distill.metrics.exact_match import exact_match
from distill.metrics.registry import Metric, load_metric, metric_names
from distill.metrics.rouge_l import rouge_l
from distill.metrics.rouge_l_any_script import rouge_l_any_script
from distill.metrics.scored_set import ScoredSet
from distill.metrics.text import references_of
from distill.records import Example, clean_response
from distill.study.load import load_study
from distill.study.scored_sets import describe_unread, scored_sets
from distill.study.stages import STAGES, slice_of


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
    ("prediction", "references", "score"),
    [
        (r"so \boxed{42}.", ["42"], 100),
        (r"so \boxed{42}", [r"thus \boxed{42}"], 100),
        (r"<think>\boxed{1}</think> it is \boxed{2}", ["2"], 100),
        (r"<think>\boxed{2}</think> it is 2", ["2"], 0),  # what is thought is no answer
        (r"\boxed{1} or rather \boxed{2}", ["1"], 0),  # the last one counts
        (r"\boxed{\frac{1}{2}}", ["0.5"], 100),
        (r"\boxed{\dfrac12}", [r"\frac{1}{2}"], 100),
        (r"\boxed{-\tfrac{10}{4}}", ["-2.5"], 100),
        (r"\boxed{1\frac{1}{2}}", ["5.5"], 0),  # one and a half, not eleven halves
        (r"\boxed{1,000}", ["1000"], 100),
        (r"\boxed{1,00}", ["100"], 0),  # a pair
        (r"\boxed{\left( 3, \frac{\pi}{2} \right)}", [r"(3,\frac{\pi}{2})"], 100),
        (r"\boxed{\text{Evelyn}}", ["Evelyn"], 100),
        (r"\boxed{x+1}", ["1+x"], 0),  # no algebra
        (r"\boxed{2", ["2"], 0),
        (r"\boxed{3} and \boxed{2", ["3"], 100),
        (r"\boxed{\boxed{3}} }{ {", ["3"], 100),
        (r"\boxed{}", [""], 0),
        (r"\boxed{1e999999999}", ["7"], 0),
        (r"\boxed{1/0}", ["1/0"], 100),
        ("42", ["42"], 0),
    ],
)
def test_boxed_answer(prediction, references, score):
    assert boxed_answer(prediction, references) == score


def test_an_answer_that_was_cut_has_no_box():
    metric = load_metric("boxed_answer")
    assert [metric.of(r"\boxed{2}", ["2"], is_finished) for is_finished in (True, False)] == [100, 0]


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


def test_an_answer_keeps_its_words_but_not_the_blanks_around_them():
    assert clean_response("  the mark <|endoftext|> ends it \n") == "the mark <|endoftext|> ends it"


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


ASCII = st.text(st.characters(codec="ascii"), max_size=40) | st.lists(
    st.sampled_from(["Running", "runs", "caresses,", "ponies", "a_b", "it's", "x-1", "2.5", "The"]), max_size=8
).map(" ".join)


@seed(15)
@settings(max_examples=300, deadline=None, database=None)
@given(prediction=ASCII, references=st.lists(ASCII, min_size=1, max_size=3))
def test_ascii_scores_in_any_script_as_by_rouge_l(prediction, references):
    assert rouge_l_any_script(prediction, references) == rouge_l(prediction, references)


@pytest.mark.parametrize(
    ("prediction", "reference", "score"),
    [
        ("北京在北方。", "北京在北方", 100),
        ("北京很大", "北京很冷", 75),  # by character
        ("北京2024年", "北京 2024 年", 100),  # blanks between scripts do not count
        ("コーヒー", "コーヒー！", 100),
        ("กินข้าว", "กินน้ำ", 200 / 3),  # กิ น ข้ า ว and กิ น น้ํ า: a mark stays with its character
        ("Мама мыла раму", "мама МЫЛА окно", 200 / 3),  # by word, not stemmed
        ("дома", "дом", 0),
        ("القمر جميل", "القمر بعيد", 50),
        ("हिन्दी भाषा", "हिन्दी कविता", 50),
        ("می\u200cخواهم", "میخواهم", 100),  # an invisible sign
        ("cafe\u0301", "CAFÉ", 100),  # one letter or letter and mark
        ("ＡＢＣ１２", "abc12", 100),  # full width
        ("한국어를 배워요", "한국어를 가르쳐요", 50),
        ("🙂", "🙂", 0),
        ("", "北京", 0),
    ],
)
def test_rouge_l_in_any_script(prediction, reference, score):
    assert rouge_l_any_script(prediction, [reference]) == pytest.approx(score)
    assert rouge_l_any_script(prediction, ["другое", reference]) == pytest.approx(score)


@pytest.mark.parametrize(
    ("metric", "references", "share"),
    [
        ("rouge_l", ["Hà Nội"], 3 / 5),
        ("rouge_l", ["北京", "ab"], 1 / 2),
        ("rouge_l", ["Москва, 1147!"], 0),
        ("rouge_l", ["42", "!"], 1),  # no letter is lost
        ("rouge_l_any_script", ["北京", "Москва", "القمر", "กิน"], 1),
        ("exact_match", ["北京"], 1),
    ],
)
def test_share_of_letters_that_a_metric_reads(metric, references, share):
    assert load_metric(metric).share_read(references) == pytest.approx(share)


def test_a_set_of_which_most_letters_are_lost_is_named_with_what_to_set(tmp_path):
    mine = ScoredSet("mine", "rouge_l", "data.evaluation.mine.metric")
    assert mine.warning(["北京", "ab"]) is None
    assert mine.warning(["ab", "北京。", "是"]) == (
        "data.evaluation.mine.metric: rouge_l reads 40% of the letters in the references of mine, such as '北京。'; "
        "set it to rouge_l_any_script"
    )
    mine.check(["ab", "北京。"])
    with pytest.raises(DataError, match="found exact_match with 0 for all 1, such as '!'; choose another metric"):
        ScoredSet("mine", "exact_match", "judge.metric").check(["!"])


@pytest.mark.parametrize("name", metric_names())
def test_a_reference_in_its_metrics_form_scores_above_0_against_itself(name):
    assert load_metric(name).scores_itself({"concepts": "a cat", "last_digit": "3+4=7;#7"}.get(name, "17"))


def test_each_use_of_a_metric_is_told_by_its_key(tmp_path):
    """Of dev those that select, of the judged set the judge's where no language model judges."""
    sets = {"mine": {"kind": "split", "rows": 9}, "other": {"kind": "world", "rows": 9, "metric": "exact_match"}}
    config = {
        "data": {"evaluation": sets},
        "judge": {"dataset": "mine", "kind": "overlap"},
        "phase1": {"select": "last"},
    }
    study = load_study(config)
    assert [(one.dataset, one.metric, one.key) for one in scored_sets(study)] == [
        ("mine", "rouge_l", "data.evaluation.mine.metric"),
        ("other", "exact_match", "data.evaluation.other.metric"),
        ("dev", "rouge_l", "runs.sft.select"),
        ("mine", "rouge_l", "judge.metric"),
    ]
    openai = load_study(config | {"judge": {"dataset": "mine", "kind": "openai"}})
    assert [one.key for one in scored_sets(openai)][-1] == "runs.sft.select"
    assert [*describe_unread(study, tmp_path)] == []
    row = Example.of("Где?", "", ["Москва", "В Москве"], "qa").to_dict()
    write_jsonl(tmp_path / "data/evaluation/dev/examples.jsonl", [row])
    write_jsonl(tmp_path / "data/evaluation/other/examples.jsonl", [row])
    assert [*describe_unread(study, tmp_path)] == [
        "runs.sft.select: rouge_l reads 0% of the letters in the references of dev, such as 'Москва'; set it to "
        "dev_rouge_l_any_script"
    ]


def test_rouge_needs_no_nltk_data(tmp_path):
    code = "from distill.metrics.rouge_l import rouge_l; assert rouge_l('running', ['runs']) == 100"
    environment = {"HOME": str(tmp_path), "NLTK_DATA": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert list(tmp_path.iterdir()) == []


ENDS_RIGHT = '''"""Last digit of an answer, right or wrong, in percent.

More words, which no caption has.
"""

from distill.metrics.registry import Metric


def ends_right(prediction, references):
    digits = [[letter for letter in text if letter.isdigit()] for text in (prediction, *references)]
    return 100.0 if digits[0] and digits[0][-1] in [own[-1] for own in digits[1:] if own] else 0.0


METRIC = Metric(title="Last digit", score=ends_right)
'''


@pytest.fixture
def ends_right(tmp_path, monkeypatch):
    """One more metric: a file in the room, and nothing else."""
    (tmp_path / "ends_right.py").write_text(ENDS_RIGHT)
    monkeypatch.setattr(distill.metrics, "__path__", [*distill.metrics.__path__, str(tmp_path)])
    metric_names.cache_clear()
    yield "ends_right"
    sys.modules.pop("distill.metrics.ends_right", None)
    metric_names.cache_clear()
    load_metric.cache_clear()


def test_a_metric_is_one_file(ends_right, tmp_path):
    assert load_metric(ends_right).caption == "Last digit of an answer, right or wrong, in percent."
    sets = {"sums": {"kind": "world", "rows": 4, "metric": ends_right}}
    config = {"data": {"evaluation": sets}, "judge": {"dataset": "sums"}, "phase1": {"select": f"dev_{ends_right}"}}
    study = load_study(config)

    scoring = slice_of(study, "score_responses", system="phase1")
    answer = {"dataset": "sums", "decoding": "greedy", "seed": 10, "tokens": 3, "finished": True}
    answers = [answer | {"id": "p1", "response": "so 17"}, answer | {"id": "p2", "response": "eight"}]
    examples = {"sums": [{"id": "p1", "output": "7"}, {"id": "p2", "output": ["8", "08"]}]}
    (row,) = score_generations(answers, examples, scoring.metrics).seeds
    assert (row["metric"], row["score"], row["exact_match"]) == (ends_right, 50, 0)

    example = Example.of("What is 8 + 9?", "", "17", "sum")
    write_jsonl(tmp_path / "dev/examples.jsonl", [example.to_dict()])
    rows = [
        {"update": update, "id": example.id, "response": text, "finished": True}
        for update, text in ((1, "6"), (2, "7"), (3, "1"))
    ]
    write_jsonl(tmp_path / "validation/generations.jsonl", rows)
    dev = score_checkpoints(tmp_path / "validation", tmp_path / "dev", ends_right)
    losses = [{"step": update, "loss": 1.0} for update in dev]
    chosen = selection(slice_of(study, "select_checkpoint", system="phase1"), losses, dev, dev)
    assert chosen["update"] == 2
    assert chosen["scores"]["2"] == {"dev_loss": 1.0, "dev_ends_right": 100}

    rouge, own = (f"distill.metrics.{name}" for name in ("rouge_l", ends_right))
    assert STAGES["score_responses"].modules(study, system="phase1") == [own]
    assert [STAGES["select_checkpoint"].modules(study, system=name) for name in ("teacher", "phase1", "sft")] == [
        [],
        [SCORER, own],
        [SCORER, rouge],
    ]
    assert {"system": "phase1"} in STAGES["validate_run"].each(study)
    assert STAGES["render_tables"].modules(study) == [own, rouge]
    judged = load_study(config | {"judge": {"dataset": "sums", "kind": "overlap", "metric": ends_right}})
    assert STAGES["judge_pair"].modules(judged, first="sft", second="phase1") == [own]


@pytest.mark.parametrize(("needs_end", "cut"), [(False, 100), (True, 0)])
def test_a_cut_answer_scores_0_where_the_metric_asks_for_an_end(needs_end, cut):
    metric = Metric(title="All", score=lambda answer, references: 100.0, needs_end=needs_end)
    assert [metric.of("any", ["text"], is_finished) for is_finished in (True, False)] == [100, cut]


@pytest.mark.parametrize("name", metric_names())
def test_every_metric_says_what_it_measures_on_a_scale_of_0_to_100(name):
    metric = load_metric(name)
    assert metric.title and metric.caption and metric.hub
    texts = [r"a cat \boxed{7} #7", "a dog", "", "17"]
    scores = {metric.score(first, [second, "no"]) for first, second in product(texts, texts)}
    assert min(scores) == 0 and max(scores) == 100 == metric.score(texts[0], [texts[1], texts[0]])


@pytest.mark.parametrize(
    ("select", "metric", "message"),
    [
        ("last", "bleu", r"data.evaluation.dolly.metric: expected one of .*'exact_match', .*'rouge_l'.*, found 'bleu'"),
        (
            "dev_bleu",
            "rouge_l",
            "phase1.select: expected one of .*'dev_loss', .*'dev_exact_match', .*'dev_rouge_l', .*'last'",
        ),
        ("rouge_l", "rouge_l", "phase1.select: expected one of"),
        ("dev_distinct_n", "rouge_l", "phase1.select: expected one of"),  # the room's other files are no metrics
    ],
)
def test_an_unknown_metric_is_one_line_with_those_that_exist(select, metric, message):
    sets = {"dolly": {"kind": "split", "rows": 9, "metric": metric}}
    with pytest.raises(ConfigError, match=f"^config: {message}"):
        load_study({"data": {"evaluation": sets}, "phase1": {"select": select}})


def test_an_unknown_metric_of_the_judge_is_one_line():
    with pytest.raises(
        ConfigError, match="^config: judge.metric: expected one of .*'rouge_l'.*, found 'bleu'; correct"
    ):
        load_study({"judge": {"metric": "bleu"}})
