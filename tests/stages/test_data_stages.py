"""The command lines of the data stages, from sources to evaluation sets, on the embedded world and on local files."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from distill.data.counts import describe_left_out
from distill.data.pairs import example_of
from distill.data.same_prompt import find_shared
from distill.data.tokens import encode_file, load_tokenizer
from distill.errors import ModelError
from distill.files import read_json, seal_folder, write_json, write_jsonl
from distill.provenance.record import record_path
from distill.records import Example, read_examples, read_pairs

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"
LIMITS = {"wrapper": "short", "max_prompt_tokens": 256, "max_total_tokens": 512}
SPLIT = {"test": "dolly", "test_rows": 20, "dev_rows": 30, "train_rows": None, "split_seed": 42, **LIMITS}
EVALUATION = {"name": "vicuna", "part": None, "wrapper": "short", "max_prompt_tokens": 256}
WORLD = {"kind": "world", "rows": 200}
REVISION = "0123456789abcdef0123456789abcdef01234567"


def command(rule: str, folder: Path, settings: dict, **inputs: Path | list[Path]) -> list[str]:
    options = []
    for name, paths in inputs.items():
        options += [f"--{name.replace('_', '-')}", *map(str, paths if isinstance(paths, list) else [paths])]
    place = ["--output", str(folder / "COMPLETE"), "--state", str(folder.parent / ".state")]
    return [str(SCRIPTS / f"{rule}.py"), *options, "--settings", json.dumps(settings), *place]


def run(rule: str, folder: Path, settings: dict, **inputs: Path | list[Path]) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", command(rule, folder, settings, **inputs))
        runpy.run_path(sys.argv[0], run_name="__main__")
    return folder


def fail(capsys, rule: str, folder: Path, settings: dict, **inputs: Path | list[Path]) -> str:
    """Runs a stage that must exit with 2 and publish nothing; returns the last line of stderr."""
    with pytest.raises(SystemExit) as exit:
        run(rule, folder, settings, **inputs)
    assert exit.value.code == 2
    assert not folder.exists()
    return capsys.readouterr().err.splitlines()[-1]


def gather(folder: Path, name: str, source: dict, **inputs: Path) -> Path:
    return run("gather_source", folder / name, {"name": name, "source": source, "seed": 10}, **inputs)


def notes(folder: Path) -> dict:
    return read_json(record_path(folder))["predicate"]["runDetails"]["notes"]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The embedded study's data, small: every stage run once."""
    root = tmp_path_factory.mktemp("study")
    for name in ("instructions", "vicuna"):
        gather(root, name, WORLD)
    gather(root, "plain_text", WORLD)
    settings = {"model": None, "vocabulary_size": 400, "wrapper": "short"}
    inputs = {"instructions": root / "instructions", "plain_text": root / "plain_text"}
    run("make_tokenizer", root / "tokenizer", settings, **inputs)
    run("split_data", root / "split", SPLIT, instructions=root / "instructions", tokenizer=root / "tokenizer")
    return root


def prepare(study: Path, folder: Path, settings: dict, source: str | Path) -> Path:
    inputs = {"source": study / source, "split": study / "split", "tokenizer": study / "tokenizer"}
    return run("prepare_evaluation", folder, EVALUATION | settings, **inputs)


def test_split_has_its_parts_and_says_so(study):
    sizes = {part: len(read_examples(study / "split" / f"{part}.jsonl")) for part in ("train", "dev", "test")}
    assert sizes == {"train": 150, "dev": 30, "test": 20}
    assert notes(study / "split") == sizes | {
        "rows": 200,
        "dropped_long_prompt": 0,
        "dropped_long_total": 0,
        "held_out_of_train": {},
    }


def test_trained_tokenizer_is_whole_and_repeatable(study, tmp_path):
    tokenizer, eos_id = load_tokenizer(study / "tokenizer")
    assert (tokenizer.get_vocab_size(), eos_id) == (400, 0)
    text = "Ünï 12\n\n  <b>"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    for example in encode_file(study / "split" / "dev.jsonl", tokenizer, "short", eos_id):
        assert example.response_ids.count(eos_id) == 1 and example.response_ids[-1] == eos_id
        assert eos_id not in example.prompt_ids
    settings = {"model": None, "vocabulary_size": 400, "wrapper": "short"}
    inputs = {"instructions": study / "instructions", "plain_text": study / "plain_text"}
    again = run("make_tokenizer", tmp_path / "tokenizer", settings, **inputs)
    assert (again / "COMPLETE").read_bytes() == (study / "tokenizer" / "COMPLETE").read_bytes()


def test_transformers_reads_the_tokenizer_alike(study):
    from transformers import AutoTokenizer

    theirs, (ours, eos_id) = AutoTokenizer.from_pretrained(study / "tokenizer"), load_tokenizer(study / "tokenizer")
    assert theirs.eos_token_id == theirs.pad_token_id == theirs.bos_token_id == eos_id
    text = "Q: What has Belo , and where?\nA:"
    assert theirs(text).input_ids == ours.encode(text).ids
    assert theirs.decode(theirs(text).input_ids) == text


def test_vocabulary_larger_than_the_texts(study, tmp_path, capsys):
    settings = {"model": None, "vocabulary_size": 100_000, "wrapper": "short"}
    message = fail(capsys, "make_tokenizer", tmp_path / "t", settings, instructions=study / "instructions")
    assert "models.vocabulary_size: expected texts that give 100000 entries" in message


def test_tokenizer_of_a_local_folder_is_taken_over(study, tmp_path, monkeypatch):
    base = tmp_path / "base"
    base.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (base / name).write_bytes((study / "tokenizer" / name).read_bytes())
    write_json(base / "config.json", {"model_type": "qwen2", "vocab_size": 400, "eos_token_id": 0})
    monkeypatch.setenv("BASES", str(tmp_path))
    settings = {"model": {"kind": "folder", "path": "${BASES}/base"}, "vocabulary_size": 300, "wrapper": "short"}
    run("make_tokenizer", tmp_path / "tokenizer", settings, file=base / "tokenizer.json")
    (taken, eos_id), (ours, _) = load_tokenizer(tmp_path / "tokenizer"), load_tokenizer(base)
    assert (taken.get_vocab(), eos_id) == (ours.get_vocab(), 0)
    assert str(tmp_path) not in json.dumps(
        read_json(tmp_path / "tokenizer.prov.json")["predicate"]["buildDefinition"]["externalParameters"]
    )


@pytest.mark.parametrize("part", ["dev", "test"])
def test_part_of_the_split_is_prepared_as_cut(study, tmp_path, part):
    prepared = prepare(study, tmp_path / part, {"name": part, "part": part}, "split")
    assert read_examples(prepared / "examples.jsonl") == read_examples(study / "split" / f"{part}.jsonl")


def test_long_prompts_are_dropped_and_counted(study, tmp_path):
    prepared = prepare(study, tmp_path / "vicuna", {"max_prompt_tokens": 25}, "vicuna")
    found = notes(prepared)
    assert len(read_examples(prepared / "examples.jsonl")) == found["kept"] == 200 - found["dropped_long_prompt"]
    assert 0 < found["kept"] < 200


def test_responses_count_for_dev_only(study, tmp_path):
    with pytest.raises(SystemExit):
        prepare(study, tmp_path / "dev", {"name": "dev", "part": "dev", "max_total_tokens": 10}, "split")
    prepare(study, tmp_path / "dev", {"name": "dev", "part": "dev", "max_total_tokens": None}, "split")


def test_no_prompt_short_enough(study, tmp_path, capsys):
    inputs = {"source": study / "vicuna", "split": study / "split", "tokenizer": study / "tokenizer"}
    message = fail(capsys, "prepare_evaluation", tmp_path / "v", EVALUATION | {"max_prompt_tokens": 2}, **inputs)
    assert "data.evaluation.vicuna: expected rows within data.max_prompt_tokens = 2, found none of 200" in message


def test_leaks_are_refused_until_they_are_held_out(study, tmp_path, capsys):
    # Two training prompts in other words' clothes, and one prompt of its own.
    leaked = [
        {"instruction": f"“{row.instruction.upper()}” !", "input": row.input, "output": "So."}
        for row in read_examples(study / "split" / "train.jsonl")[:2]
    ]
    write_jsonl(tmp_path / "own.jsonl", [{"instruction": "A new question?", "output": "Yes."}, *leaked])
    source = {"kind": "file", "path": "${X}/own.jsonl", "held_out_of_train": True}
    own = gather(tmp_path, "own", source, file=tmp_path / "own.jsonl")
    first, train = read_examples(own / "examples.jsonl")[1], read_examples(study / "split" / "train.jsonl")[0]

    settings = EVALUATION | {"name": "own"}
    inputs = {"source": own, "split": study / "split", "tokenizer": study / "tokenizer"}
    message = fail(capsys, "prepare_evaluation", tmp_path / "prepared", settings, **inputs)
    assert (
        "data.evaluation.own: expected no prompt that train has too, found 2 of 3, the first with id "
        f"{first.id} ({first.instruction!r}), as row {train.id} ({train.instruction!r}) of train; set" in message
    )
    assert "set data.evaluation.own.held_out_of_train: true" in message

    inputs["split"] = run(
        "split_data",
        tmp_path / "split",
        SPLIT,
        instructions=study / "instructions",
        tokenizer=study / "tokenizer",
        held_out=[own, study / "vicuna"],
    )
    counts = read_json(inputs["split"] / "counts.json")
    assert counts["held_out_of_train"] == {"own": 2, "vicuna": 0} and counts.items() <= notes(inputs["split"]).items()
    assert '"held_out_of_train":{"own":2,"vicuna":0}' in capsys.readouterr().out
    run("prepare_evaluation", tmp_path / "prepared", settings, **inputs)
    assert not find_shared(read_examples(own / "examples.jsonl"), read_examples(inputs["split"] / "train.jsonl"))


def test_a_prompt_of_dev_is_refused_at_the_test_set_until_dev_leaves_it_out(study, tmp_path, capsys):
    rows = read_examples(study / "split" / "dev.jsonl")
    first = Example.of(rows[3].instruction.lower(), rows[3].input, "So.", "")
    write_jsonl(tmp_path / "own" / "examples.jsonl", [Example.of("New?", "", "Yes.", "").to_dict(), first.to_dict()])
    inputs = {"source": tmp_path / "own", "split": study / "split", "tokenizer": study / "tokenizer"}
    seal_folder(tmp_path / "own")
    dev = prepare(study, tmp_path / "data/evaluation/dev", {"name": "dev", "part": "dev"}, "split")

    settings = EVALUATION | {"name": "own"}
    message = fail(capsys, "prepare_evaluation", tmp_path / "prepared", settings, **inputs, dev=dev)
    assert (
        "data.evaluation.own: expected no prompt that dev has too, found 1 of 2, the first with id "
        f"{first.id} ({first.instruction!r}), as row {rows[3].id} ({rows[3].instruction!r}) of dev; "
        "add own to data.dev.leave_out to take them out of dev" in message
    )
    assert not [*describe_left_out(tmp_path)]

    settings = EVALUATION | {"name": "dev", "part": "dev", "leave_out": ["own", "dolly"]}
    sets = {"leave_out": [tmp_path / "own", study / "split"]}
    run("prepare_evaluation", dev, settings, **inputs | {"source": study / "split"}, **sets)
    assert read_examples(dev / "examples.jsonl") == [row for row in rows if row is not rows[3]]
    assert read_json(dev / "counts.json")["leave_out"] == notes(dev)["leave_out"] == {"own": 1, "dolly": 0}
    assert [*describe_left_out(tmp_path)] == [f"{dev}: 1 rows left dev by leave_out, since own has their prompts"]
    run("prepare_evaluation", tmp_path / "prepared", EVALUATION | {"name": "own"}, **inputs, dev=dev)


def test_dev_without_a_row_of_its_own_is_one_line(study, tmp_path, capsys):
    settings = EVALUATION | {"name": "dev", "leave_out": ["vicuna"]}
    inputs = {"source": study / "vicuna", "split": study / "split", "tokenizer": study / "tokenizer"}
    message = fail(capsys, "prepare_evaluation", tmp_path / "dev", settings, **inputs, leave_out=study / "vicuna")
    assert "data.dev.leave_out: expected rows whose prompts are in none of vicuna, found none of 200" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test_rows": 201}, "data.evaluation.dolly.rows: expected at most the 200 rows"),
        ({"dev_rows": 190}, "data.dev.rows: expected at most the 180 rows"),
        ({"train_rows": 151}, "data.train_rows: expected at most the 150 rows"),
        ({"max_prompt_tokens": 2}, "data.evaluation.dolly.rows: expected at most the 0 rows"),
    ],
)
def test_split_larger_than_the_data(study, tmp_path, capsys, change, message):
    inputs = {"instructions": study / "instructions", "tokenizer": study / "tokenizer"}
    assert message in fail(capsys, "split_data", tmp_path / "split", SPLIT | change, **inputs)


def test_bad_local_file_is_one_line(tmp_path, capsys):
    (tmp_path / "bad.jsonl").write_text('{"instruction": "Go.", "response": "Gone."}\n{"instruction": "Go."\n')
    settings = {"name": "instructions", "source": {"kind": "file", "path": "bad.jsonl"}, "seed": 10}
    message = fail(capsys, "gather_source", tmp_path / "out", settings, file=tmp_path / "bad.jsonl")
    assert message.startswith(f"error: gather_source: {tmp_path}/bad.jsonl:2: expected one JSON object a line")


def test_repeated_rows_of_a_file_are_in_the_record(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"instruction": "Go.", "response": "Gone."}] * 3)
    out = gather(tmp_path, "instructions", {"kind": "file", "path": "a.jsonl"}, file=tmp_path / "a.jsonl")
    assert notes(out) == {"rows": 1, "repeated_rows_left_out": 2}


def test_tokenizer_without_eos(study, tmp_path):
    (tmp_path / "tokenizer.json").write_bytes((study / "tokenizer" / "tokenizer.json").read_bytes())
    write_json(tmp_path / "tokenizer_config.json", {"eos_token": {"content": "</s>"}})
    with pytest.raises(ModelError, match=r"tokenizer_config\.json: expected eos_token .* found '</s>'"):
        load_tokenizer(tmp_path)


def run_apart(tmp_path: Path, rule: str, settings: dict, **variables: str) -> subprocess.CompletedProcess:
    """Runs a stage in a process of its own, with an empty cache of the hub."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_HOME": str(tmp_path / "hub"), "PYTHONPATH": str(SCRIPTS.parent), **variables}
    arguments = [sys.executable, *command(rule, tmp_path / "out", settings)]
    return subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)


HUB = {"kind": "hub", "repository": "a/b", "revision": REVISION}


@pytest.mark.parametrize(
    ("rule", "settings", "variables", "expected"),
    [
        (
            "gather_source",
            {"name": "dev", "source": HUB, "seed": 1},
            {"HF_HUB_OFFLINE": "1"},
            f"data.dev: huggingface.co cannot be reached for dataset a/b at revision {REVISION};",
        ),
        (
            "gather_source",
            {"name": "vicuna", "source": HUB | {"rows": 3}, "seed": 1},
            {"HF_ENDPOINT": "http://127.0.0.1:9"},
            f"data.evaluation.vicuna: http://127.0.0.1:9 cannot be reached for dataset a/b at revision {REVISION};",
        ),
        (
            "make_tokenizer",
            {"model": HUB, "vocabulary_size": 300, "wrapper": "short"},
            {"HF_HUB_OFFLINE": "1"},
            f"models: expected a/b at revision {REVISION}",
        ),
    ],
    ids=["dataset-offline", "dataset-unreachable", "tokenizer"],
)
def test_hub_out_of_reach_is_one_line(tmp_path, rule, settings, variables, expected):
    result = run_apart(tmp_path, rule, settings, **variables)
    assert result.returncode == 2
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"error: {rule}: {expected}")
    assert "kind: f" in last  # the fix: a local file or folder
    assert "Retry" not in result.stderr


@pytest.mark.parametrize(("rows", "expected"), [(None, ["1", "2", "3"]), (2, ["1", "2"])], ids=["whole", "streamed"])
def test_hub_dataset_is_read(tmp_path, rows, expected):
    # The hub's library takes a folder for a repository, which needs no network.
    write_jsonl(tmp_path / "b" / "train.jsonl", [{"instruction": "Go.", "response": str(n)} for n in (1, 2, 3)])
    source = HUB | {"repository": str(tmp_path / "b"), "rows": rows}
    result = run_apart(tmp_path, "gather_source", {"name": "dev", "source": source, "seed": 1}, HF_HUB_OFFLINE="1")
    assert result.returncode == 0, result.stderr
    assert [example.output for example in read_examples(tmp_path / "out" / "examples.jsonl")] == expected


PAIRS = {"kind": "world", "train": 60, "dev": 12, "test": 24}


def make_pairs(study: Path, folder: Path, pairs: dict, limits: dict = LIMITS, **inputs: list[Path]) -> tuple:
    settings = {"pairs": pairs, "seed": 10, **limits}
    others = [study / "instructions", study / "vicuna"]
    return ["make_pairs", folder, settings], {"others": others, "tokenizer": study / "tokenizer", **inputs}


def test_pairs_of_the_world_are_the_same_bytes_again_and_their_prompts_are_a_set(study, tmp_path):
    first, again = (
        run(*arguments, **inputs)
        for arguments, inputs in (make_pairs(study, tmp_path / name, PAIRS) for name in ("first", "again"))
    )
    assert (first / "COMPLETE").read_bytes() == (again / "COMPLETE").read_bytes()
    assert {path.name for path in first.glob("*.json*")} == {
        "train.jsonl",
        "dev.jsonl",
        "test.jsonl",
        "prompts.jsonl",
        "counts.json",
    }
    counts = read_json(first / "counts.json")
    assert counts == notes(first)
    assert {name: counts[name]["pairs"] for name in ("train", "dev", "test")} == {"train": 60, "dev": 12, "test": 24}
    assert counts["train"]["flipped"] == 6 and counts["test"]["grades"] == dict.fromkeys(
        ("0-1", "0-2", "0-3", "1-3"), 6
    )
    others = [
        example for name in ("instructions", "vicuna") for example in read_examples(study / name / "examples.jsonl")
    ]
    every = [pair for name in ("train", "dev", "test") for pair in read_pairs(first / f"{name}.jsonl")]
    assert not find_shared(map(example_of, every), others)
    prepared = run(
        "prepare_evaluation",
        tmp_path / "talk",
        EVALUATION | {"name": "talk", "part": "prompts"},
        source=first,
        split=study / "split",
        tokenizer=study / "tokenizer",
    )
    prompts = read_examples(prepared / "examples.jsonl")
    assert [example.instruction for example in prompts] == [
        pair.instruction for pair in read_pairs(first / "test.jsonl")
    ]
    assert all(len(example.references) == 4 for example in prompts)


def test_pairs_that_are_too_long_are_dropped_and_counted(study, tmp_path, capsys):
    rows = [{"prompt": f"Say {number}", "chosen": "Yes", "rejected": "No " * number} for number in range(1, 31)]
    files = [tmp_path / f"{name}.jsonl" for name in ("train", "test")]
    for file in files:
        write_jsonl(file, rows if file.stem == "train" else [{"prompt": "Or?", "chosen": "Yes", "rejected": "No"}])
    source = {"kind": "file", "train": "train.jsonl", "test": "test.jsonl", "dev": 5}
    arguments, inputs = make_pairs(study, tmp_path / "pairs", source, LIMITS | {"max_total_tokens": 45}, file=files)
    counts = notes(run(*arguments, **inputs))
    assert counts["train"]["dropped_long"] > 0 and counts["dropped_shared_prompt"] == 0
    left = counts["train"]["pairs"] + counts["train"]["dropped_long"]
    assert left == 25 and counts["test"] == {"pairs": 1, "flipped": 0, "dropped_long": 0}
    arguments, inputs = make_pairs(study, tmp_path / "none", source, LIMITS | {"max_total_tokens": 2}, file=files)
    assert "preferences.pairs.train: expected pairs within" in fail(capsys, *arguments, **inputs)
