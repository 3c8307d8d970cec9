"""A study that keeps the selected checkpoints alone has the numbers and the seals of one that keeps all."""

import shutil

import pytest

from distill.__main__ import main
from distill.files import PRUNED
from workplace import untimed_tables


@pytest.mark.slow
def test_a_pruned_study_is_as_whole_as_another(micro_study, workplace, monkeypatch):
    workplace.configure({"keep_checkpoints": "selected"})
    for name in ("teacher", "sft"):
        shutil.rmtree(workplace.results / "models" / name)
    workplace.run()
    left = {path.parent.relative_to(workplace.results / "training") for path in workplace.results.rglob(PRUNED)}
    assert {path.parts[0] for path in left} <= {"teacher", "sft"} and left
    assert untimed_tables(workplace.results) == untimed_tables(micro_study.results)
    monkeypatch.chdir(workplace.folder)
    assert main(["verify", "--configfile", "tests/fixtures/micro.yaml"]) == 0
    workplace.configure({"generation.dev_rows": 12})
    (run,) = {path.parts[0] for path in left} & {"sft"} or {"teacher"}
    result = workplace.snakemake(f"results/validation/{run}/COMPLETE")
    assert result.returncode != 0 and "found it pruned" in result.stdout.splitlines()[-1]
    (workplace.results / "training" / run / "COMPLETE").unlink()
    workplace.run(f"results/validation/{run}/COMPLETE")
