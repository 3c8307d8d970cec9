"""Rows as strangers write them: the right value, or one bounded line with file, line and field."""

import json

import pytest
from tokenizers import AddedToken, Tokenizer

from distill.config.sources import FileSource
from distill.data.prompts import WRAPPERS, wrap
from distill.data.sources import gather_documents, gather_examples
from distill.data.tokens import encode_example, encode_prompt, encode_text, response_text
from distill.errors import LONGEST, DataError
from distill.files import read_jsonl
from distill.records import Example, clean_response
from tiny_models import EOS, EOS_ID, make_tokenizer

GOOD = '{"instruction": "a", "response": "b"}\n'


def gather(tmp_path, text, name="vicuna"):
    path = tmp_path / "mine.jsonl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    source = FileSource(path=str(path))
    return [*gather_documents(source, 0, path)] if name == "plain_text" else gather_examples(source, name, 0, path)[0]


def refused(tmp_path, text, name="vicuna"):
    with pytest.raises(DataError) as error:
        gather(tmp_path, text, name)
    assert "\n" not in str(error.value) and len(str(error.value)) <= LONGEST
    return str(error.value).removeprefix(f"{tmp_path}/")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (r'{"instruction": "\ud83d", "response": "b"}', "half a character (a lone surrogate) in `instruction`"),
        (r'{"instruction": "c", "output": ["b", "\uDE00"]}', "half a character (a lone surrogate) in `output.1`"),
        (r'{"instruction": "c", "response": "b", "\udfff": 1}', r"half a character (a lone surrogate) in `\udfff`"),
        (
            r'{"instruction": "c", "response": "b", "x": {"y": "\ud800"}}',
            "half a character (a lone surrogate) in `x.y`",
        ),
        ('{"instruction": "c", "instruction": "d", "response": "b"}', "the field `instruction` twice"),
        ('{"instruction": "c", "instances": [{"output": "d", "output": "e"}]}', "the field `output` twice"),
        (f'{{"instruction": "c", "response": "b", "x": {"9" * 5000}}}', "a number of more digits than can be read"),
        ('{"instruction": "c", "response": "b", "x": ' + "[" * 10**5, "JSON that is nested too deeply to read"),
        (b'{"instruction": "\xed\xa0\x80", "response": "b"}'.decode("latin-1"), None),
    ],
)
def test_json_that_no_file_should_hold_is_named_by_file_line_and_field(tmp_path, line, found):
    if found is None:  # the bytes of half a character, which are no UTF-8
        assert "mine.jsonl:2: expected one JSON object a line, found malformed" in refused(
            tmp_path, GOOD.encode() + line.encode("latin-1")
        )
    else:
        message = f"mine.jsonl:2: expected one JSON object a line, found {found}; fix or delete this line"
        assert refused(tmp_path, GOOD + line + "\n") == message


def test_whole_pairs_and_words_about_them_are_text(tmp_path):
    (example,) = gather(tmp_path, r'{"instruction": "\ud83d\ude00 and \\ud83d", "response": "b"}')
    assert example.instruction == "\U0001f600 and \\ud83d"


def test_a_document_with_half_a_character_is_named(tmp_path):
    assert refused(tmp_path, '{"text": "a"}\n{"text": "\\ud800"}\n', "plain_text").startswith("mine.jsonl:2: ")


def test_a_byte_order_mark_is_no_text(tmp_path):
    assert gather(tmp_path, b"\xef\xbb\xbf" + GOOD.encode())[0].instruction == "a"
    path = tmp_path / "mine.txt"
    path.write_bytes(b"\xef\xbb\xbfone\n\ntwo\n")
    assert [*gather_documents(FileSource(path=str(path)), 0, path)] == ["one", "two"]


@pytest.mark.parametrize("none", [None, ""])
def test_an_id_that_is_none_is_no_id(tmp_path, none):
    rows = [{"id": none, "instruction": name, "output": "x"} for name in "ab"]
    assert [row.instruction for row in gather(tmp_path, "\n".join(map(json.dumps, rows)))] == ["a", "b"]


def test_ids_that_are_the_same_to_the_eye_are_the_same(tmp_path):
    rows = [{"id": id_, "instruction": name, "output": "x"} for id_, name in ((0, "a"), ("0", "b"))]
    assert "expected a new id, found '0' of " in refused(tmp_path, "\n".join(map(json.dumps, rows)))


@pytest.mark.parametrize(
    ("row", "field", "value"),
    [
        ({"instruction": "a", "input": "", "context": "passage", "output": "b"}, "input", "passage"),
        ({"instruction": "a", "input": None, "context": "passage", "output": "b"}, "input", "passage"),
        ({"instruction": "a", "input": "same", "context": "same", "output": "b"}, "input", "same"),
        ({"instruction": "a", "input": None, "context": "", "output": "b"}, "input", ""),
        ({"instruction": "a", "output": None, "response": "b"}, "output", "b"),
        ({"instruction": "a", "output": "b", "category": None}, "category", ""),
        ({"instruction": "a", "output": "b", "category": None, "topic": "t"}, "category", "t"),
        ({"instruction": "a", "output": "b", "category": 3}, "category", "3"),
    ],
)
def test_of_two_names_of_a_field_the_filled_one_counts(tmp_path, row, field, value):
    (example,) = gather(tmp_path, json.dumps(row))
    assert getattr(example, field) == value


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"input": "one", "context": "other", "output": "b"}, "expected `input` or `context`, found several, filled"),
        ({"output": "b", "response": "c"}, "expected `output` or `response`, found several, filled differently"),
        *(({"input": value, "output": "b"}, "expected a string as `input`, found ") for value in (0, 7, False, [], {})),
        *(({"output": value}, "expected a non-empty string as `output`") for value in (0, False, {}, None, [0], [[]])),
        ({"output": []}, "expected an answer in output or response, found an empty list"),
        ({"instances": []}, "expected a list of objects as `instances`"),
        ({"instances": [{"instances": []}]}, "expected a list of objects as `instances`"),
    ],
)
def test_what_is_no_text_is_an_error_whether_it_is_false_or_not(tmp_path, row, message):
    assert f"mine.jsonl:1: {message}" in refused(tmp_path, json.dumps({"instruction": "a"} | row))


def test_a_message_quotes_little_of_a_row_and_keeps_its_ends(tmp_path):
    message = refused(tmp_path, json.dumps({f"field{number}": 1 for number in range(20_000)}))
    assert message.startswith("mine.jsonl:1: expected the field `instruction`")
    assert " [...] " in message and message.endswith("; rename or add the field")


def test_an_empty_line_and_a_line_of_the_mark_alone_are_skipped(tmp_path):
    (tmp_path / "x.jsonl").write_bytes(b"\xef\xbb\xbf\n\n{}\n")
    assert [*read_jsonl(tmp_path / "x.jsonl")] == [(3, {})]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """A tokenizer with an end of text and Qwen's marks of turns."""
    tokenizer = make_tokenizer(400).backend_tokenizer
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in ("<|im_start|>", "<|im_end|>")])
    return tokenizer


SPELT = f"What do {EOS} and <|im_end|> mean?"


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_what_a_row_spells_is_text(tokenizer, wrapper):
    example = Example.of(SPELT, f"in {EOS}", f"They end it: {EOS}.", "")
    encoded = encode_example(tokenizer, wrapper, example, EOS_ID)
    control = [tokenizer.token_to_id(mark) for mark in ("<|im_start|>", "<|im_end|>")]
    own = [2, 1] if wrapper == "minillm_qwen" else [0, 0]
    assert EOS_ID not in encoded.prompt_ids and [encoded.prompt_ids.count(id_) for id_ in control] == own
    assert encoded.response_ids.count(EOS_ID) == 1 and encoded.response_ids[-1] == EOS_ID
    assert tokenizer.decode(encoded.prompt_ids, skip_special_tokens=False) == encoded.prompt
    # The answer that equals the reference is scored as equal to it.
    assert response_text(tokenizer, encoded.response_ids) == clean_response(example.references[0])


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("input", ["", "  two\n\n words "])
def test_other_rows_are_encoded_as_one_text(tokenizer, wrapper, input):
    tokenizer.encode_special_tokens = False
    whole = tokenizer.encode(wrap(wrapper, "\nName it. ", input), add_special_tokens=False).ids
    assert encode_prompt(tokenizer, wrapper, "\nName it. ", input) == whole


def test_plain_text_that_spells_a_token_is_text(tokenizer):
    ids = encode_text(tokenizer, f"<p>{EOS}</p>")
    assert EOS_ID not in ids and tokenizer.decode(ids) == f"<p>{EOS}</p>"
