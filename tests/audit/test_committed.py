"""Tables that are kept without their study: where they are from, and what differs between two of them."""

from pathlib import Path

import pytest

from distill.__main__ import main
from distill.audit.committed import TableFolder, compare_tables
from distill.audit.manifest import write_manifest
from distill.files import MANIFEST, ROOT_MANIFEST, digest_file, read_json, seal_folder, write_text
from distill.report.csv_tables import COLUMNS, write_table
from distill.report.tables import TABLES
from small_archive import record_job

SCORE = {"system": "sft", "dataset": "dolly", "decoding": "greedy", "mean": 40.0, "std": 0.5, "seeds": 5}
CLAIM = {"claim": "BD is above SFT", "system": "bd", "quantity": "Rouge-L", "figure": 2.0, "lo": 1.0, "hi": 3.0}
CLAIM |= {"verdict": "holds", "reason": "the interval lies above 0"}
SPEED = {"claim": "BD is fast", "system": "bd", "quantity": "time ratio", "figure": 5.0}
TRAINING = {"run": "sft", "updates": 4, "seconds": 10.0}


REPORT = (
    '<a href="tables/scores.csv">scores</a> <a href="tables.prov.json">record</a> <a href="report.html">this</a> '
    '<a href="#a">a</a> <a href="models/sft/">models/sft</a>'
)


def make_study(folder: Path, **rows: list[dict]) -> Path:
    """Writes tables and page as a finished study has them, with records and root manifest."""
    rows = {"scores": [SCORE], "claims": [CLAIM, SPEED], "training": [TRAINING]} | rows
    tables = folder / "tables"
    tables.mkdir(parents=True)
    for name, columns in COLUMNS.items():
        write_table(tables, name, [dict.fromkeys(columns) | row for row in rows.get(name, [])])
    seal_folder(tables)
    write_text(folder / "tables.md", "# A study\n")
    write_text(folder / "report.html", REPORT)
    jobs = [(tables, "make_tables", []), (folder / "tables.md", "render_tables", [tables])]
    for path, rule, inputs in [*jobs, (folder / "report.html", "render_report", [tables])]:
        output = f"{path}/{MANIFEST}" if path.is_dir() else str(path)
        key = {"settings": {}, "code": "0" * 16, "lock": "0" * 16}
        used = [("tables", one) for one in inputs]
        record_job(path, folder, rule, key, used, output=output, state=f"{folder}/.state")
    write_manifest(folder)
    return folder


def run(capsys, *arguments: object) -> tuple[int, str]:
    code = main([*map(str, arguments)])
    output = capsys.readouterr()
    return code, output.out + output.err


@pytest.fixture
def study(tmp_path):
    return make_study(tmp_path / "results")


@pytest.fixture
def kept(study, tmp_path, capsys):
    code, said = run(capsys, "publish-tables", study, tmp_path / "docs")
    assert code == 0, said
    return tmp_path / "docs"


def test_every_table_has_columns_that_tell_its_rows_apart():
    for table in TABLES.values():
        assert table.keys and {*table.keys, *table.times, *table.given} <= {*table.columns}


def test_kept_tables_say_which_results_they_are_of(study, kept):
    for name in COLUMNS:
        assert (kept / f"tables/{name}.csv").read_bytes() == (study / f"tables/{name}.csv").read_bytes()
    assert (kept / "tables.md").read_bytes() == (study / "tables.md").read_bytes()
    note = read_json(kept / "study.json")
    assert note["results_sha256"] == digest_file(study / ROOT_MANIFEST)
    assert note["tables_sha256"] == digest_file(study / "tables" / MANIFEST)
    host = read_json(study / "tables.prov.json")["predicate"]["runDetails"]["host"]
    (machine,) = note["machines"]
    assert f"{host['cpus']} CPUs, {host['machine']}" in machine and host["name"] not in machine.split(", ")
    assert str(study.parent) not in (kept / "study.json").read_text()


def test_a_kept_report_links_what_is_kept(study, tmp_path, capsys):
    assert run(capsys, "publish-tables", study, tmp_path / "docs", "--report")[0] == 0
    assert (tmp_path / "docs/report.html").read_text() == (
        '<a href="tables/scores.csv">scores</a> record <a href="report.html">this</a> <a href="#a">a</a> models/sft'
    )


def test_tables_kept_again_leave_no_table_that_is_gone(study, kept, capsys):
    (kept / "tables/gone.csv").write_text("a\n1\n")
    assert run(capsys, "publish-tables", study, kept)[0] == 0
    assert not (kept / "tables/gone.csv").exists()


def test_results_that_were_edited_are_not_kept(study, tmp_path, capsys):
    path = study / "tables/scores.csv"
    path.write_text(path.read_text().replace("40.0", "60.0"))
    code, said = run(capsys, "publish-tables", study, tmp_path / "docs")
    assert code == 2 and "expected results that verify, found tables/scores.csv changed" in said
    assert not (tmp_path / "docs").exists()


def test_a_study_and_its_kept_tables_are_equal_whatever_the_clock_said(study, kept, tmp_path, capsys):
    digest = digest_file(study / ROOT_MANIFEST)
    code, said = run(capsys, "diff", study, kept)
    assert (code, said.splitlines()[-1]) == (0, "the tables are equal")
    assert f"results: {digest[:19]} on both sides" in said and "machine: " in said
    times = {"claims": [CLAIM, SPEED | {"figure": 9.0}], "training": [TRAINING | {"seconds": 99.0}]}
    later = make_study(tmp_path / "later", **times)
    code, said = run(capsys, "diff", kept, later)
    assert (code, said.splitlines()[-1]) == (0, "the tables are equal")
    assert f"results: {digest[:19]} -> {digest_file(later / ROOT_MANIFEST)[:19]}" in said


def test_other_numbers_are_measured_by_their_interval(kept, tmp_path, capsys):
    scores = [SCORE | {"mean": 41.0}, SCORE | {"system": "kd"}]
    claim = CLAIM | {"figure": 2.25, "lo": -0.5, "hi": 5.0, "verdict": "cannot be told"}
    later = make_study(tmp_path / "later", scores=scores, claims=[claim])
    code, said = run(capsys, "diff", kept, later)
    assert code == 1
    lines = said.splitlines()
    assert (
        "  scores, system=sft, dataset=dolly, decoding=greedy: mean: 40.0 -> 41.0 (2 x its standard deviation)" in lines
    )
    assert "scores: 1 cell other, 1 of 1 numbers with an interval or deviation by more than it" in lines
    assert "  second side alone: system=kd, dataset=dolly, decoding=greedy" in lines
    own = lines[lines.index("claims: 2 cells other, 0 of 1 numbers with an interval or deviation by more than it") :]
    assert own[1].endswith("verdict: holds -> cannot be told")
    assert own[2].endswith("figure: 2.0 -> 2.25 (0.25 x half its interval)")


def test_the_worst_cells_are_named_and_all_on_request(kept, tmp_path, capsys):
    rows = [{"system": f"s{i}", "dataset": "d", "decoding": "g", "mean": 40.0, "std": 1.0} for i in range(9)]
    first = make_study(tmp_path / "first", scores=rows)
    assert run(capsys, "publish-tables", first, kept)[0] == 0
    moved = [row | {"mean": 40.0 + i / 10} for i, row in enumerate(rows)]
    second = make_study(tmp_path / "second", scores=moved)
    said = run(capsys, "diff", kept, second)[1].splitlines()
    assert [line.split(",")[1].strip() for line in said if line.startswith("  scores")] == [
        *("system=s8", "system=s7", "system=s6", "system=s5", "system=s4")
    ]
    assert "  and 3 more; --all names them" in said
    assert (
        len(
            [line for line in run(capsys, "diff", kept, second, "--all")[1].splitlines() if line.startswith("  scores")]
        )
        == 8
    )


def test_tables_of_an_older_form_are_compared_as_far_as_they_go():
    old = TableFolder({"scores": [{"system": "a", "dataset": "d", "decoding": "g", "mean": "1.0", "old": "x"}]}, {})
    new = TableFolder({"scores": [{"system": "a", "dataset": "d", "decoding": "g", "mean": "1.0"}], "pairs": []}, {})
    assert [*compare_tables(old, new)] == [
        ("scores", [], ["first side alone: column old"]),
        ("pairs", [], ["the table is on the second side alone"]),
    ]
