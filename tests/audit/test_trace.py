"""Every number of the tables is followed to the files behind it and computed again; a wrong one is found."""

import csv
import json
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

from distill.__main__ import main
from distill.audit.archive import Archive
from distill.audit.cells import TableCell, number, read_lines
from distill.audit.evidence import Witness
from distill.audit.recompute import measure_again, tables_settings
from distill.audit.trace import compare, recompute, trace_all
from distill.files import read_json, read_jsonl, seal_folder, write_json, write_jsonl
from distill.report.csv_tables import COLUMNS, write_table
from distill.report.evidence import PUBLISHED
from distill.report.tables import table_rows
from workplace import ROOT, copy_tree


@pytest.fixture
def results(micro_study, tmp_path) -> Path:
    """A copy of the small study's results, to be changed."""
    return copy_tree(micro_study.results, tmp_path / "results")


@pytest.fixture
def grown(results) -> Path:
    """Results with what the small study lacks: a training seed more, another p, no chi-square term, the paper's rows,
    two methods on which there is a claim, and rankings of preference pairs.

    Their runs are copies of others under new names; what counts is that every table has rows.
    """
    tables = read_json(results / "tables.prov.json")
    definition = tables["predicate"]["buildDefinition"]
    settings = definition["externalParameters"]["settings"]
    bellman = settings["systems"]["bd_sampled"]
    changes = {"bd_sampled.seed20": {}, "bd_narrow": {"p": 0.5}, "bd_wide": {"p": 1.0}, "bd_plain": {"chi2": "none"}}
    for name, options in (changes | {"tgpo": {}, "rkl": {}}).items():
        for folder in ("training", "validation", "models", "generations", "scores"):
            shutil.copytree(results / folder / "bd_sampled", results / folder / name)
            text = (results / folder / "bd_sampled.prov.json").read_text().replace("bd_sampled", name)
            (results / folder / f"{name}.prov.json").write_text(text)
        definition["resolvedDependencies"] += [
            entry | {"uri": entry["uri"].replace("bd_sampled", name)}
            for entry in definition["resolvedDependencies"]
            if entry["uri"].endswith("/bd_sampled")
        ]
        own = bellman["options"] | {"bellman": bellman["options"]["bellman"] | options}
        settings["systems"][name] = bellman | {"run": name, "options": own}
    settings["systems"]["bd_sampled.seed20"] = bellman | {"seed": 20}
    claimed = bellman["options"] | {"policy_gradient": True}
    for name in ("tgpo", "rkl"):
        settings["systems"][name] = bellman | {"run": name, "method": name, "options": claimed}
    for number_, name in enumerate(settings["systems"]):
        rows = [{"id": f"p{i}", "grade": "0-1", "chosen": -1.0 - i, "rejected": -5.0 - number_} for i in range(9)]
        write_jsonl(results / "rankings" / name / "rankings.jsonl", rows)
        seal_folder(results / "rankings" / name)
        text = (results / "scores" / f"{name}.prov.json").read_text().replace(f"scores/{name}", f"rankings/{name}")
        (results / "rankings" / f"{name}.prov.json").write_text(text)
    definition["resolvedDependencies"] += [
        entry | {"name": "rankings", "uri": entry["uri"].replace("scores/", "rankings/")}
        for entry in definition["resolvedDependencies"]
        if entry.get("name") == "scores"
    ]
    settings["paper"] = {"family": "GPT-2", "students": {"student": "340M"}}
    write_json(results / "tables.prov.json", tables)
    for path in ("tables.md", "tables.md.prov.json"):
        (results / path).unlink()
    archive = Archive(results, ROOT)
    for name, rows in table_rows(measure_again(archive), tables_settings(archive)).items():
        write_table(results / "tables", name, rows)
    return results


def numbers(results: Path) -> list[TableCell]:
    """Returns every number of every table, found without the code under test."""
    found = []
    for path in sorted((results / "tables").glob("*.csv")):
        with open(path, newline="") as file:
            for index, row in enumerate(csv.DictReader(file)):
                cells = (TableCell(path.stem, index, index + 2, row, column) for column in row)
                found += [cell for cell in cells if re.fullmatch(r"-?\d[\d.e+-]*", cell.text)]
    return found


def change(results: Path, cell: TableCell, text: str) -> None:
    """Writes another text into a cell."""
    path = results / "tables" / f"{cell.table}.csv"
    with open(path, newline="") as file:
        rows = [*csv.reader(file)]
    rows[cell.line - 1][COLUMNS[cell.table].index(cell.column)] = text
    with open(path, "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def trace(results: Path, place: str, capsys, *options: str) -> tuple[int, str]:
    """Returns the exit code and the output of the command."""
    code = main(["trace", place, "--results", str(results), *options])
    return code, capsys.readouterr().out


def test_every_number_of_every_table_is_computed_again_and_equal(finished):
    said, is_right = trace_all(Witness(Archive(finished, ROOT)))
    assert is_right, said[-20:]
    found = Counter(cell.table for cell in numbers(finished))
    counted = {line.split()[0]: int(line.split()[1].replace(",", "")) for line in said[: len(COLUMNS)]}
    assert counted == {name: found[name] for name in COLUMNS}
    total = f"{found.total():,}"
    assert f"{total} numbers in {len(COLUMNS)} tables: {total} equal" in said
    assert said[-1] == "tables.md: the page of these numbers"


def test_what_the_small_study_lacks_is_computed_again_too(grown):
    said, is_right = trace_all(Witness(Archive(grown, ROOT)))
    assert is_right, said
    assert not [line for line in said if line.endswith("none")]
    assert any(line.split()[:-1] == PUBLISHED.split() for line in said)


def test_a_wrong_number_in_any_table_is_named(results, capsys):
    wrong = {cell.table: cell for cell in numbers(results) if cell.column not in ("seed", "update", "p", "k")}
    assert len(wrong) == len(COLUMNS) - 5
    for cell in wrong.values():
        change(results, cell, repr(float(cell.text) * (1 + 1e-9) + 1e-9))
    assert main(["trace", "--all", "--results", str(results)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert {line.split(": expected")[0] for line in lines if ": expected" in line} == {
        f"tables/{cell.table}.csv:{cell.line}:{cell.column}" for cell in wrong.values()
    }


def test_another_word_or_a_row_more_is_named(results):
    path = results / "tables" / "selection.csv"
    path.write_text(path.read_text().replace(",yes,", ",no,", 1) + path.read_text().splitlines()[-1] + "\n")
    said, is_right = trace_all(Witness(Archive(results, ROOT)))
    assert not is_right
    assert any(re.fullmatch(r"tables/selection.csv:\d+:chosen: expected yes, found no", line) for line in said)
    assert any(re.fullmatch(r"tables/selection.csv: expected \d+ rows, found \d+", line) for line in said)


def spoil(results: Path) -> None:
    """Makes every number that a stage computed from others wrong: scores, win rates, selections."""
    for path in (results / "scores").rglob("*.jsonl"):
        write_jsonl(path, [row | {"score": 0.0} for _, row in read_jsonl(path)])
    for path in results.glob("verdicts/*/win_rate.json"):
        write_json(path, read_json(path) | {"win_rate": 2.0, "lo": 2.0})
    for path in results.glob("models/*/selection.json"):
        selection = read_json(path)
        scores = {update: dict.fromkeys(own, 0.0) for update, own in selection["scores"].items()}
        write_json(path, selection | {"scores": scores})


def test_numbers_come_from_answers_verdicts_and_logs_and_from_nothing_computed_before(results):
    spoil(results)
    assert trace_all(Witness(Archive(results, ROOT)))[1]


def test_what_is_named_behind_one_number_is_enough_to_compute_it(grown):
    """Scores that are not behind a number are read, not computed: with all of them wrong, only the named ones help."""
    spoil(grown)
    witness, seen = Witness(Archive(grown, ROOT)), []
    for cell in numbers(grown):
        evidence = witness.evidence(cell.table, cell.row, cell.column)
        kind = (cell.table, evidence.how, len(evidence.answers), len(evidence.lines))
        if kind not in seen and cell.column not in ("update", "chosen"):
            seen.append(kind)
            assert compare(cell.text, recompute(witness, cell, evidence)) == "equal", cell
    assert len(seen) > 30


def test_another_answer_makes_the_numbers_of_its_system_wrong_and_no_others(results, capsys):
    path = results / "generations/sft/generations.jsonl"
    rows = [row for _, row in read_jsonl(path)]
    rows[0] |= {
        "response": next(read_jsonl(results / f"data/evaluation/{rows[0]['dataset']}/examples.jsonl"))[1]["output"][0]
    }
    write_jsonl(path, rows)
    cell = f"dataset={rows[0]['dataset']},decoding={rows[0]['decoding']}"
    code, said = trace(results, f"tables/scores.csv:system=sft,{cell}:mean", capsys)
    assert code == 1 and "different (scored again from the answers)" in said
    assert trace(results, f"tables/scores.csv:system=kd,{cell}:mean", capsys)[0] == 0


def places(said: str) -> list[str]:
    """Returns what stands in the first column of a chain."""
    return [match[1] for line in said.splitlines() if (match := re.match(r"  (\S+/.+?)  ", line))]


def test_a_number_is_followed_to_the_data_and_the_bases(micro_study, capsys):
    place = "tables/scores.csv:system=bd_released,dataset=dolly,decoding=top_p_1.0:mean"
    code, said = trace(micro_study.results, place, capsys)
    assert code == 0 and ": equal (scored again from the answers)" in said
    found = places(said)
    files = [name.partition(":")[0] for name in found]
    assert all((micro_study.results / name).exists() for name in files)
    assert files[:5] == [
        "scores/bd_released/seeds.jsonl",
        "generations/bd_released/generations.jsonl",
        "data/evaluation/dolly/examples.jsonl",
        "data/split/test.jsonl",
        "data/sources/instructions/examples.jsonl",
    ]
    artifacts = Archive(micro_study.results).artifacts
    expected = {"models/bd_released", "training/bd_released", "validation/bd_released", "models/phase1", "shards/0"}
    expected |= {"models/teacher", "training/teacher", "bases/teacher", "bases/student", "data/sources/plain_text"}
    assert expected <= {*files} and {"samples", "candidates/0", "tokenizer"} <= {*said.split()}
    assert f"[{artifacts['bases/teacher'].digest[:12]}]" in said
    assert "chosen by dev_rouge_l" in said and "8 samples a prompt" not in said and "2 samples a prompt" in said
    lines = [row for _, row in read_jsonl(micro_study.results / files[1])]
    first, last = map(int, found[1].rpartition(":")[2].split("-"))
    wanted = [row["dataset"] == "dolly" and row["decoding"] == "top_p_1.0" for row in lines]
    assert [first <= number <= last for number in range(1, len(lines) + 1)] == wanted


def test_the_lines_of_each_prompt_hold_that_prompt(micro_study, capsys):
    place = "tables/scores.csv:system=sft,dataset=dolly,decoding=greedy:mean"
    _, said = trace(micro_study.results, place, capsys, "--rows")
    rows = said[said.index("prompts, with the lines") :].splitlines()[1:]
    assert len(rows) == 30
    for line in rows:
        id_, *where = line.split("  ")
        assert len(where) == 4
        for path, _, lines in (place.partition(":") for place in where):
            text = (micro_study.results / path).read_text().splitlines()[int(lines) - 1]
            assert json.loads(text)["id"] == id_


@pytest.mark.parametrize(
    ("place", "behind"),
    [
        ("tables/quality.csv:2:entropy", "generations/teacher/entropy.json"),
        ("tables/hours.csv:cost=teacher samples:hours", "shards/1.prov.json"),
        ("tables/hours.csv:cost=training,system=kd:hours", "training/kd/metrics.jsonl"),
        ("tables/sorted_mass.csv:k=7:mass", "candidates/1/statistics.json"),
        ("tables/learning.csv:run=bd_sampled,quantity=objective,at=last:lo", "training/bd_sampled/dev_items.jsonl:"),
        ("tables/win_rates.csv:system=bd_sampled,opponent=kd:lo", "verdicts/bd_sampled-kd/verdicts.jsonl"),
        ("tables/win_rates.csv:system=bd_sampled,opponent=kd:lo", "generations/kd/generations.jsonl:"),
        ("tables/selection.csv:run=kd,update=2:dev_score", "validation/kd/generations.jsonl:1-16"),
        ("tables/selection.csv:run=kd,update=2:dev_loss", "training/kd/dev.jsonl:2"),
        ("tables/training.csv:run=kd:selected_update", "models/kd/selection.json"),
        ("tables/comparisons.csv:2:tests", "tables.prov.json"),
    ],
)
def test_each_kind_of_number_names_its_file(micro_study, capsys, place, behind):
    code, said = trace(micro_study.results, place, capsys)
    assert code == 0 and f"  {behind}" in said


def test_a_value_with_commas_names_a_row(micro_study, capsys):
    claim = next(
        row["claim"] for _, row in read_lines(Archive(micro_study.results), "claims") if "included" in row["claim"]
    )
    assert ", " in claim
    code, said = trace(micro_study.results, f"tables/claims.csv:claim={claim},system=bd_sampled:figure", capsys)
    assert code == 0 and "candidates/1.prov.json" in said and "training/minillm/metrics.jsonl" in said


def test_a_cell_of_the_page_is_the_numbers_that_it_shows(micro_study, capsys):
    page = (micro_study.results / "tables.md").read_text().splitlines()
    line = next(index for index, text in enumerate(page, 1) if text.startswith("| sft "))
    code, said = trace(micro_study.results, f"tables.md:{line}:dolly", capsys)
    assert code == 0
    shown = re.findall(
        r"^tables/scores.csv:\d+:(\w+)  system=sft, dataset=dolly, decoding=top_p_1.0$", said, re.MULTILINE
    )
    assert shown == ["mean", "std", "seeds"]
    assert said.count("computed from") == 1  # what is behind all three is said once
    assert trace(micro_study.results, f"tables.md:{line}:2", capsys)[1] == said


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("tables/scores.csv:mean", "expected tables/TABLE.csv:KEY=VALUE"),
        ("tables/nothing.csv:2:mean", "expected tables/TABLE.csv:KEY=VALUE"),
        ("tables/scores.csv:2:colour", "expected one of the columns system, student"),
        ("tables/scores.csv:system=sft:mean", "expected one row of system=sft, found lines 20, 21"),
        ("tables/scores.csv:system=none:mean", "expected one row of system=none, found none"),
        ("tables.md:1:dolly", "expected the line of a table's row"),
        ("tables.md:16:nothing", "expected a column of system, dolly"),
        ("tables.md:16:system", "expected a number of scores, score_seeds, found "),
        ("README.md", "expected a file of a job"),
        ("../elsewhere", "expected a path below"),
    ],
)
def test_a_place_that_is_none_is_one_line(micro_study, capsys, place, problem):
    assert main(["trace", place, "--results", str(micro_study.results)]) == 2
    error = capsys.readouterr().err
    assert problem in error and error.count("\n") == 1


def test_a_path_or_all_is_asked_for(micro_study, capsys):
    for options in ([], ["models/kd", "--all"]):
        assert main(["trace", *options, "--results", str(micro_study.results)]) == 2
        assert "expected a path or --all" in capsys.readouterr().err


def test_an_artifact_is_followed_to_its_sources(micro_study, capsys):
    code, said = trace(micro_study.results, "models/seqkd/config.json", capsys)
    assert code == 0
    found = places(said)
    assert found[0] == "models/seqkd" and {"training/seqkd", "shards/0", "models/teacher", "data/split"} <= {*found}
    assert "generations/seqkd" not in found
    assert "samples.jsonl:1-80: to train on" in said and "samples.jsonl:81-96: held out" in said


def test_a_missing_file_behind_a_number_is_named(results, capsys):
    (results / "generations/kd/entropy.json").unlink()
    place = "tables/quality.csv:system=kd,dataset=dolly,decoding=top_p_1.0:entropy"
    assert main(["trace", place, "--results", str(results)]) == 2
    assert "generations/kd/entropy.json: expected a file, found none" in capsys.readouterr().err


def test_a_damaged_row_is_one_line(results, capsys):
    path = results / "verdicts/bd_sampled-kd/verdicts.jsonl"
    rows = [row for _, row in read_jsonl(path)]
    del rows[0]["winner"]
    write_jsonl(path, rows)
    assert main(["trace", "--all", "--results", str(results)]) == 2
    error = capsys.readouterr().err
    assert "found KeyError: 'winner'; run verify" in error and error.count("\n") == 1


def test_numbers_of_another_processor_differ_by_rounding_alone():
    assert compare("0.1", "0.1") == "equal"
    assert compare("0.3", repr(0.1 + 0.2)) == "equal up to rounding"
    assert compare("0.3", "0.3000001") == compare("yes", "no") == compare("", "0.0") == "different"
    assert number("n/a") is None and number("-1e-05") == -1e-05
