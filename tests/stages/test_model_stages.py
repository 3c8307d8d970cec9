import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from distill.data.prompts import wrap
from distill.data.tokens import encode_text, load_tokenizer
from distill.files import read_jsonl, read_manifest, seal_folder, write_jsonl
from distill.models.load import load_model
from distill.records import Example
from fake_openai import KEY, FakeOpenAI
from tiny_models import EOS_ID, make_model, make_tokenizer
from warm import ENVIRONMENT, warm_python

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"
LONGEST = json.dumps({"tokens": 64, "key": "data.max_prompt_tokens"})
TRAIN = [Example.of(f"Name {count} bridges.", "", "None", "qa") for count in ("two", "three")]
DEV = [Example.of("Name the harbour.", "", "It has none.", "qa")]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Sealed tokenizer, split and dev, and an unsealed model from outside."""
    root = tmp_path_factory.mktemp("inputs")
    make_tokenizer().save_pretrained(root / "tokenizer")
    write_jsonl(root / "split" / "train.jsonl", (example.to_dict() for example in TRAIN))
    write_jsonl(root / "dev" / "examples.jsonl", (example.to_dict() for example in DEV))
    for name in ("tokenizer", "split", "dev"):
        seal_folder(root / name)
    make_model(root / "model", "gpt2")
    return root


def run(script, output, settings="{}", **paths):
    """Runs a stage as its rule does; returns (exit code, last line of stderr)."""
    flags = [part for name, path in paths.items() for part in (f"--{name}", str(path))]
    command = [warm_python("stages"), str(SCRIPTS / f"{script}.py"), *flags, "--settings", settings]
    command += ["--output", str(output / "COMPLETE"), "--state", str(output.parent / ".state")]
    environment = ENVIRONMENT | {"PYTHONPATH": str(SCRIPTS.parent)}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return result.returncode, result.stderr.strip().split("\n")[-1]


def record_of(output):
    return json.loads(output.with_name(f"{output.name}.prov.json").read_text())["predicate"]


def test_check_models_takes_sealed_and_unsealed_models(inputs, tmp_path):
    sealed = shutil.copytree(inputs / "model", tmp_path / "sealed")
    seal_folder(sealed)
    given = {"tokenizer": inputs / "tokenizer" / "COMPLETE"}
    for role, model in (("teacher", inputs / "model"), ("student", sealed / "COMPLETE")):
        code, line = run("check_models", tmp_path / role, LONGEST, model=model, **given)
        assert code == 0, line
        assert json.loads((tmp_path / role / "vocabulary.json").read_text())["size"] == 300
        given["teacher"] = tmp_path / "teacher" / "COMPLETE"


def test_check_models_needs_no_torch():
    """It runs in the light environment."""
    code = "import sys; sys.argv = ['x']; import check_models; print({'torch', 'transformers'} & set(sys.modules))"
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": f"{SCRIPTS.parent}:{SCRIPTS}"},
    )
    assert found.stdout.strip() == "set()"


def test_a_model_of_another_family_stops_with_one_line(inputs, tmp_path):
    other = make_model(tmp_path / "other", vocabulary=310)
    code, line = run(
        "check_models",
        tmp_path / "vocabulary",
        LONGEST,
        model=other,
        tokenizer=inputs / "tokenizer" / "COMPLETE",
    )
    assert code == 2
    assert line.startswith("error: check_models: ") and "with 300 tokens, found 310" in line
    assert not (tmp_path / "vocabulary").exists()


def adopt(inputs, model, output, name="teacher"):
    settings = json.dumps({"name": name, "wrapper": "short", "max_new_tokens": 6, "made": {"role": "teacher"}})
    return run("adopt_model", output, settings, model=model, tokenizer=inputs / "tokenizer" / "COMPLETE")


def test_an_adopted_model_is_sealed_recorded_and_loads(inputs, tmp_path):
    code, line = adopt(inputs, inputs / "model", tmp_path / "teacher")
    assert code == 0, line
    assert "model.safetensors" in read_manifest(tmp_path / "teacher")
    load_model(tmp_path / "teacher")
    record = record_of(tmp_path / "teacher")
    assert record["runDetails"]["notes"] == {"external": True, "key": "external.teacher"}
    digests = {entry["name"]: entry["digest"]["sha256"] for entry in record["buildDefinition"]["resolvedDependencies"]}
    changed = shutil.copytree(inputs / "model", tmp_path / "changed")
    (changed / "README.md").write_text("another")
    assert adopt(inputs, changed, tmp_path / "again")[0] == 0
    again = record_of(tmp_path / "again")["buildDefinition"]["resolvedDependencies"]
    assert {entry["name"]: entry["digest"]["sha256"] for entry in again}["model"] != digests["model"]


def test_a_base_that_is_evaluated_as_it_is_comes_from_no_outside(inputs, tmp_path):
    base = shutil.copytree(inputs / "model", tmp_path / "base")
    seal_folder(base)
    code, line = adopt(inputs, base / "COMPLETE", tmp_path / "adopted", "gpt2.base")
    assert code == 0, line
    assert "external" not in record_of(tmp_path / "adopted")["runDetails"]["notes"]
    assert (tmp_path / "adopted" / "model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()


def test_a_truncated_external_model_is_not_adopted(inputs, tmp_path):
    broken = shutil.copytree(inputs / "model", tmp_path / "broken")
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    code, line = adopt(inputs, broken, tmp_path / "teacher")
    assert code == 2
    assert line.startswith(f"error: adopt_model: {weights}: expected") and "bytes" in line
    assert not (tmp_path / "teacher").exists()


def test_a_sealed_folder_that_was_changed_is_no_external_folder(inputs, tmp_path):
    sealed = shutil.copytree(inputs / "model", tmp_path / "sealed")
    seal_folder(sealed)
    config = sealed / "config.json"
    config.write_text(config.read_text().replace("gelu_new", "gelu_old"))
    code, line = adopt(inputs, sealed, tmp_path / "teacher")
    assert code == 2
    assert "config.json: expected the bytes sealed in" in line


def test_only_declared_inputs_may_be_unsealed(inputs, tmp_path):
    make_tokenizer().save_pretrained(tmp_path / "tokenizer")
    code, line = run(
        "adopt_model",
        tmp_path / "teacher",
        '{"name": "teacher", "wrapper": "short", "max_new_tokens": 6, "made": {"role": "teacher"}}',
        model=inputs / "model",
        tokenizer=tmp_path / "tokenizer",
    )
    assert code == 2
    assert "expected a complete folder with a COMPLETE manifest" in line


@pytest.fixture
def rows(inputs):
    """Two samples of each train prompt and one of the dev prompt, in no order."""
    tokenizer, _ = load_tokenizer(inputs / "tokenizer")
    made = []
    for example, samples in ((DEV[0], (0,)), (TRAIN[1], (1, 0)), (TRAIN[0], (0, 1))):
        prompt = encode_text(tokenizer, wrap("alpaca", example.instruction, ""))
        for sample in samples:
            ids = {"prompt_ids": prompt, "response_ids": [9, 8, EOS_ID]}
            made.append({"id": example.id, "sample": sample, **ids, "finished": True})
    made[1] |= {"response_ids": [7, 7], "finished": False}
    return made


def adopt_samples(inputs, rows, tmp_path):
    path = tmp_path / "given.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    folders = {name: inputs / name / "COMPLETE" for name in ("split", "dev", "tokenizer")}
    settings = {"wrapper": "short", "prompt_tokens": 64, "response_tokens": 40, "held_out_prompts": 1}
    return run("adopt_samples", tmp_path / "samples", json.dumps(settings), samples=path, **folders)


def test_adopted_samples_are_ordered_and_marked_as_sampled_ones(inputs, rows, tmp_path):
    code, line = adopt_samples(inputs, rows, tmp_path)
    assert code == 0, line
    written = [row for _, row in read_jsonl(tmp_path / "samples" / "samples.jsonl")]
    assert [(row["held_out"], row["id"], row["sample"]) for row in written] == [
        *((False, id_, sample) for id_ in sorted(example.id for example in TRAIN) for sample in (0, 1)),
        (True, DEV[0].id, 0),
    ]
    assert {key: written[-1][key] for key in rows[0]} == rows[0]
    notes = record_of(tmp_path / "samples")["runDetails"]["notes"]
    assert notes == {"external": True, "key": "external.samples", "samples": 5, "prompts": 3, "finished": 4}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "0" * 16}, "expected the id of a train or dev example of this study, found '0000000000000000'"),
        ({"sample": "first"}, "problem at `sample`"),
        ({"sampel": 0}, "problem at `sampel`"),
        ({"response_ids": [300, EOS_ID]}, "expected response_ids from 0 to 299, the tokenizer's ids, found 0 to 300"),
        ({"prompt_ids": [-1]}, "expected prompt_ids from 0 to 299, the tokenizer's ids, found -1 to -1"),
        ({"response_ids": []}, "expected response_ids with a token at least, found none"),
        ({"prompt_ids": [40, 41]}, "expected prompt_ids that spell the instruction"),
        ({"response_ids": [9, EOS_ID, 8, EOS_ID]}, "expected EOS 0 only at the end of response_ids"),
        ({"finished": False}, "expected finished to tell whether response_ids end with EOS 0, found False and 0"),
        ({"response_ids": [9]}, "expected finished to tell whether response_ids end with EOS 0, found True and 9"),
        ({"sample": 1}, "and sample 1, found another in line 2"),
    ],
)
def test_a_wrong_row_is_refused_by_file_and_line(inputs, rows, tmp_path, change, message):
    rows[2] |= change
    code, line = adopt_samples(inputs, rows, tmp_path)
    assert code == 2
    assert line.startswith(f"error: adopt_samples: {tmp_path / 'given.jsonl'}:3: ") and message in line


def test_texts_of_a_teacher_that_was_asked_become_samples(inputs, tmp_path, monkeypatch):
    monkeypatch.setitem(ENVIRONMENT, "THE_KEY", KEY)
    with FakeOpenAI(lambda prompt: [f"{prompt} {index}" for index in range(2)]) as server:
        teacher = {"kind": "api", "base_url": server.base_url, "model": "m", "api_key_env": "THE_KEY"}
        asked = {"per_prompt": 2, "prompts": 1, "held_out_prompts": 1, "temperature": 1, "top_p": 1}
        settings = json.dumps({"teacher": teacher, **asked, "max_new_tokens": 40, "seed": 10})
        folders = {name: inputs / name / "COMPLETE" for name in ("split", "dev")}
        code, line = run("ask_teacher", tmp_path / "texts", settings, **folders)
    assert code == 0, line
    settings = {"wrapper": "short", "prompt_tokens": 64, "response_tokens": 40, "held_out_prompts": 1}
    folders |= {"samples": tmp_path / "texts" / "COMPLETE", "tokenizer": inputs / "tokenizer" / "COMPLETE"}
    code, line = run("adopt_samples", tmp_path / "samples", json.dumps(settings), **folders)
    assert code == 0, line
    notes = record_of(tmp_path / "samples")["runDetails"]["notes"]
    assert notes == {"samples": 4, "prompts": 2, "finished": 4}
    assert KEY not in "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())


def test_samples_must_cover_train_and_dev(inputs, rows, tmp_path):
    code, line = adopt_samples(inputs, rows[1:], tmp_path)
    assert code == 2
    assert "given.jsonl: expected samples of train prompts" in line and "found 4 and 0" in line
