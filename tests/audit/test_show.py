"""Records in plain words, and the diagram of what was made from what."""

from distill.__main__ import main
from distill.audit.archive import Archive
from distill.audit.words import count, duration, listed, ranges


def test_a_record_is_told_with_its_file(micro_study, capsys):
    artifact = Archive(micro_study.results).artifacts["models/kd"]
    assert main(["show", "models/kd/selection.json", "--results", str(micro_study.results)]) == 0
    said = capsys.readouterr().out
    update, digest = artifact.notes["update"], artifact.files()["models/kd/selection.json"]["sha256"]
    assert said.startswith(f"models/kd: checkpoint chosen by dev_rouge_l: update {update}\n")
    for fact in (digest, artifact.digest, artifact.code, artifact.lock, artifact.commit, artifact.host["name"]):
        assert fact in said
    assert "rule = dev_rouge_l" in said and "run           training/kd, sha256 " in said
    assert "used by      efficiency, generations/kd, tables\n" in said
    assert main(["show", "benchmarks/select_checkpoint/kd.tsv", "--results", str(micro_study.results)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == said.splitlines()[0]


def test_all_artifacts_are_listed(micro_study, capsys):
    assert main(["show", "--results", str(micro_study.results)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*Archive(micro_study.results).artifacts]
    said = {line.split()[0]: line.split(maxsplit=2)[2] for line in lines}
    assert said["bases/teacher"] == "new qwen2 of 2 layers of width 64, pretrained for 20 updates, seed 10"
    assert said["data/sources/vicuna"] == "30 rows of the embedded world's generator, seed 0"
    assert said["samples"] == "96 teacher samples"


def test_what_no_rule_made_is_one_line(micro_study, capsys):
    for path in ("README.md", "models/kd/none.json"):
        assert main(["show", path, "--results", str(micro_study.results)]) == 2
        assert "expected a file of a job, found none" in capsys.readouterr().err


def test_the_diagram_has_every_artifact_and_link(micro_study, capsys):
    archive = Archive(micro_study.results)
    assert main(["graph", "--results", str(micro_study.results)]) == 0
    whole = capsys.readouterr().out.splitlines()
    assert whole[0] == "flowchart LR"
    assert sum(" -- " in line for line in whole) == sum(len(archive.inputs(one)) for one in archive.artifacts.values())
    assert main(["graph", "data/split/train.jsonl", "--results", str(micro_study.results)]) == 0
    part = capsys.readouterr().out
    nodes = {line.split('"')[1] for line in part.splitlines()[1:] if '"' in line}
    assert nodes == {"data/split", "tokenizer", "data/sources/instructions", "data/sources/plain_text"}


def test_numbers_and_lines_in_words():
    assert ranges([5, 1, 2, 3, 7]) == "1-3, 5, 7" and ranges(range(0, 40, 2), 2) == "0, 2 and 18 more"
    assert (count(1, "row"), count(2000, "row"), listed("abc", 2)) == ("1 row", "2,000 rows", "a, b and 1 more")
    assert [duration(value) for value in (2.5, 119, 7200)] == ["2.5 s", "1 min 59 s", "2.0 h"]
