"""The small study from config to tables: everything is there, recorded, repeatable, and open to parts from outside."""

import json
from base64 import b64encode
from pathlib import Path

import pytest
import yaml

from distill.files import digest_file, read_manifest
from distill.provenance.record import artifact_digest, record_path
from distill.report.csv_tables import COLUMNS
from distill.study.load import load_study
from distill.study.parts import judged_pairs
from workplace import CONFIG, Workplace, check_out, untimed_tables


@pytest.fixture(scope="module")
def study(micro_study):
    return load_study(yaml.safe_load((micro_study.folder / CONFIG).read_text()))


def artifacts(results: Path) -> list[Path]:
    """Returns every artifact: sealed folders that lie in no other, and the pages."""
    sealed = sorted(path.parent for path in results.rglob("COMPLETE"))
    return [path for path in sealed if not any(other in path.parents for other in sealed)] + [
        results / "tables.md",
        results / "report.html",
    ]


def test_every_artifact_is_there(micro_study, study):
    names = {str(path.relative_to(micro_study.results)) for path in artifacts(micro_study.results)}
    per_system = ("training", "models", "generations", "scores")
    expected = {f"{folder}/{system}" for folder in per_system for system in study.systems}
    expected |= {f"validation/{name}" for name, run in study.runs.items() if run.select == "dev_rouge_l"}
    expected |= {f"data/sources/{name}" for name in ("instructions", "plain_text", "self_inst", "vicuna")}
    expected |= {f"data/evaluation/{name}" for name in ("dev", *study.data.evaluation)}
    expected |= {f"verdicts/{first}-{second}" for first, second in judged_pairs(study)}
    expected |= {"tokenizer", "data/split", "bases/teacher", "bases/student", "samples"}
    expected |= {"vocabularies/teacher", "vocabularies/student"}
    expected |= {f"{folder}/{shard}" for folder in ("shards", "candidates") for shard in (0, 1)}
    assert names == expected | {"efficiency", "tables", "tables.md", "figures", "report.html"}


def test_every_artifact_has_a_record_that_fits_it_and_its_inputs(micro_study):
    found = artifacts(micro_study.results)
    known = {*found, *map(record_path, found)}
    for artifact in found:
        record = json.loads(record_path(artifact).read_text())
        assert record["subject"] == [{"name": artifact.name, "digest": {"sha256": artifact_digest(artifact)}}]
        build = record["predicate"]["buildDefinition"]
        assert build["internalParameters"]["git_commit"] and build["internalParameters"]["clean"] is True
        for entry in build["resolvedDependencies"]:
            dependency = micro_study.folder / entry["uri"]
            assert dependency in known and entry["digest"]["sha256"] == artifact_digest(dependency)


def test_every_sealed_folder_holds_what_its_manifest_says(micro_study):
    for manifest in micro_study.results.rglob("COMPLETE"):
        for name, entry in read_manifest(manifest.parent).items():
            assert digest_file(manifest.parent / name) == entry["sha256"], manifest.parent / name


def test_the_page_names_every_system_set_and_table(micro_study, study):
    page = (micro_study.results / "tables.md").read_text()
    assert [name for name in (*study.systems, *study.data.evaluation) if f" {name} " not in page] == []
    assert set(untimed_tables(micro_study.results)) == set(COLUMNS)
    # The small study has one training seed, one p, chi-square everywhere, no claim of other papers and no pairs.
    empty = {name for name, rows in untimed_tables(micro_study.results).items() if not rows}
    assert empty == {"training_seeds", "p_study", "chi_square", "further_claims", "ranking"}


def test_no_path_of_this_machine_reaches_an_artifact(micro_study):
    folder = str(micro_study.folder).encode()
    files = [path for path in micro_study.results.rglob("*") if path.is_file() and path.suffix != ".log"]
    kept = [path for path in files if ".state" not in path.parts and "benchmarks" not in path.parts]
    assert [path for path in kept if folder in path.read_bytes()] == []


def test_state_of_finished_stages_is_small(micro_study):
    """What a stage keeps for a resume is removed or tiny once it is done."""
    size = sum(path.stat().st_size for path in (micro_study.results / ".state").rglob("*") if path.is_file())
    assert size < 2_000_000


def test_a_second_call_does_nothing(workplace):
    assert "Nothing to be done" in workplace.run(warm=False)


def test_snakemakes_own_report_carries_the_page(workplace):
    """Whole, and so every table, figure and answer; only the page of tables stands beside it."""
    workplace.run("--report", "own.html", warm=False)
    own = (workplace.folder / "own.html").read_bytes()
    for name in ("report.html", "tables.md"):
        assert b64encode((workplace.results / name).read_bytes()) in own, name


def test_tables_made_again_are_the_same_bytes(micro_study, workplace):
    for path in (workplace.results / "tables").iterdir():
        path.unlink()
    (workplace.results / "tables.md").unlink()
    output = workplace.run()
    assert "make_tables" in output and "train_run" not in output
    for path in (micro_study.results / "tables").glob("*.csv"):
        assert (workplace.results / "tables" / path.name).read_bytes() == path.read_bytes()
    assert (workplace.results / "tables.md").read_bytes() == (micro_study.results / "tables.md").read_bytes()


def take_from(micro_study: Workplace, folder: Path) -> dict[str, str]:
    """Returns the `external` keys that supply the teacher, the phase-1 student and the samples of a finished study."""
    models = {name: micro_study.copy_artifact(f"models/{name}", folder / name) for name in ("teacher", "phase1")}
    samples = micro_study.copy_artifact("samples", folder / "samples") / "samples.jsonl"
    return {f"external.{name}": str(path) for name, path in {**models, "samples": samples}.items()}


def test_parts_from_outside_are_adopted_and_said_to_be(micro_study, workplace, tmp_path):
    workplace.configure(take_from(micro_study, tmp_path))
    names = ("models/teacher", "models/phase1", "samples", "vocabularies/student")
    output = workplace.run(*(f"results/{name}/COMPLETE" for name in names))
    assert not any(rule in output for rule in ("train_run", "sample_teacher", "make_base"))
    for name in names[:3]:
        record = json.loads(record_path(workplace.results / name).read_text())
        notes = record["predicate"]["runDetails"]["notes"]
        assert notes["external"] is True and notes["key"] == f"external.{name.removeprefix('models/')}"
    weights = [place.results / "models/teacher/model.safetensors" for place in (micro_study, workplace)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    given = tmp_path / "teacher" / "config.json"
    given.write_text(given.read_text() + "\n")
    assert workplace.planned()["models/teacher"] == "adopt_model"


@pytest.mark.slow
def test_the_same_study_twice_gives_the_same_tables(micro_study, tmp_path):
    """As a user runs it: in new processes, each with its own order of sets."""
    again = check_out(tmp_path / "again")
    again.run(warm=False)
    assert untimed_tables(again.results) == untimed_tables(micro_study.results)


@pytest.mark.slow
def test_a_study_with_parts_from_outside_makes_neither(micro_study, tmp_path):
    place = check_out(tmp_path / "adopting")
    place.configure(take_from(micro_study, tmp_path))
    place.run()
    made = {str(path.relative_to(place.results)) for path in artifacts(place.results)}
    assert not made & {"bases/teacher", "training/teacher", "training/phase1", "shards/0", "shards/1"}
    theirs, ours = untimed_tables(place.results), untimed_tables(micro_study.results)
    # The teacher, phase 1 and the samples are the same, so all that follows from them is.
    for name in ("scores", "score_seeds", "win_rates"):
        assert theirs[name] == ours[name]


@pytest.mark.slow
def test_students_of_all_architectures_join_by_one_key(workplace):
    config = yaml.safe_load((workplace.folder / CONFIG).read_text())
    runs = {name: {**config["runs"][name], "select": "last"} for name in ("seqkd", "minillm", "bd_sampled")}
    workplace.configure({"runs": runs, "models.further_architectures": ["gpt2", "opt"], "generation.seeds": [10]})
    workplace.run()
    rows = untimed_tables(workplace.results)["scores"]
    expected = {f"{student}.{run}" for student in ("gpt2", "opt") for run in ("phase1", *runs)}
    assert {row["system"] for row in rows} == expected | {"teacher", "phase1", *runs}
    for student in ("gpt2", "opt"):
        kind = json.loads((workplace.results / f"models/{student}.bd_sampled/config.json").read_text())["model_type"]
        assert kind == student


def test_a_run_starts_from_the_model_of_another_run(workplace):
    """Which is a candidate of its selection, too; on training rows at a rate of nothing it stays the best one."""
    run = {"method": "sft", "start": "sft", "select": "dev_loss"}
    training = {"steps": 1, "batch": 16, "micro_batch": 16, "learning_rate": 1e-12}
    workplace.configure({"runs.after": run | {"training": training}})
    workplace.run("results/models/after/COMPLETE")
    selection = json.loads((workplace.results / "models/after/selection.json").read_text())
    assert selection["keeps_start"] and {*selection["scores"]} == {"0", "1"}
    weights = [workplace.results / f"models/{name}/model.safetensors" for name in ("after", "sft")]
    assert digest_file(weights[0]) == digest_file(weights[1])
