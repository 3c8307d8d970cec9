"""A number changed by hand is named and refused, and never reaches a table."""

import pytest


@pytest.mark.parametrize(
    ("name", "seal"),
    [
        ("tables/rouge.csv", "tables/COMPLETE"),
        ("scores/sft/seeds.jsonl", "scores/sft/COMPLETE"),
        ("generations/kd/generations.jsonl", "generations/kd/COMPLETE"),
        ("tables.md", "tables.md"),
    ],
)
def test_an_edited_result_is_refused_until_it_is_made_anew(workplace, name, seal):
    path = workplace.results / name
    before = path.read_bytes()
    path.write_bytes(before.replace(b"1", b"9"))
    for arguments in ([], ["--dry-run"]):
        result = workplace.snakemake(*arguments)
        assert result.returncode != 0
        assert result.stdout.strip().splitlines()[-1] == (
            f"error: results/{name}: expected the bytes that its stage wrote, found others; results are not edited: "
            f"delete results/{seal} and ask snakemake for it by name"
        )
    (workplace.results / seal).unlink()
    assert f"output: results/{seal}" in workplace.run("--dry-run", f"results/{seal}")


def test_the_table_made_anew_is_the_one_before(workplace):
    path = workplace.results / "tables" / "rouge.csv"
    before, page = path.read_bytes(), (workplace.results / "tables.md").read_bytes()
    path.write_bytes(before.replace(b"1", b"9"))
    (workplace.results / "tables" / "COMPLETE").unlink()
    workplace.run()
    assert path.read_bytes() == before and (workplace.results / "tables.md").read_bytes() == page


def test_a_file_taken_away_is_named(workplace):
    (workplace.results / "tables" / "rouge.csv").unlink()
    assert "error: results/tables/rouge.csv: expected the bytes that its stage wrote, found none" in (
        workplace.snakemake("--dry-run").stdout
    )
