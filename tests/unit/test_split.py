import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from distill.config.data import FileSource
from distill.data.prompts import wrap
from distill.data.sources import gather_examples
from distill.data.split import cut_split, drop_held_out, drop_long, find_leaks, leak_keys, normalise
from distill.errors import DataError
from distill.records import Example
from shared_data import shared_data

POOL = [Example.of(f"Question {n}?", "", f"Answer {n}", "") for n in range(40)]


def cut(pool, seed=1, test=5, dev=10, train=None):
    return cut_split(pool, seed, test_rows=test, dev_rows=dev, train_rows=train, test_key="data.evaluation.dolly")


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("Who WAS it?", "who was it"),
        ("two  words\n", "two words"),
        ("Straße 5", "STRASSE 5"),
        ("in 2000.[12] It", "in 2000. It"),
        ("Capital[a] and", "capital and"),
        ("“quoted” – yes", '"quoted" - yes'),
    ],
)
def test_normalise_unites(one, two):
    assert normalise(one) == normalise(two)


@pytest.mark.parametrize(
    ("one", "two"), [("add 12", "add 13"), ("list [12, 13]", "list"), ("???", "!!!"), ("你好", "你")]
)
def test_normalise_keeps_apart(one, two):
    assert normalise(one) != normalise(two)


def test_leaks_are_found_by_prompt_and_by_answer():
    train = [Example.of("Who is Bo?", "", "Bo is a cook.", ""), Example.of("Sum up.", "Long text [3].", "Short.", "")]
    leaks = [
        Example.of("who is bo", "", "Somebody else", ""),
        Example.of("Who is Bo?", "Bo is a cook from Rome.", ["A cook", "Bo is a cook"], ""),
        Example.of("Sum up", "Long text.", "Brief.", ""),
    ]
    fine = [Example.of("Sum up.", "Another text.", "Brief.", ""), Example.of("Who is Al?", "", "Al is a cook.", "")]
    assert find_leaks(train, [*fine, *leaks]) == [example.id for example in leaks]
    assert drop_held_out([*leaks, *fine], train) == fine


def test_parts_have_their_sizes_and_share_nothing():
    split = cut(POOL)
    assert (len(split.test), len(split.dev), len(split.train)) == (5, 10, 25)
    assert sorted(e.id for part in (split.test, split.dev, split.train) for e in part) == sorted(e.id for e in POOL)


def test_prompts_that_occur_twice_stay_in_train():
    twins = [Example.of(f"QUESTION {n}", "", f"Other answer {n}", "") for n in range(20)]
    for seed in range(5):
        split = cut([*POOL, *twins], seed=seed, test=5, dev=10)
        held_out = {key for example in (*split.test, *split.dev) for key in leak_keys(example)}
        assert not any(held_out & leak_keys(example) for example in split.train)
        assert len(split.train) == 45


def test_split_depends_on_seed_and_content_and_not_on_order():
    assert cut(POOL) == cut(POOL[::-1])
    assert cut(POOL, seed=1).test != cut(POOL, seed=2).test


def test_train_rows_takes_a_prefix():
    assert cut(POOL, train=7).train == cut(POOL).train[:7]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"test": 41}, r"data\.evaluation\.dolly\.rows: expected at most the 40 rows .* found 41; lower"),
        ({"test": 5, "dev": 36}, r"data\.dev\.rows: expected at most the 35 rows .* found 36; lower"),
        ({"train": 26}, r"data\.train_rows: expected at most the 25 rows .* found 26; lower"),
        ({"test": 30, "dev": 10}, r"data\.train_rows: expected at most the 0 rows .* found 1; lower"),
    ],
)
def test_splits_larger_than_the_data(sizes, message):
    with pytest.raises(DataError, match=message):
        cut(POOL, **sizes)


def test_lengths_count_wrapper_response_and_eos():
    tokenizer = Tokenizer(models.WordLevel({"x": 0}, unk_token="x"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    examples = [Example.of("a b", "", "c d", ""), Example.of("a b c", "", "d", ""), Example.of("a", "", "b c d e", "")]
    assert len(wrap("short", "a b", "").split()) == 4  # Q: a b A:
    assert drop_long(examples, tokenizer, "short", 5, 8)[0] == examples
    kept, counts = drop_long(examples, tokenizer, "short", 4, 7)
    assert kept == examples[:1]
    assert counts == {"dropped_long_prompt": 1, "dropped_long_total": 1}
    assert drop_long(examples, tokenizer, "short", 4, None)[0] == [examples[0], examples[2]]


@pytest.fixture(scope="module")
def dolly():
    path = shared_data("databricks-dolly-15k.jsonl")
    return gather_examples(FileSource(path="unused"), "instructions", 0, path)[0]


def read(name):
    return gather_examples(FileSource(path="unused"), name, 0, shared_data(f"eval/{name}.jsonl"))[0]


def test_real_dolly_within_the_papers_limits(dolly):
    tokenizer = Tokenizer.from_file(str(shared_data("models/gpt2-tokenizer/tokenizer.json")))
    kept, counts = drop_long(dolly, tokenizer, "alpaca", 256, 512)
    assert (len(kept), counts) == (12774, {"dropped_long_prompt": 1995, "dropped_long_total": 227})
    split = cut_split(kept, 42, test_rows=500, dev_rows=1000, train_rows=None)
    assert not find_leaks(split.train, [*split.test, *split.dev])


def test_minillms_held_out_sets_leave_the_current_dolly(dolly):
    held_out = [*read("dolly_dev_1000"), *read("dolly_test_500")]
    # All but one row of MiniLLM's dev set are in the current revision, some without their citation marks or passage.
    assert len(find_leaks(dolly, held_out)) == 1499
    assert not find_leaks(drop_held_out(dolly, held_out), held_out)
    assert not find_leaks(dolly, [*read("self_inst_242"), *read("vicuna_80")])
