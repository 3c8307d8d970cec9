"""Two runs are compared: what was given otherwise comes first, with what it explains; equal runs are called equal."""

from pathlib import Path

import pytest

from distill.__main__ import main
from distill.audit.archive import Archive
from distill.audit.diff import compare_runs
from distill.files import read_json, read_jsonl, seal_folder, write_json, write_jsonl, write_text
from distill.provenance.record import artifact_digest, record_path
from workplace import copy_tree


@pytest.fixture
def results(micro_study, tmp_path) -> Path:
    """A copy of the small study's results, to be changed."""
    return copy_tree(micro_study.results, tmp_path / "results")


def edit_record(results: Path, name: str, **changes) -> None:
    """Changes an artifact's record: its subject to what lies there, its settings, code, lock or versions."""
    path = record_path(results / name)
    record = read_json(path)
    record["subject"][0]["digest"]["sha256"] = artifact_digest(results / name)
    definition, builder = record["predicate"]["buildDefinition"], record["predicate"]["runDetails"]["builder"]
    definition["externalParameters"]["settings"] |= changes.get("settings", {})
    definition["internalParameters"] |= {key: changes[key] for key in ("code", "lock") if key in changes}
    builder["version"] |= changes.get("versions", {})
    write_json(path, record)


def make_again(results: Path, name: str, file: str, rows: list[dict] | None = None, **changes) -> None:
    """Leaves an artifact as a run with other bytes would."""
    if rows is None:
        with open(results / name / file, "a") as stream:
            stream.write("\n")
    else:
        write_jsonl(results / name / file, rows)
    seal_folder(results / name)
    edit_record(results, name, **changes)


def compare(first, second: Path, capsys) -> tuple[int, list[str]]:
    """Returns the exit code of the command and its lines."""
    code = main(["diff", str(first.results), str(second)])
    return code, capsys.readouterr().out.splitlines()


def test_a_run_and_its_copy_are_equal(micro_study, results, capsys):
    code, said = compare(micro_study, results, capsys)
    artifacts = len(Archive(results).artifacts)
    assert code == 0
    assert said == [
        f"{artifacts} artifacts: {artifacts} equal, 0 but for measured times, 0 changed, 0 in one run alone",
        "the runs are equal",
    ]


def test_other_times_are_no_difference(micro_study, results, capsys):
    """As another run of one config leaves it: other seconds in logs, and in the tables and pages that show them."""
    rows = [
        row | {"seconds": 9.0, "tokens_per_second": 1.0} for _, row in read_jsonl(results / "training/kd/metrics.jsonl")
    ]
    make_again(results, "training/kd", "metrics.jsonl", rows)
    for table, old, new in (("hours", "training,kd,kd,", "training,kd,kd,9"), ("training", ",kd,", ",kd,")):
        path = results / "tables" / f"{table}.csv"
        text = path.read_text()
        if table == "training":
            old = text.splitlines()[1]
            new = ",".join([*old.split(",")[:-1], "9.5"])
        write_text(path, text.replace(old, new, 1))
    seal_folder(results / "tables")
    edit_record(results, "tables")
    (results / "tables.md").write_text("other seconds")
    edit_record(results, "tables.md")
    code, said = compare(micro_study, results, capsys)
    assert code == 0 and said[-1] == "the runs are equal"
    assert ", 3 but for measured times, 0 changed" in said[-2]


def test_a_real_rerun_under_another_title_differs_by_it_alone(micro_study, workplace, capsys):
    workplace.configure({"title": "Another heading"})
    workplace.run()
    code, said = compare(micro_study, workplace.results, capsys)
    assert code == 1
    assert "title: The embedded study -> Another heading" in said
    cause = said.index("title: The embedded study -> Another heading")
    assert said[cause + 1] == "  given to tables.md, report.html"
    assert said[cause + 2] == "  explains 2 artifacts: tables.md, report.html"
    assert "2 changed, 0 in one run alone" in said[-1]


def test_causes_come_first_with_all_that_they_explain(micro_study, results, capsys):
    make_again(results, "data/split", "train.jsonl", settings={"split_seed": 43})
    make_again(results, "training/kd", "dev.jsonl", code="0" * 16, versions={"torch": "0.1"})
    for name in ("models/kd", "generations/kd"):
        make_again(results, name, "config.json" if name == "models/kd" else "generations.jsonl")
    code, said = compare(micro_study, results, capsys)
    assert code == 1
    seed = said.index("split_seed: 42 -> 43")
    assert said[seed + 1] == "  given to data/split"
    assert said[seed + 2].startswith("  explains 4 artifacts: data/split, training/kd, models/kd, generations/kd")
    recorded = read_json(record_path(micro_study.results / "training/kd"))["predicate"]
    code_then = recorded["buildDefinition"]["internalParameters"]["code"]
    torch = recorded["runDetails"]["builder"]["version"]["torch"]
    for cause in (f"code of train_run: {code_then} -> {'0' * 16}", f"version of torch: {torch} -> 0.1"):
        index = said.index(cause)
        assert said[index + 1] == "  given to training/kd"
        assert said[index + 2] == "  explains 3 artifacts: training/kd, models/kd, generations/kd"
    assert not [line for line in said if "expected equal bytes" in line]
    assert "4 changed" in said[-1]


def test_a_cause_without_effect_is_told_and_counts(micro_study, results, capsys):
    edit_record(results, "data/evaluation/dolly", lock="f" * 16)
    code, said = compare(micro_study, results, capsys)
    assert code == 1 and said[1:3] == ["  given to data/evaluation/dolly", "  changed nothing"]
    assert " 0 changed" in said[-1]


def test_other_bytes_without_a_cause_are_an_open_question(micro_study, results, capsys):
    make_again(results, "models/kd", "config.json")
    code, said = compare(micro_study, results, capsys)
    assert code == 1
    assert said[0].startswith("models/kd: expected equal bytes of equal inputs") and "config.json" in said[0]
    assert said[1] == "  explains 1 artifact: models/kd"


def test_an_artifact_of_one_run_alone_is_named(micro_study, results, capsys):
    for path in ("scores/kd.prov.json", "tables.md.prov.json"):
        (results / path).unlink()
    code, said = compare(micro_study, results, capsys)
    assert code == 1
    assert "in the first run alone: scores/kd, tables.md" in said and ", 2 in one run alone" in said[-1]


def test_another_input_from_outside_is_a_cause(micro_study, results):
    path = record_path(results / "data/sources/vicuna")
    record = read_json(path)
    record["predicate"]["buildDefinition"]["resolvedDependencies"] = [
        {"name": "file", "uri": "vicuna.jsonl", "digest": {"sha256": "a" * 64}}
    ]
    write_json(path, record)
    found = {one.name: one for one in compare_runs(Archive(micro_study.results), Archive(results))}
    assert [str(cause) for cause in found["data/sources/vicuna"].causes] == [f"input vicuna.jsonl: none -> {'a' * 16}"]


def test_two_folders_are_asked_for(micro_study, tmp_path, capsys):
    assert main(["diff", str(micro_study.results), str(tmp_path / "none")]) == 2
    assert "expected a results folder, found none" in capsys.readouterr().err
