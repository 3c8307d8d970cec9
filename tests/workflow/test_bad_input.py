"""A user's mistake stops the workflow with one last line that says where, what was expected and found, and the fix."""

import json
import shutil
from pathlib import Path

import pytest

from fake_openai import FakeOpenAI

ROW = {"instruction": "Name a colour.", "context": "", "response": "Red.", "category": "open_qa"}
REVISION = "0" * 40


def stops(workplace, artifact: str, *, exit_status: int | None = 2, **environment: str) -> str:
    """Makes one artifact, which must fail and leave nothing half-written; returns the last line of the output."""
    complete = workplace.results / artifact / "COMPLETE"
    result = workplace.snakemake(str(complete.relative_to(workplace.folder)), **environment)
    assert result.returncode != 0
    if exit_status is not None:
        assert f"returned non-zero exit status {exit_status}." in result.stdout
        assert not complete.exists()
    assert list(workplace.results.rglob("*.tmp-*")) == []
    last = result.stdout.rstrip().splitlines()[-1]
    assert last.startswith("error: "), result.stdout[-4000:]
    return last


def rows(*changes: dict | str) -> str:
    lines = [change if isinstance(change, str) else json.dumps(ROW | change) for change in changes]
    return "".join(f"{line}\n" for line in lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            rows({}, {"instruction": "b"}, '{"instruction": "c", '),
            "mine.jsonl:3: expected one JSON object a line, found malformed JSON",
        ),
        (
            rows({}, {"instruction": "b", "response": " "}),
            "mine.jsonl:2: expected a non-empty string as `output` or `response`, found an empty one",
        ),
        (
            rows({"id": 7}, {"instruction": "b", "id": 8}, {"instruction": "c", "id": 7}),
            "mine.jsonl:3: expected a new id, found 7 of mine.jsonl:1 again",
        ),
        (rows({}, '{"question": "b"}'), "mine.jsonl:2: expected the field `instruction`, found the fields `question`"),
        ("", "mine.jsonl: expected at least one row, found none; check data.evaluation.vicuna"),
    ],
    ids=["malformed line", "empty response", "repeated id", "absent field", "empty set"],
)
def test_local_data(workplace, text, message):
    (workplace.folder / "mine.jsonl").write_text(text)
    workplace.configure({"data.evaluation.vicuna": {"kind": "file", "path": "mine.jsonl"}})
    last = stops(workplace, "data/sources/vicuna")
    assert last.startswith(f"error: gather_source: {message}")
    assert last.endswith("(log: results/logs/gather_source/vicuna.log)")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "nowhere.jsonl",
            "error: data.evaluation.vicuna.path: expected a file or folder, found none at nowhere.jsonl; correct "
            "the path",
        ),
        (
            "${NO_SUCH_FOLDER}/x.jsonl",
            "error: data.evaluation.vicuna.path: expected the environment variable NO_SUCH_FOLDER",
        ),
    ],
)
def test_absent_local_data(workplace, path, message):
    workplace.configure({"data.evaluation.vicuna": {"kind": "file", "path": path}})
    assert stops(workplace, "data/sources/vicuna", exit_status=None).startswith(message)


def test_split_larger_than_the_data(workplace):
    shutil.copy(workplace.results / "data/sources/instructions/examples.jsonl", workplace.folder / "mine.jsonl")
    workplace.configure({"data.instructions": {"kind": "file", "path": "mine.jsonl"}, "data.train_rows": 1000})
    last = stops(workplace, "data/split")
    assert last.startswith("error: split_data: data.train_rows: expected at most the 200 rows that dev and test leave")
    assert "found 1000; lower it" in last


def cut_weights(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-100])


def swap_tokens(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    one, other = list(vocabulary)[300:302]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def pickle_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_weights, "{folder}/model.safetensors: expected {size} bytes for "),
        (
            swap_tokens,
            "{folder}: expected the vocabulary of results/tokenizer with 512 tokens, found 512; the first difference",
        ),
        (
            pickle_weights,
            "{folder}: expected weights in model.safetensors, found pytorch_model.bin; other formats are not read",
        ),
    ],
    ids=["truncated weights", "another vocabulary", "pickled weights"],
)
def test_external_teacher(workplace, tmp_path, damage, message):
    folder = Path(shutil.copytree(workplace.results / "models" / "teacher", tmp_path / "teacher"))
    (folder / "COMPLETE").unlink()
    size = (folder / "model.safetensors").stat().st_size
    damage(folder)
    workplace.configure({"external.teacher": str(folder)})
    last = stops(workplace, "models/teacher")
    assert last.startswith(f"error: adopt_model: {message.format(folder=folder, size=size)}")


def test_external_samples_of_another_study(workplace):
    lines = (workplace.results / "samples" / "samples.jsonl").read_text().splitlines()
    row = json.loads(lines[4]) | {"id": "f" * 16}
    (workplace.folder / "samples.jsonl").write_text("\n".join([*lines[:4], json.dumps(row), *lines[5:]]) + "\n")
    workplace.configure({"external.samples": "samples.jsonl"})
    last = stops(workplace, "samples")
    assert last.startswith(
        "error: adopt_samples: samples.jsonl:5: expected the id of a train or dev example of this study"
    )


def test_hub_model_without_the_hub(workplace, tmp_path):
    model = {"kind": "hub", "repository": "example/model", "revision": REVISION}
    workplace.configure({"models.teacher": model, "models.student": model})
    last = stops(workplace, "tokenizer", HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    assert last.startswith(f"error: make_tokenizer: models: expected example/model at revision {REVISION}")
    assert "go online, or use a local copy" in last


def test_hub_data_without_the_hub(workplace, tmp_path):
    data = {"kind": "hub", "repository": "example/data", "revision": REVISION}
    workplace.configure({"data.evaluation.vicuna": data})
    last = stops(workplace, "data/sources/vicuna", HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    assert last.startswith("error: gather_source: data.evaluation.vicuna: ") and "kind: file with a copy of it" in last


def test_wrong_key_for_the_judge(workplace):
    with FakeOpenAI() as server:
        judge = {"kind": "openai", "base_url": server.base_url, "api_key_env": "JUDGE_KEY", "prompts": 2}
        workplace.configure({"judge": judge})
        last = stops(workplace, "verdicts/bd_sampled-phase1", JUDGE_KEY="sk-wrong-key")
    assert last.startswith(f"error: judge_pair: judge.api_key_env: expected {server.base_url} to accept the key")
    assert "found it refused (status 401); set a valid key" in last
    written = [path for place in (workplace.results, workplace.folder / ".snakemake") for path in place.rglob("*")]
    assert not [path for path in written if path.is_file() and b"sk-wrong-key" in path.read_bytes()]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generation.sedes": [1]}, "config: generation.sedes: unknown key; delete it or see config.yaml"),
        ({"generation.seeds": "ten"}, "config: generation.seeds: input should be a valid list, found 'ten' (str)"),
        (
            {"data.instructions.rows": 50},
            "config: data.instructions.rows: expected at least 180 rows, 120 of them for train, found 50",
        ),
    ],
    ids=["unknown key", "wrong type", "split larger than the world"],
)
def test_config(workplace, changes, message):
    workplace.configure(changes)
    assert stops(workplace, "data/sources/vicuna", exit_status=None).startswith(f"error: {message}")


def test_results_folder_that_cannot_be(workplace):
    """A file in the way stands for every refusal: permission bits do not bind root, as which tests may run."""
    (workplace.folder / "taken").write_text("a file")
    workplace.configure({"results": "taken/results"})
    result = workplace.snakemake()
    last = result.stdout.rstrip().splitlines()[-1]
    assert result.returncode != 0 and last.startswith(
        "error: results: expected a folder that can be made and written, found "
    )
    assert "/taken which is a file; change it" in last


def test_several_failures_each_have_their_line(workplace):
    (workplace.folder / "mine.jsonl").write_text("{\n")
    broken = {"kind": "file", "path": "mine.jsonl"}
    workplace.configure({"data.evaluation.vicuna": broken, "data.evaluation.self_inst": broken})
    names = ("vicuna", "self_inst")
    result = workplace.snakemake("--keep-going", *(f"results/data/sources/{name}/COMPLETE" for name in names))
    assert [line[:30] for line in result.stdout.rstrip().splitlines()[-2:]] == ["error: gather_source: mine.jso"] * 2
