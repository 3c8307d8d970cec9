import json

import pytest

from distill.config.sources import FileSource, WorldSource
from distill.data.sources import gather_documents, gather_examples, normalise_row
from distill.data.world import generate_world
from distill.errors import ConfigError, DataError
from distill.records import Example, read_examples
from shared_data import shared_data

ROW = {"instruction": "Name it.", "context": "A cat.", "response": "Cat", "category": "closed_qa"}


def write(path, *rows):
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return path


def gather(file, name="instructions", rows=None):
    return gather_examples(FileSource(path="unused", rows=rows), name, 0, file)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (ROW, ("Name it.", "A cat.", "Cat", "closed_qa")),
        ({"instruction": "Go.", "response": "Gone"}, ("Go.", "", "Gone", "")),
        ({"instruction": "Go.", "input": None, "output": "Gone"}, ("Go.", "", "Gone", "")),
        (
            {"instruction": "A<n>b", "input": "c<n>", "output": "d<n>e", "prompt": "...", "topic": "t"},
            ("A\nb", "c\n", "d\ne", "t"),
        ),
        ({"instruction": "Explain <n>.", "output": "<n> is a tag"}, ("Explain <n>.", "", "<n> is a tag", "")),
        ({"instruction": "Go.", "output": ["a", "b"], "category": "x"}, ("Go.", "", ["a", "b"], "x")),
        ({"instruction": "Go.", "output": ["a"]}, ("Go.", "", "a", "")),
        (
            {"id": "7", "motivation_app": "Mail", "instruction": "Go.", "instances": [{"input": "i", "output": "o"}]},
            ("Go.", "i", "o", "Mail"),
        ),
    ],
    ids=["dolly", "dolly-no-context", "null-input", "minillm", "literal-n", "references", "one-reference", "self-inst"],
)
def test_schemas_become_one(row, expected):
    (example,) = normalise_row(row, "here:1")
    assert (example.instruction, example.input, example.output, example.category) == expected


def test_each_instance_is_an_example():
    row = {"instruction": "Go.", "instances": [{"input": "1", "output": "a"}, {"input": "2", "output": "b"}]}
    assert [(example.input, example.output) for example in normalise_row(row, "here:1")] == [("1", "a"), ("2", "b")]


def test_ids_are_digests_of_the_content_without_category():
    first, again, other = (
        Example.of("a", "b", "c", "x"),
        Example.of("a", "b", "c", "y"),
        Example.of("a", "", "bc", "x"),
    )
    assert first.id == again.id != other.id
    assert len(first.id) == 16 and int(first.id, 16) >= 0


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([ROW, '{"instruction": \n'], r"rows\.jsonl:2: expected one JSON object a line, found malformed JSON"),
        ([ROW, "[1]\n"], r"rows\.jsonl:2: expected a JSON object, found list"),
        ([{"instruction": "Go."}], r"rows\.jsonl:1: .*`output` or `response`, found the fields `instruction`; "),
        ([{"response": "Go."}], r"rows\.jsonl:1: expected the field `instruction`, found the fields `response`; "),
        ([ROW, ROW | {"response": " "}], r"rows\.jsonl:2: expected a non-empty string .* an empty one; delete the row"),
        ([ROW | {"instruction": ""}], r"rows\.jsonl:1: expected a non-empty string as `instruction`"),
        ([ROW | {"response": 3}], r"rows\.jsonl:1: expected a non-empty string as .*, found int"),
        ([ROW | {"response": ["a", ""]}], r"rows\.jsonl:1: expected a non-empty string"),
        ([ROW | {"response": []}], r"rows\.jsonl:1: .* empty list"),
        ([ROW | {"context": 3}], r"rows\.jsonl:1: expected a string as `input`, found int"),
        ([{"instruction": "Go.", "instances": ["a"]}], r"rows\.jsonl:1: expected a list of objects as `instances`"),
        (
            [{"id": "x"} | ROW, ROW | {"context": "B."}, {"id": "x"} | ROW | {"context": "C."}],
            r"rows\.jsonl:3: expected a new id, found 'x' of .*rows\.jsonl:1 again",
        ),
        ([], r"rows\.jsonl: expected at least one row, found none; check data\.evaluation\.vicuna"),
    ],
)
def test_bad_rows_name_file_and_line(tmp_path, rows, message):
    with pytest.raises(DataError, match=message) as error:
        gather(write(tmp_path / "rows.jsonl", *rows), name="vicuna")
    assert "\n" not in str(error.value)


def test_repeated_rows_are_left_out_and_counted(tmp_path):
    examples, repeated = gather(
        write(tmp_path / "rows.jsonl", ROW, ROW | {"category": "other"}, ROW | {"response": "No"})
    )
    assert [example.output for example in examples] == ["Cat", "No"]
    assert repeated == 1


def test_rows_takes_the_first_distinct_ones(tmp_path):
    file = write(tmp_path / "rows.jsonl", ROW, ROW, *(ROW | {"response": str(n)} for n in range(5)))
    assert [example.output for example in gather(file, rows=3)[0]] == ["Cat", "0", "1"]


def test_world_gives_each_set_its_part():
    def rows(name):
        examples, _ = gather_examples(WorldSource(rows=20), name, 3)
        return [(example.instruction, example.input, example.output, example.category) for example in examples]

    world = generate_world(3, 0, 20, 0)
    assert rows("self_inst") == [tuple(row.values()) for row in world.self_inst]
    assert rows("instructions") == [tuple(row.values()) for row in generate_world(3, 20, 0, 0).instructions]
    assert list(gather_documents(WorldSource(rows=5), 3)) == generate_world(3, 0, 0, 5).plain_text


def test_world_has_no_other_set():
    with pytest.raises(
        ConfigError, match=r"data\.evaluation\.koala: expected one of the world's sets self_inst, .*'koala'"
    ):
        gather_examples(WorldSource(rows=5), "koala", 3)


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.jsonl", '{"text": "one\\ntwo"}\n{"text": " "}\n{"text": "three"}\n'), ("a.txt", "one\ntwo\n\n\nthree\n")],
)
def test_documents_from_jsonl_and_text(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert list(gather_documents(FileSource(path="unused"), 0, tmp_path / name)) == ["one\ntwo", "three"]
    assert list(gather_documents(FileSource(path="unused", rows=1), 0, tmp_path / name)) == ["one\ntwo"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"content": "one"}\n', r"a\.jsonl:1: expected the field `text`, found the fields `content`"),
        ("a.jsonl", b'{"text": 1}\n', r"a\.jsonl:1: expected a string as `text`, found int"),
        ("a.txt", b"\n \n", r"a\.txt: expected at least one document, found none"),
        ("a.txt", b"\xff\xfe\xff", r"a\.txt: expected UTF-8 text"),
    ],
)
def test_bad_documents(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(gather_documents(FileSource(path="unused"), 0, tmp_path / name))


def test_rows_are_checked_on_reading(tmp_path):
    row = Example.of("a", "", ["b", "c"], "").to_dict()
    assert read_examples(write(tmp_path / "good.jsonl", row))[0].references == ["b", "c"]
    for bad in (row | {"extra": 1}, row | {"output": 3}, {"id": "x"}):
        with pytest.raises(DataError, match=r"bad\.jsonl:2: expected a row of Example"):
            read_examples(write(tmp_path / "bad.jsonl", row, bad))


@pytest.mark.parametrize(
    ("name", "count", "repeated", "several"),
    [
        ("databricks-dolly-15k.jsonl", 14996, 15, 0),
        ("eval/dolly_dev_1000.jsonl", 1000, 0, 0),
        ("eval/dolly_test_500.jsonl", 500, 0, 0),
        ("eval/self_inst_242.jsonl", 242, 0, 0),
        ("eval/user_oriented_instructions.jsonl", 252, 0, 0),
        ("eval/vicuna_80.jsonl", 80, 0, 0),
        ("eval/sinst_1694.jsonl", 1694, 0, None),
    ],
)
def test_real_files_are_read_whole(name, count, repeated, several):
    examples, left_out = gather(shared_data(name))
    assert (len(examples), left_out) == (count, repeated)
    assert several is None or sum(isinstance(example.output, list) for example in examples) == several
    assert len({example.id for example in examples}) == count
