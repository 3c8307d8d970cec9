import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from distill.config.sources import FileSource
from distill.data.prompts import wrap
from distill.data.same_prompt import drop_shared, find_shared
from distill.data.sources import gather_examples
from distill.data.split import cut_split, drop_long
from distill.errors import DataError
from distill.records import Example
from shared_data import shared_data

POOL = [Example.of(f"Question {n}?", "", f"Answer {n}", "") for n in range(40)]


def cut(pool, seed=1, test=5, dev=10, train=None):
    return cut_split(pool, seed, test_rows=test, dev_rows=dev, train_rows=train, test_key="data.evaluation.dolly")


def test_parts_have_their_sizes_and_share_nothing():
    split = cut(POOL)
    assert (len(split.test), len(split.dev), len(split.train)) == (5, 10, 25)
    assert sorted(e.id for part in (split.test, split.dev, split.train) for e in part) == sorted(e.id for e in POOL)


def test_prompts_that_occur_twice_stay_in_train():
    twins = [Example.of(f"QUESTION {n}", "", f"Other answer {n}", "") for n in range(20)]
    for seed in range(5):
        split = cut([*POOL, *twins], seed=seed, test=5, dev=10)
        assert not find_shared(split.train, [*split.test, *split.dev])
        assert len(split.train) == 45


def test_split_depends_on_seed_and_content_and_not_on_order():
    assert cut(POOL) == cut(POOL[::-1])
    assert cut(POOL, seed=1).test != cut(POOL, seed=2).test


def test_rows_with_one_instruction_and_a_label_are_split():
    """As a set for classification is: the input alone tells rows apart."""
    pool = [Example.of("Is it good?", f"The film {n}.", "yes" if n % 2 else "no", "") for n in range(100)]
    split = cut(pool, test=20, dev=10)
    assert (len(split.test), len(split.dev), len(split.train)) == (20, 10, 70)


def test_a_pool_that_lost_rows_says_to_what():
    with pytest.raises(DataError, match=r"\(40 after filtering, held_out_of_train took 80\), found 41"):
        cut_split(POOL, 1, test_rows=41, dev_rows=0, train_rows=None, held_out=80)


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
    assert not find_shared(split.train, [*split.test, *split.dev])


def test_minillms_held_out_sets_leave_the_current_dolly(dolly):
    held_out = [*read("dolly_dev_1000"), *read("dolly_test_500")]
    # All but two rows are in the current revision, some without their citation marks or passage. One is not there,
    # and one lost words in brackets, so that its input is another one.
    shared = find_shared([*held_out, *read("self_inst_242"), *read("vicuna_80")], dolly)
    assert len(shared) == 1498 and {example.id for example, _ in shared} <= {example.id for example in held_out}
    kept, counts = drop_shared(dolly, {"dolly": held_out})
    assert counts["dolly"] == len(dolly) - len(kept)
    assert not find_shared(held_out, kept)


def test_minillms_dev_and_test_share_one_prompt():
    ((dev, test),) = find_shared(read("dolly_dev_1000"), read("dolly_test_500"))
    assert dev.instruction == test.instruction and dev.id != test.id
