"""Teacher samples in records of fixed length: padding, separator, ids of both widths, and prompts of no example."""

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from distill.data.external_samples import read_external_samples, read_fixed_records
from distill.data.tokens import vocabulary_size
from distill.errors import DataError
from distill.files import write_jsonl
from distill.records import Example, Sample

EOS, PROMPT, RESPONSE = 0, 6, 4
TRAIN = [Example.of(f"w{number}", "", "x", "") for number in (10, 11, 12)]
DEV = [Example.of("w20", "", "x", "")]
SMALL, LARGE = 65_499, 65_500


def tokenizer(size: int) -> Tokenizer:
    """One id a word: the prompt of the instruction wN is [1, N, 2]."""
    named = {0: "<|endoftext|>", 1: "Q:", 2: "A:"}
    made = Tokenizer(models.WordLevel({named.get(id, f"w{id}"): id for id in range(size)}, unk_token="w3"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return made


def record(prompt: list[int], response: list[int], separator: int = 65535) -> list[int]:
    left, right = PROMPT - len(prompt), RESPONSE - len(response)
    return [EOS] * left + prompt + [separator] + response + [EOS] * right


def read(folder, records: list[list[int]], size: int = SMALL, kind: str | None = None, held_out: int = 1):
    path = folder / "train_0.bin"
    np.array(records, kind or ("<u2" if size < LARGE else "<i4")).tofile(path)
    lengths = {"prompt_tokens": PROMPT, "response_tokens": RESPONSE, "held_out_prompts": held_out}
    return read_fixed_records(path, TRAIN, DEV, tokenizer(size), EOS, wrapper="short", **lengths)


def ids(number: int) -> list[int]:
    return [1, number, 2]


def test_padding_goes_and_eos_stays(tmp_path):
    records = [
        record(ids(11), [7, 8, EOS]),
        record(ids(10), [7, 8, 9, 5]),
        record(ids(11), [EOS]),
        record(ids(11), [7, 8, EOS]),
        record(ids(20), [7, 7, 7, EOS]),
    ]
    samples, counts = read(tmp_path, records)
    assert samples == [
        *sorted(
            [
                Sample(TRAIN[0].id, 0, ids(10), [7, 8, 9, 5], finished=False),
                Sample(TRAIN[1].id, 0, ids(11), [7, 8, EOS], finished=True),
                Sample(TRAIN[1].id, 1, ids(11), [EOS], finished=True),
                Sample(TRAIN[1].id, 2, ids(11), [7, 8, EOS], finished=True),
            ],
            key=lambda sample: (sample.id, sample.sample),
        ),
        Sample(DEV[0].id, 0, ids(20), [7, 7, 7, EOS], finished=True, held_out=True),
    ]
    assert counts == {"records": 5, "unmatched_records": 0, "held_out_training_prompts": 0}


def test_records_of_other_prompts_are_counted_and_left_out(tmp_path):
    samples, counts = read(tmp_path, [record(ids(number), [7, EOS]) for number in (99, 10, 20, 98)])
    assert {sample.id for sample in samples} == {TRAIN[0].id, DEV[0].id}
    assert (counts["records"], counts["unmatched_records"]) == (4, 2)


def test_training_prompts_are_held_out_where_no_prompt_is_of_dev(tmp_path):
    records = [record(ids(number), [7, EOS]) for number in (12, 11, 11, 12)]
    samples, counts = read(tmp_path, records)
    # The first of train that has samples; the first of all has none.
    assert [sample.id for sample in samples if sample.held_out] == [TRAIN[1].id] * 2
    assert counts["held_out_training_prompts"] == 1
    with pytest.raises(DataError, match=r"expected more training prompts of this study than the 2 to hold out"):
        read(tmp_path, records, held_out=2)


@pytest.mark.parametrize("separator", [65535, 2**31 - 1])
def test_a_large_vocabulary_has_32_bits_and_the_token_65535(tmp_path, separator):
    assert tokenizer(70_000).encode("w65535").ids == [65535]
    train = Example.of("w65535", "", "x", "")
    path = tmp_path / "train_0.bin"
    np.array([record(ids(65535), [65535, 69_999, EOS], separator), record(ids(20), [EOS], separator)], "<i4").tofile(
        path
    )
    lengths = {"prompt_tokens": PROMPT, "response_tokens": RESPONSE, "held_out_prompts": 1}
    samples, _ = read_fixed_records(path, [train], DEV, tokenizer(70_000), EOS, wrapper="short", **lengths)
    assert samples[0] == Sample(train.id, 0, ids(65535), [65535, 69_999, EOS], finished=True)


@pytest.mark.parametrize(
    ("records", "options", "message"),
    [
        (
            [record(ids(10), [EOS]), [5] * 11],
            {},
            r"train_0\.bin record 2: expected the separator 65535 or 2147483647 behind 6 prompt ids, found 5; set data",
        ),
        ([record(ids(10), [EOS], 65535)], {"size": LARGE, "kind": "<u2"}, r"expected records of 6 \+ 1 \+ 4 ids of 4"),
        ([record([], [7])], {}, r"train_0\.bin record 1: expected prompt ids, and all ids from 0 to 65498.* found 0"),
        (
            [record(ids(10), [EOS]), record(ids(10), [300])],
            {"size": 300},
            r"train_0\.bin record 2: .* all ids from 0 to 299, the tokenizer's, found 3 prompt ids, and ids up to 300",
        ),
        (
            [record(ids(99), [EOS])],
            {},
            r"found 0 prompts of it in 1 records, the first of which reads 'Q: w99 A:'; set data\.instructions,",
        ),
        ([record(ids(10), [EOS])[:-1]], {}, r"expected records of 6 \+ 1 \+ 4 ids of 2 bytes, found 20 bytes"),
        ([], {}, r"expected records of 6 \+ 1 \+ 4 ids of 2 bytes, found 0 bytes"),
    ],
    ids=["separator", "width", "no prompt", "foreign id", "foreign prompts", "torn", "empty"],
)
def test_mistakes_are_named(tmp_path, records, options, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, records, **options)


def test_ids_reach_to_the_largest_whatever_gaps_the_tokenizer_has():
    gapped = Tokenizer(models.WordLevel({"<|endoftext|>": 0, "w": 9}, unk_token="w"))
    assert gapped.get_vocab_size() == 2 and vocabulary_size(gapped) == 10


def read_texts(folder, rows: list[dict], response_tokens: int = 4) -> list[Sample]:
    write_jsonl(folder / "texts.jsonl", rows)
    given = TRAIN, DEV, tokenizer(SMALL), EOS
    return read_external_samples(folder / "texts.jsonl", *given, wrapper="short", response_tokens=response_tokens)


def test_texts_become_samples_behind_the_studys_prompts(tmp_path):
    rows = [
        {"id": DEV[0].id, "response": " w7 w8\n"},
        {"id": TRAIN[0].id, "response": "w7"},
        {"id": TRAIN[0].id, "response": "w8 w9", "finished": False},
        {"id": TRAIN[1].id, "response": "w4 w5 w6 w7", "sample": 3},
    ]
    samples = read_texts(tmp_path, rows)
    assert sorted(samples, key=lambda sample: (sample.prompt_ids, sample.sample)) == [
        Sample(TRAIN[0].id, 0, ids(10), [7, EOS], finished=True),
        Sample(TRAIN[0].id, 1, ids(10), [8, 9], finished=False),
        Sample(TRAIN[1].id, 3, ids(11), [4, 5, 6, 7], finished=False),  # longer than four with its EOS: cut
        Sample(DEV[0].id, 0, ids(20), [7, 8, EOS], finished=True, held_out=True),
    ]
    assert samples == sorted(samples, key=lambda sample: (sample.held_out, sample.id, sample.sample))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "other", "response": "w7"}, "expected the id of a train or dev example of this study, found 'other'"),
        ({"id": TRAIN[0].id, "response": " \n"}, "expected a response, found an empty text"),
        (
            {"id": TRAIN[0].id, "response": "w8", "sample": 0},
            "expected one row of id .* and sample 0, found another",
        ),
        ({"id": TRAIN[0].id}, "expected a row of TextSample, found a problem at `response`"),
        ({"id": TRAIN[0].id, "response": 7}, "expected a row of TextSample, found a problem at `response`"),
        (
            {"id": TRAIN[0].id, "response": "w8", "text": "w8"},
            "expected a row of TextSample, found a problem at `text`",
        ),
    ],
    ids=["unknown id", "empty", "repeated", "no response", "no text", "unknown field"],
)
def test_a_mistake_in_texts_is_one_line_with_its_place(tmp_path, row, message):
    rows = [{"id": TRAIN[0].id, "response": "w7"}, {"id": DEV[0].id, "response": "w7"}, row]
    with pytest.raises(DataError, match=rf"texts\.jsonl:3: {message}"):
        read_texts(tmp_path, rows)


def test_texts_are_of_train_and_of_dev(tmp_path):
    with pytest.raises(DataError, match="expected samples of train prompts, .* found 1 and 0; add the missing ones"):
        read_texts(tmp_path, [{"id": TRAIN[0].id, "response": "w7"}])
