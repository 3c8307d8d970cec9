"""The exported crate is valid, holds every file of the results, is read by others, and is equal for equal results."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from audit_environment import TERMS, audit, evaluate, validate
from distill.__main__ import main
from distill.audit.archive import Archive
from distill.audit.manifest import write_manifest
from distill.files import ROOT_MANIFEST, digest_file, read_json, write_json
from distill.study.load import load_study
from shared_data import shared_data
from small_archive import make_small_archive, small_config
from workplace import ROOT

CONFIG = small_config() | {"title": "A small study"}
READ = """
import json, sys
from rocrate.rocrate import ROCrate
crate = ROCrate(sys.argv[1])
print(json.dumps({
    "main": crate.mainEntity.id,
    "entities": {entity.id: entity.get("sha256") for entity in crate.data_entities},
    "jobs": {job.id: [made.id for made in job["result"]] for job in crate.get_by_type("CreateAction")},
}))
"""
VALID_LIST = """
import json, sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
text = open(sys.argv[1]).read()
print(json.dumps(str(JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) or "valid")))
"""


def export(results: Path, output: Path) -> subprocess.CompletedProcess:
    return audit("export", "--results", results, "--output", output)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """The small results, one of them from outside files; a test that changes them takes a copy."""
    results = tmp_path_factory.mktemp("study") / "results"
    make_small_archive(results, CONFIG)
    record = results / "bases" / "student.prov.json"
    statement = read_json(record)
    outside = {"name": "file", "uri": "student-weights", "digest": {"sha256": "ab" * 32}}
    statement["predicate"]["buildDefinition"]["resolvedDependencies"].append(outside)
    hub = {"kind": "model", "repository": "some/student", "revision": "c" * 40}
    statement["predicate"]["runDetails"]["notes"] = {"hub": hub}
    write_json(record, statement)
    write_manifest(results)
    return results


@pytest.fixture(scope="module")
def crate(study) -> Path:
    output = study.with_name("crate")
    result = export(study, output)
    assert result.returncode == 0, result.stderr
    return output


def graph_of(crate: Path) -> dict[str, dict]:
    return {entity["@id"]: entity for entity in read_json(crate / "ro-crate-metadata.json")["@graph"]}


def ids(value) -> list[str]:
    return [entry["@id"] for entry in (value if isinstance(value, list) else [value])]


def test_the_crate_passes_every_required_check_of_the_profile(crate, tmp_path):
    report = validate(crate, tmp_path)
    assert report["issues"] == [] and report["passed"] is True
    assert report["statistics"]["total_passed_checks"] == report["statistics"]["total_checks"] > 80


@pytest.mark.slow
def test_a_damaged_crate_does_not_pass(crate, tmp_path):
    metadata = read_json(crate / "ro-crate-metadata.json")
    del next(entity for entity in metadata["@graph"] if entity["@id"] == "#step/train_run")["workExample"]
    damaged = Path(shutil.copytree(crate, tmp_path / "damaged"))
    write_json(damaged / "ro-crate-metadata.json", metadata)
    assert [issue["check"]["name"] for issue in validate(damaged, tmp_path)["issues"]] == ["HowToStep workExample"]


def test_the_crate_uses_no_term_but_those_of_the_fixture_and_they_mean_what_the_standards_say(crate):
    terms = read_json(TERMS)
    own = {"buildInstructions"}
    known = own.union(*terms.values())
    for entity in graph_of(crate).values():
        kinds = entity["@type"] if isinstance(entity["@type"], list) else [entity["@type"]]
        assert {*kinds, *(key for key in entity if not key.startswith("@"))} <= known
    for url, name in zip(terms, ("ro-crate-1.1", "workflow-run"), strict=True):
        whole = read_json(shared_data(f"contexts/{name}.jsonld"))["@context"]
        assert terms[url].items() <= whole.items()


def test_another_reader_finds_every_artifact_and_every_file_with_its_digest(study, crate):
    archive = Archive(study)
    found = evaluate(READ, crate)
    assert found["main"] == "Snakefile"
    for name in (*archive.files(), ROOT_MANIFEST):
        assert found["entities"][f"results/{name}"] == digest_file(crate / "results" / name)
    for name, artifact in archive.artifacts.items():
        entity = f"results/{name}" + "/" * artifact.path.is_dir()
        assert entity in found["entities"]
        assert found["jobs"][f"#job/{name}"] == [entity, f"results/{artifact.record}"]
    described = {name for name in found["entities"] if not name.endswith("/")}
    on_disk = {str(path.relative_to(crate)) for path in crate.rglob("*") if path.is_file()}
    assert on_disk == described | {"ro-crate-metadata.json"}
    assert not (crate / "results" / ".state").exists()


def test_a_job_names_its_tool_inputs_parameters_times_and_resources(study, crate):
    graph, artifact = graph_of(crate), Archive(study).artifacts["training/bd_sampled"]
    job = graph["#job/training/bd_sampled"]
    assert job["instrument"] == {"@id": "workflow/scripts/train_run.py"}
    assert (job["startTime"], job["endTime"]) == (artifact.started, artifact.finished)
    assert job["description"].startswith("python workflow/scripts/train_run.py --settings ")
    given = {graph[id_]["name"]: graph[id_].get("value") for id_ in ids(job["object"])}
    assert {"results/samples", "results/candidates/1", "results/models/phase1"} <= set(given)
    assert (given["settings.seed"], given["code"]) == (artifact.settings["seed"], artifact.code)
    assert json.loads(given["settings.run"]) == artifact.settings["run"]
    used = {graph[id_]["name"]: graph[id_]["value"] for id_ in ids(job["resourceUsage"])}
    assert used == {name: str(value) for name, value in artifact.usage.items()}
    assert ids(job["subjectOf"])[1] == "results/logs/train_run/bd_sampled.log"
    assert graph["#step/train_run"]["buildInstructions"] == {"@id": "envs/cpu.lock"}


def test_parameters_are_connected_from_the_config_through_the_steps_to_the_tables(study, crate):
    graph = graph_of(crate)
    links = {
        (entity["sourceParameter"]["@id"], entity["targetParameter"]["@id"])
        for entity in graph.values()
        if entity["@type"] == "ParameterConnection"
    }
    assert ("#workflow/inputs/config", "#train_run/parameters/settings.seed") in links
    assert ("#build_candidates/outputs/artifact", "#train_run/inputs/candidates") in links
    assert ("#render_tables/outputs/artifact", "#workflow/outputs/tables.md") in links
    assert graph["#workflow/inputs/config"]["workExample"] == {"@id": "study.yaml"}
    assert load_study(yaml.safe_load((crate / "study.yaml").read_text())) == load_study(CONFIG)
    assert set(ids(graph["#run"]["result"])) == {"results/tables.md", "results/report.html"}
    assert graph["./"]["name"] == "A small study"
    assert graph["./"]["identifier"] == f"sha256:{digest_file(study / ROOT_MANIFEST)}"


def test_equal_results_give_equal_bytes_wherever_they_lie(study, crate, tmp_path):
    moved = Path(shutil.copytree(study, tmp_path / "moved"))
    for folder, name in ((study, "first.zip"), (moved, "second.zip")):
        assert export(folder, tmp_path / name).returncode == 0
    assert digest_file(tmp_path / "first.zip") == digest_file(tmp_path / "second.zip")
    with zipfile.ZipFile(tmp_path / "first.zip") as packed:
        assert packed.read("ro-crate-metadata.json") == (crate / "ro-crate-metadata.json").read_bytes()
        assert set(packed.namelist()) == {str(path.relative_to(crate)) for path in crate.rglob("*") if path.is_file()}


def test_there_is_no_second_copy_of_the_results_and_a_rerun_does_not_reach_into_the_crate(study, crate):
    archive = Archive(study)
    for name in archive.files():
        linked = name.split("/")[0] not in ("README.md", "logs", "benchmarks")  # which are written in place
        assert (study / name).samefile(crate / "results" / name) == linked


def test_the_crate_verifies_by_itself_with_the_workflow_and_config_that_it_holds(crate):
    command = [sys.executable, "-m", "distill", "verify", "--configfile", "study.yaml"]
    environment = os.environ | {"PYTHONPATH": "workflow", "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run(command, cwd=crate, env=environment, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout.count("\n")) == (0, 1), result.stdout + result.stderr


def test_the_list_of_packages_is_the_lock_and_fits_its_schema(crate):
    path = crate / "environments" / "cpu.cdx.json"
    assert evaluate(VALID_LIST, path) == "valid"
    lines = (crate / "envs/cpu.lock").read_text().splitlines()
    pins = [line.split()[0].split("==") for line in lines if not line.startswith("#")]
    assert {(entry["name"], entry["version"]) for entry in read_json(path)["components"]} == set(map(tuple, pins))


def test_an_input_from_outside_is_named_with_its_digest_or_revision(crate):
    graph = graph_of(crate)
    objects = {graph[id_]["name"]: graph[id_] for id_ in ids(graph["#job/bases/student"]["object"])}
    assert objects["student-weights"]["value"] == f"sha256:{'ab' * 32}"
    assert objects["model some/student"]["@id"] == f"https://huggingface.co/some/student/tree/{'c' * 40}"


def test_a_study_without_report_and_a_method_of_ones_own_are_exported_too(study, tmp_path):
    results = Path(shutil.copytree(study, tmp_path / "results"))
    statement = read_json(results / "report.html.prov.json")
    config = statement["predicate"]["buildDefinition"]["externalParameters"]["settings"]["config"]
    config["plugins"] = ["tests/helpers/tiny_models.py"]
    write_json(results / "report.html.prov.json", statement)
    write_manifest(results)
    assert export(results, tmp_path / "own").returncode == 0
    assert (tmp_path / "own/tests/helpers/tiny_models.py").read_bytes() == (
        ROOT / "tests/helpers/tiny_models.py"
    ).read_bytes()
    for name in ("report.html", "report.html.prov.json"):
        (results / name).unlink()
    write_manifest(results)
    assert export(results, tmp_path / "partial").returncode == 0
    assert not (tmp_path / "partial/study.yaml").exists()
    assert "#workflow/inputs/config" not in graph_of(tmp_path / "partial")


def test_results_that_do_not_verify_and_a_place_that_is_taken_are_refused(study, tmp_path):
    results = Path(shutil.copytree(study, tmp_path / "results"))
    assert "expected a new place beside the results" in export(results, results / "crate").stderr
    (tmp_path / "taken").mkdir()
    assert "taken: expected a new place" in export(results, tmp_path / "taken").stderr
    with open(results / "tables.md", "ab") as file:
        file.write(b"!")
    refused = export(results, tmp_path / "crate")
    assert refused.returncode == 2 and f"{results / 'tables.md'}: expected " in refused.stderr
    assert not (tmp_path / "crate").exists()


def test_without_the_audit_environment_one_line_says_how_to_make_it(study, tmp_path, capsys):
    assert main(["export", "--results", str(study), "--output", str(tmp_path / "crate")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "expected the audit environment" in error and "make audit-env" in error and ".venv-audit/bin/python" in error


@pytest.mark.slow
def test_the_crate_of_the_embedded_study_is_valid_and_whole(tmp_path):
    if not (ROOT / "results" / ROOT_MANIFEST).is_file():
        pytest.skip("needs the results of the embedded study: make tables")
    result = export(ROOT / "results", tmp_path / "crate")
    assert result.returncode == 0, result.stderr
    assert validate(tmp_path / "crate", tmp_path)["issues"] == []
    found, archive = evaluate(READ, tmp_path / "crate"), Archive(ROOT / "results")
    assert {f"#job/{name}" for name in archive.artifacts} | {"#run"} == set(found["jobs"])
    assert {f"results/{name}" for name in archive.files()} <= set(found["entities"])
