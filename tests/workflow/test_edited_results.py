"""A number changed by hand is named and refused, and never reaches a table."""

import shutil

import pytest


@pytest.mark.parametrize(
    ("name", "seal"),
    [
        ("tables/scores.csv", "tables/COMPLETE"),
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
    path = workplace.results / "tables" / "scores.csv"
    before, page = path.read_bytes(), (workplace.results / "tables.md").read_bytes()
    path.write_bytes(before.replace(b"1", b"9"))
    (workplace.results / "tables" / "COMPLETE").unlink()
    workplace.run()
    assert path.read_bytes() == before and (workplace.results / "tables.md").read_bytes() == page


def test_a_file_taken_away_is_named(workplace):
    (workplace.results / "tables" / "scores.csv").unlink()
    assert "error: results/tables/scores.csv: expected the bytes that its stage wrote, found none" in (
        workplace.snakemake("--dry-run").stdout
    )


def test_what_a_kill_left_is_no_result_and_goes_with_its_stage(workplace):
    scores, dead = workplace.results / "scores" / "sft", 2**22 + 1  # no process has an id above the kernel's limit
    left = [scores.with_name(f"sft.{kind}-{dead}") for kind in ("old", "tmp")]
    for folder in left:
        shutil.copytree(scores, folder)
        (folder / "seeds.jsonl").unlink()
    assert "Nothing to be done" in workplace.run("--dry-run")
    (scores / "COMPLETE").unlink()
    workplace.run("results/scores/sft/COMPLETE")
    assert not any(folder.exists() for folder in left) and (scores / "seeds.jsonl").is_file()


def test_only_the_main_process_looks_for_edits(workplace):
    (workplace.results / "tables" / "scores.csv").unlink()
    (workplace.results / "scores" / "sft" / "COMPLETE").unlink()
    job = ("--mode", "remote", "--no-hooks", "--target-jobs", "score_responses:system=sft")
    assert "error:" not in workplace.run("results/scores/sft/COMPLETE", *job)
