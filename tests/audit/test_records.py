"""Everything under results has a record, and a record tells where all came from and nothing private."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from distill.audit.archive import Archive
from distill.audit.verify import UNOWNED
from distill.config.base import Section
from distill.config.given_models import HubModel
from distill.config.sources import HubSource
from distill.errors import DataError
from distill.files import ROOT_MANIFEST, digest_file, digest_value, read_json
from distill.provenance.hub import hub_note
from distill.provenance.record import RECORD, record_path
from distill.provenance.stage import Job, run_stage
from distill.study.stages import STAGES
from workplace import CONFIG, ROOT, Workplace

RULE_FILES = [ROOT / "Snakefile", *sorted((ROOT / "workflow/rules").glob("*.smk"))]
RULES = "".join(path.read_text() for path in RULE_FILES)
_RULE = re.compile(r"^rule (\w+):\n(.*?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL)
_OUTPUT = re.compile(r"^    output:\n((?:        .*\n)+)", re.MULTILINE)


def without_record(rules: str) -> list[str]:
    """Returns the rules of a rule file that write anything but one artifact, `done`, and its `record`."""
    found = []
    for name, body in _RULE.findall(rules):
        for block in _OUTPUT.findall(body):
            call = ast.parse(f"dict(\n{block})", mode="eval").body
            values = {keyword.arg: keyword.value for keyword in call.keywords}
            marked = {
                name: value.args[0] for name, value in values.items() if isinstance(value, ast.Call)
            }  # report(...)
            outputs = {name: ast.unparse(value).strip("f'") for name, value in (values | marked).items()}
            artifact = outputs.get("done", "").removesuffix("/COMPLETE")
            if call.args or outputs != {"done": outputs.get("done"), "record": artifact + RECORD}:
                found.append(name)
    return found


def test_every_rule_writes_a_record_beside_its_artifact():
    assert without_record(RULES) == []
    rules, made = _RULE.findall(RULES), [name for name, body in _RULE.findall(RULES) if _OUTPUT.search(body)]
    assert len(rules) == len(re.findall(r"^\s*(?:use )?(?:rule|checkpoint)\b", RULES, re.MULTILINE))
    assert sorted(made) == sorted(path.stem for path in (ROOT / "workflow/scripts").glob("*.py"))


@pytest.mark.parametrize(
    "output",
    [
        'done=f"{RESULTS}/x/COMPLETE",',
        'done=f"{RESULTS}/x/COMPLETE",\n        record=f"{RESULTS}/y.prov.json",',
        'done=f"{RESULTS}/x/COMPLETE",\n        record=f"{RESULTS}/x.prov.json",\n        more=f"{RESULTS}/z.csv",',
        'f"{RESULTS}/x.csv",',
    ],
)
def test_a_rule_without_a_record_is_found(output):
    rule = f'rule make_x:\n    """Make x."""\n    output:\n        {output}\n    threads: 1\n'
    assert without_record(RULES + "\n" + rule) == ["make_x"]


def test_every_rule_has_a_row_in_the_table_of_stages_and_takes_its_facts_from_it():
    rules = {name: body for name, body in _RULE.findall(RULES) if _OUTPUT.search(body)}
    assert rules.keys() == STAGES.keys()
    facts = ("conda_file", "launcher", "key", "resources_of", "STAGES")
    for name, body in rules.items():
        found = re.findall(rf'({"|".join(facts)})[(\[]"(\w+)"', body)
        assert sorted(found) == sorted((fact, name) for fact in facts)


# A run.


def verify(place: Workplace, *arguments: str) -> subprocess.CompletedProcess:
    """Runs `verify` as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "distill", "verify", *arguments],
        cwd=place.folder,
        env=os.environ | {"PYTHONPATH": "workflow"},
        capture_output=True,
        text=True,
    )


def last_line(output: str) -> str:
    return output.rstrip().splitlines()[-1]


def test_every_file_of_a_run_is_an_artifacts_or_a_record_or_a_log(micro_study):
    archive = Archive(micro_study.results, micro_study.folder)
    assert archive.broken == {} and len(archive.artifacts) > 50
    owned = {name for name in archive.files() if archive.owner(name)}
    assert {name.split("/")[0] for name in set(archive.files()) - owned} <= set(UNOWNED)
    assert set(read_json(micro_study.results / ROOT_MANIFEST)) == set(archive.files())
    for artifact in archive.artifacts.values():
        assert all(dependency.artifact for dependency in archive.inputs(artifact)), artifact.name
        assert artifact.commit and artifact.clean and artifact.resumed is False and artifact.usage["cpu_seconds"] > 0


def test_a_run_ends_with_the_digest_of_its_root_manifest_and_verifies(micro_study):
    digest = digest_file(micro_study.results / ROOT_MANIFEST)
    log = micro_study.folder.with_name("micro.log").read_text()
    assert last_line(log) == f"results/{ROOT_MANIFEST}: sha256:{digest}"
    result = verify(micro_study, "--configfile", CONFIG, "--expect", digest)
    assert (result.returncode, result.stderr) == (0, "") and result.stdout.endswith("; no findings\n"), result.stdout


def test_a_fresh_clone_with_only_the_results_copied_in_verifies(micro_study, tmp_path):
    clone = Workplace(tmp_path / "clone")
    subprocess.run(["git", "clone", "-q", micro_study.folder, clone.folder], check=True)
    state = shutil.ignore_patterns(".state")
    shutil.copytree(micro_study.results, clone.results, dirs_exist_ok=True, ignore=state)
    result = verify(clone, "--configfile", CONFIG, "--expect", digest_file(micro_study.results / ROOT_MANIFEST))
    assert (result.returncode, result.stderr) == (0, ""), result.stdout


def test_the_manifest_follows_a_run_and_nothing_else(workplace):
    path = workplace.results / ROOT_MANIFEST
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    for arguments in (["--dry-run"], ["--dry-run", "--forcerun", "render_tables"], []):
        workplace.run(*arguments)
        assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    output = workplace.run("--forcerun", "render_tables")
    assert path.read_bytes() != before[0] and last_line(output).endswith(digest_file(path))
    assert verify(workplace, "--configfile", CONFIG).stdout.endswith("; no findings\n")


def test_a_failed_run_leaves_the_manifest_of_the_last_good_one(workplace):
    before = (workplace.results / ROOT_MANIFEST).read_bytes()
    (workplace.folder / "workflow/scripts/render_tables.py").write_text("raise SystemExit(1)\n")
    assert workplace.snakemake().returncode != 0
    assert (workplace.results / ROOT_MANIFEST).read_bytes() == before
    found = verify(workplace, "--configfile", CONFIG)
    assert found.returncode == 1 and "results/tables.md: missing: " in found.stdout


# A stage.


class Settings(Section):
    """Slice of the test's stage."""

    path: str = ""


def _write(job) -> None:
    (job.output / "rows.jsonl").write_text("{}\n")


def record(tmp_path: Path, work=_write, *arguments: str, **options) -> dict:
    """Runs a stage; returns the predicate of its record."""
    output = tmp_path / "results" / "thing" / "COMPLETE"
    parts = [*arguments, "--output", str(output), "--state", str(tmp_path / "results" / ".state")]
    sys.argv = ["workflow/scripts/make_thing.py", *parts]
    run_stage(work, "A stage.", arguments=parts, **{"inputs": ("source",), "settings": Settings, **options})
    return read_json(record_path(output.parent))["predicate"]


@pytest.fixture(autouse=True)
def own_arguments(monkeypatch):
    monkeypatch.setattr(sys, "argv", [])


def test_gpus_are_named_where_torch_sees_some(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert "gpus" not in record(tmp_path)["runDetails"]["host"]
    seen = ["NVIDIA One", "NVIDIA Two"]
    for available, expected in ((False, None), (True, seen)):
        cuda = SimpleNamespace(
            is_available=lambda available=available: available,
            device_count=lambda: 2,
            get_device_name=seen.__getitem__,
            get_device_properties=lambda index: SimpleNamespace(uuid=f"0000-{index}"),
        )
        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
        settings = json.dumps({"path": str(available)})  # another job each time, or the first one's folder is kept
        host = record(tmp_path, _write, "--settings", settings)["runDetails"]["host"]
        assert host.get("gpus") == expected
        assert host.get("devices") == (["GPU-0000-0", "GPU-0000-1"] if available else None)


def test_a_record_tells_which_devices_and_which_slurm_job_it_had(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    given = {"CUDA_VISIBLE_DEVICES": "1,3", "SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "2", "SLURMD_NODENAME": "node2"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    host = record(tmp_path)["runDetails"]["host"]
    assert host["devices"] == ["1", "3"]
    assert host["slurm"] == {"job": "7", "restarts": "2", "node": "node2"}


def test_work_taken_up_from_an_earlier_try_is_told(tmp_path):
    def work(job: Job) -> None:
        state = job.state(work=1)
        if not any(state.iterdir()):
            (state / "block.jsonl").write_text("{}")
            raise DataError("killed: expected x, found y; rerun")
        _write(job)

    with pytest.raises(SystemExit):
        record(tmp_path, work)
    details = record(tmp_path, work)["runDetails"]
    assert details["resumed"] is True and details["tries"] == 2
    details = record(tmp_path, _write, "--settings", '{"path": "other"}')["runDetails"]
    assert details["resumed"] is False and details["tries"] == 1


def test_no_absolute_path_enters_a_record(tmp_path):
    source = tmp_path / "private" / "rows.jsonl"
    source.parent.mkdir()
    source.write_text("{}")
    settings = ["--settings", json.dumps({"path": str(source)})]
    found = record(tmp_path, _write, "--source", str(source), *settings)
    assert str(tmp_path) not in json.dumps(found)
    build = found["buildDefinition"]
    assert build["externalParameters"]["settings"] == {"path": "rows.jsonl"}
    assert build["resolvedDependencies"][0]["uri"] == "rows.jsonl"
    assert '{"path":"rows.jsonl"}' in build["internalParameters"]["command"]


def test_settings_without_a_private_path_are_recorded_as_they_were_given(tmp_path):
    given = json.dumps({"path": "${MY_DATA}/rows.jsonl"})
    found = record(tmp_path, _write, "--settings", given)["buildDefinition"]
    assert given in found["internalParameters"]["command"]
    assert found["externalParameters"]["settings"] == json.loads(given)


def test_a_folder_that_nobody_sealed_is_recorded_file_by_file(tmp_path):
    model = tmp_path / "model"
    for name in ("config.json", "deep/model.safetensors"):
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_text(name)
    found = record(tmp_path, _write, "--source", str(model), external=("source",))
    (entry,) = found["buildDefinition"]["resolvedDependencies"]
    files = {name: digest_file(model / name) for name in ("config.json", "deep/model.safetensors")}
    assert entry["annotations"] == {"files": files} and entry["digest"] == {"sha256": digest_value(files)}


def test_hub_sources_are_noted_with_their_revision_and_files(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    revision = "0123456789abcdef0123456789abcdef01234567"
    source = {"repository": "example/thing", "revision": revision}
    found = {"repository": "example/thing", "revision": revision}
    for kind, section in (("model", HubModel(**source)), ("dataset", HubSource(**source))):
        assert hub_note(kind, section) == {"hub": {"kind": kind, **found}}
        snapshot = tmp_path / f"{kind}s--example--thing" / "snapshots" / revision
        (snapshot / "data").mkdir(parents=True)
        (snapshot / "data" / "train.jsonl").write_text("{}")
        files = {"data/train.jsonl": digest_file(snapshot / "data" / "train.jsonl")}
        assert hub_note(kind, section) == {"hub": {"kind": kind, **found, "files": files}}
    assert hub_note("model", Settings()) == {}
