"""The twenty questions, one test each: every answer is checked against the study's own files."""

import csv
import json
import re
import shutil
from datetime import datetime
from pathlib import Path

import pytest

from distill.__main__ import main
from distill.audit.archive import Archive
from distill.audit.questions import QUESTIONS, Answer, Auditor
from distill.files import digest_file, read_json, read_jsonl, write_jsonl
from workplace import ROOT, copy_tree


@pytest.fixture
def results(micro_study, tmp_path) -> Path:
    """A copy of the small study's results, to be changed."""
    return copy_tree(micro_study.results, tmp_path / "results")


def ask(number: int, results: Path, *place: str, **options) -> Answer:
    """Returns the answer to a question on a file, or on the study; each piece of its evidence is a file."""
    archive = Archive(results, ROOT)
    answer = QUESTIONS[number - 1].answer(Auditor(archive, *place, **options))
    assert answer.lines and answer.evidence
    missing = [path for path in answer.evidence if not (results / path).is_file() and not (ROOT / path).is_file()]
    assert missing == []
    return answer


def predicate(results: Path, name: str) -> dict:
    return read_json(results / f"{name}.prov.json")["predicate"]


def settings(results: Path, name: str) -> dict:
    return predicate(results, name)["buildDefinition"]["externalParameters"]["settings"]


def details(results: Path, name: str) -> dict:
    return predicate(results, name)["runDetails"]


def test_01_environment(finished):
    answer = ask(1, finished, "models/seqkd")
    versions = details(finished, "models/seqkd")["builder"]["version"]
    assert answer.lines[0].startswith("envs/cpu.lock, digest ")
    assert answer.lines[1].startswith("container image: the workflow starts none")
    assert digest_file(ROOT / "envs/cpu.lock")[:16] in answer.lines[0]
    assert f"torch {versions['torch']}" in answer.lines[0] and "envs/cpu.lock" in answer.evidence
    assert len(ask(1, finished).lines) == 2


def test_02_resources(finished):
    usage = details(finished, "training/seqkd")["usage"]
    answer = ask(2, finished, "training/seqkd")
    assert f"{usage['cpu_seconds']:,.1f} CPU seconds, at most {usage['peak_memory_mib']:,} MiB" in answer.lines[0]
    assert answer.lines[1].startswith("GPUs: none")
    with open(finished / "benchmarks/train_run/seqkd.tsv", newline="") as file:
        (row,) = csv.DictReader(file, delimiter="\t")
    assert f"{float(row['io_in']):,.1f} MB read" in answer.lines[2]
    assert "benchmarks/train_run/seqkd.tsv" in answer.evidence


def test_03_config(finished):
    assert "judge.kind = overlap" in ask(3, finished, "verdicts/bd_sampled-seqkd").lines
    split = settings(finished, "data/split")
    assert f"split_seed = {split['split_seed']}" in ask(3, finished, "data/split/train.jsonl").lines
    assert "report.html.prov.json" in ask(3, finished).evidence  # which holds the whole config


def test_04_environment_file(finished):
    answer = ask(4, finished, "generations/seqkd")
    assert answer.lines == ["envs/cpu.lock, beside it envs/cpu.yaml (generations/seqkd)"]
    assert answer.evidence == ["envs/cpu.lock"]


def test_05_time_of_a_step(finished):
    metadata = details(finished, "bases/teacher")["metadata"]
    (line,) = ask(5, finished, "bases/teacher").lines
    assert metadata["startedOn"] in line and metadata["finishedOn"] in line
    assert len(ask(5, finished).lines) == len(Archive(finished).artifacts)


def test_06_time_of_the_run(finished):
    times = [details(finished, name)["metadata"] for name in Archive(finished).artifacts]
    start, end = min(one["startedOn"] for one in times), max(one["finishedOn"] for one in times)
    answer = ask(6, finished)
    assert f"from the first start {start} to the last end {end}" in answer.lines[0]
    work = sum(
        (datetime.fromisoformat(t["finishedOn"]) - datetime.fromisoformat(t["startedOn"])).seconds for t in times
    )
    assert answer.lines[1].startswith(f"{work // 60} min {work % 60} s") or work < 60


def test_07_success_or_failure(finished):
    answer = ask(7, finished)
    assert answer.lines[0].startswith("succeeded") and answer.lines[1] == "no log ends with an error"
    assert "logs/train_run/seqkd.log" in answer.evidence


def test_07_names_a_failed_step(results):
    (results / "logs/make_base/extra.log").write_text(
        "a traceback\nerror: make_base: expected this, found that; do so\n"
    )
    failed = "failed: logs/make_base/extra.log: error: make_base: expected this, found that; do so"
    assert ask(7, results).lines[1] == failed


def test_08_inputs_and_outputs(finished):
    answer = ask(8, finished)
    assert {line.split(": ")[1] for line in answer.lines if line.startswith("in: ")} == {
        f"data/sources/{name}" for name in ("instructions", "plain_text", "self_inst", "vicuna")
    }
    assert {line.split(": ")[1] for line in answer.lines if line.startswith("out: ")} == {"tables.md", "report.html"}
    own = ask(8, finished, "models/seqkd").lines
    weights = digest_file(finished / "models/seqkd/model.safetensors")[:12]
    assert f"out: models/seqkd/model.safetensors (sha256 {weights})" in own
    assert any(line.startswith("in: run training/seqkd ") for line in own)


def test_09_code(finished):
    recorded = predicate(finished, "training/seqkd")["buildDefinition"]["internalParameters"]
    answer = ask(9, finished, "training/seqkd")
    assert answer.lines[0].startswith(f"commit {recorded['git_commit']}, ")
    assert answer.lines[1].startswith(f"train_run: digest {recorded['code']} ")


def test_10_script(finished):
    answer = ask(10, finished, "samples")
    digest = digest_file(ROOT / "workflow/scripts/gather_samples.py")[:16]
    assert answer.lines == [f"workflow/scripts/gather_samples.py; in this repository: sha256 {digest}"]


def test_11_parameters(finished):
    answer = ask(11, finished, "models/seqkd")
    assert "as JSON after --settings, the settings of the record" in answer.lines[0]
    given = answer.lines[1].split("--settings ")[1].split(" --code")[0]
    assert json.loads(given) == settings(finished, "models/seqkd")
    assert all("the settings of the record" in line for line in ask(11, finished).lines)


def test_12_same_bytes(finished):
    files = len(read_json(finished / "models/seqkd/COMPLETE"))
    assert ask(12, finished, "models/seqkd/config.json").lines == [f"yes: {files} files as sealed, each hashed now"]


def test_12_another_byte(results):
    with open(results / "models/seqkd/config.json", "a") as file:
        file.write(" ")
    (line,) = ask(12, results, "models/seqkd").lines
    assert line.startswith("models/seqkd/config.json: changed: ")


def test_13_upstream_is_as_it_was(finished):
    (line,) = ask(13, finished, "generations/seqkd").lines
    assert re.fullmatch(r"no: \d+ links among \d+ artifacts hold, each input older than its use", line)


def test_13_upstream_was_changed(results):
    with open(results / "data/split/train.jsonl", "a") as file:
        file.write("\n")
    lines = ask(13, results, "generations/seqkd").lines
    assert any(line.startswith("data/split/train.jsonl: changed: ") for line in lines)
    assert ask(12, results, "generations/seqkd").lines[0].startswith("yes")
    assert ask(13, results, "data/sources/vicuna").lines[0].startswith("no: 0 links among 1 artifact")


def test_14_lines_behind_a_number(finished):
    lines = ask(14, finished, "tables/scores.csv", "system=seqkd,dataset=dolly,decoding=greedy:mean").lines
    text = "\n".join(lines)
    assert "scored again from the answers" in lines[0]
    for place in (
        "scores/seqkd/seeds.jsonl:",
        "generations/seqkd/generations.jsonl:",
        "data/sources/instructions/examples.jsonl:",
    ):
        assert place in text
    assert "bases/student " in text


@pytest.mark.parametrize(
    "path", ["models/bd_sampled", "verdicts/bd_sampled-seqkd", "candidates/0", "report.html", None]
)
def test_14_a_number_that_rests_on_a_file(finished, path):
    lines = ask(14, finished, *([path] if path else [])).lines
    assert re.match(r"tables/\w+\.csv:\d+:\w+ = ", lines[1])
    assert path in (None, "report.html") or any(path in line for line in lines[2:])


def test_15_samples(finished):
    text = "\n".join(ask(15, finished, "models/seqkd").lines)
    rows = [row for _, row in read_jsonl(finished / "samples/samples.jsonl")]
    train = [row for row in rows if not row["held_out"]]
    shard = settings(finished, "shards/0")
    prompts = len({row["id"] for row in train})
    each = f"{shard['per_prompt']} samples of each of {prompts:,} prompts"
    assert f"samples/samples.jsonl:1-{len(train)}: {each}, to train on" in text
    assert f"shards/1: seed {shard['seed']}, temperature 1, top-p 1" in text
    most = settings(finished, "training/seqkd")["run"]["samples_per_prompt"]
    assert f"given to training/seqkd ({f'the first {most} a prompt' if most else 'all'})" in text
    assert ask(15, finished, "models/sft").lines == ["no student behind this took teacher samples"]


def test_16_checkpoint(finished):
    selection = read_json(finished / "models/seqkd/selection.json")
    lines = ask(16, finished, "models/seqkd").lines
    own = next(line for line in lines if line.startswith("models/seqkd: "))
    assert own.startswith(f"models/seqkd: update {selection['update']} by dev_rouge_l on dev, among ")
    assert all(f"{update}: {scores['dev_rouge_l']:.4f}" in own for update, scores in selection["scores"].items())
    assert "evaluation sets behind any choice: none" in lines
    assert [line for line in lines if line.endswith("compared now")] == [
        f"data/evaluation/{name}: 0 prompts that train or dev has too, compared now"
        for name in ("dolly", "self_inst", "vicuna")
    ]


def test_16_counts_a_prompt_that_train_has(results):
    path = results / "data/split/train.jsonl"
    leaked = next(read_jsonl(results / "data/evaluation/vicuna/examples.jsonl"))[1]
    write_jsonl(path, [*(row for _, row in read_jsonl(path)), leaked])
    assert (
        "data/evaluation/vicuna: 1 prompt that train or dev has too, compared now"
        in ask(16, results, "models/seqkd").lines
    )


def test_17_judge(finished):
    (line,) = ask(17, finished, "verdicts/bd_sampled-seqkd").lines
    half = len([*read_jsonl(finished / "verdicts/bd_sampled-seqkd/verdicts.jsonl")]) // 2
    assert "reference overlap; no prompt: the answer of higher Rouge-L wins" in line
    assert f"orders ab {half}, ba {half}" in line
    assert len(ask(17, finished).lines) == len([*finished.glob("verdicts/*.prov.json")])
    assert ask(17, finished, "models/seqkd").lines == ["no verdict is behind this"]


def test_17_a_served_judge(results):
    path = results / "verdicts/bd_sampled-seqkd"
    reply = {"raw": "A", "model": "gpt-4o-mini-2024-07-18", "system_fingerprint": "fp_1"}
    write_jsonl(path / "verdicts.jsonl", [row | reply for _, row in read_jsonl(path / "verdicts.jsonl")])
    record = results / "verdicts/bd_sampled-seqkd.prov.json"
    record.write_text(record.read_text().replace('"kind": "overlap"', '"kind": "openai"'))
    (line,) = ask(17, results, "verdicts/bd_sampled-seqkd").lines
    assert "gpt-4o-mini-2024-07-18; wording own of code " in line and "60 raw replies of 60" in line
    assert line.endswith("system_fingerprint fp_1")


def test_18_tries_and_hosts(finished):
    host = details(finished, "training/seqkd")["host"]
    (line,) = ask(18, finished, "training/seqkd").lines
    assert (
        line.startswith("started 1 time, ") and f"host {host['name']}, {host['machine']}, {host['cpus']} CPUs" in line
    )


def test_19_another_run(finished):
    digest = digest_file(finished / "MANIFEST.json")
    assert ask(19, finished).lines[0] == f"this run is MANIFEST.json sha256:{digest}"
    (line,) = QUESTIONS[18].answer(Auditor(Archive(finished), against=Archive(finished))).lines
    artifacts = len(Archive(finished).artifacts)
    assert line.startswith(f"{artifacts} artifacts: {artifacts} equal") and line.endswith("0 in one run alone")


def test_20_what_does_not_repeat(finished):
    lines = ask(20, finished).lines
    assert any(line.startswith("Times and tokens a second") for line in lines)
    assert any(line.startswith("Everything else is built to repeat bit for bit") for line in lines)
    assert "training/" in lines[-1] and "tables" in lines[-1]
    assert ask(20, finished, "data/split").lines[-1] == "times were measured in nothing behind this"


def test_the_command_asks_all_of_any_file(finished, capsys):
    texts = [question.text for question in QUESTIONS]
    files = ("models/seqkd/model.safetensors", "tables.md", "data/sources/vicuna.prov.json", "logs/train_run/seqkd.log")
    for place in ([], *([file] for file in files)):
        assert main(["questions", *place, "--results", str(finished)]) == 0
        said = capsys.readouterr().out
        assert re.findall(r"^ ?(\d+)\. (.*)$", said, re.MULTILINE) == [
            (str(i), text) for i, text in enumerate(texts, 1)
        ]
        assert said.count("    evidence: ") == 20
    assert main(["questions", "--only", "5", "6", "--results", str(finished)]) == 0
    assert re.findall(r"^ ?(\d+)\.", capsys.readouterr().out, re.MULTILINE) == ["5", "6"]
    assert main(["questions", "README.md", "--results", str(finished)]) == 2


def test_a_study_that_stopped_early_answers_too(results, capsys):
    for path in results.iterdir():
        if path.name.partition(".")[0] not in ("data", "tokenizer", "logs", "benchmarks"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert main(["questions", "--full", "--results", str(results)]) == 0
    said = capsys.readouterr().out
    assert said.count("    evidence: ") == 20 and "the study has no tables yet" in said
    assert "out: data/evaluation/dolly: 30 prompts, none of which train or dev has" in said
