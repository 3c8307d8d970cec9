"""A study that keeps the selected checkpoints alone has the models and the seals of one that keeps all."""

import shutil

import pytest

from distill.__main__ import main
from distill.files import MANIFEST, PRUNED, read_json
from workplace import CONFIG


@pytest.mark.slow
def test_a_pruned_study_is_as_whole_as_another(micro_study, workplace, monkeypatch):
    results = workplace.results
    workplace.configure({"keep_checkpoints": "selected"})
    models = ("sft", "kd", "seqkd", "minillm", "bd_sampled", "bd_released")  # which no other run starts from
    for name in models:
        shutil.rmtree(results / "models" / name)
    workplace.run(*(f"results/models/{name}/{MANIFEST}" for name in models))
    pruned = {path.parent.relative_to(results) for path in results.rglob(PRUNED)}
    for name in models:
        path = f"models/{name}/{MANIFEST}"
        assert (results / path).read_bytes() == (micro_study.results / path).read_bytes()
        update = read_json(results / f"models/{name}/selection.json")["update"]
        *others, last = sorted((results / f"training/{name}/checkpoints").iterdir())
        gone = {path for path in others if path.name != f"step-{update:06d}"}
        assert {path for path in (*others, last) if path.relative_to(results) in pruned} == gone
    workplace.configure({"keep_checkpoints": None})  # the report holds the config that it was made with
    monkeypatch.chdir(workplace.folder)
    assert main(["manifest"]) == 0 and main(["verify", "--configfile", CONFIG]) == 0

    name = min(path.parts[1] for path in pruned if (results / "validation" / path.parts[1]).exists())
    workplace.configure({"generation.dev_rows": 12})
    target = f"results/validation/{name}/{MANIFEST}"
    result = workplace.snakemake(target)
    assert result.returncode != 0 and "found it pruned" in result.stdout.strip().splitlines()[-1]
    (results / "training" / name / MANIFEST).unlink()
    workplace.run(target)
