"""Records as strangers leave them: named as broken, or shown with what they hold."""

import pytest

from distill.audit.archive import Archive
from distill.audit.show import tell
from distill.files import read_json, write_json
from small_archive import make_small_archive, small_config
from workplace import ROOT

NAME = "models/sft"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd") / "results"
    make_small_archive(folder, small_config())
    return folder


@pytest.fixture
def record(results):
    """The path of a record, put back afterwards."""
    path = results / f"{NAME}.prov.json"
    whole = path.read_bytes()
    yield path
    path.write_bytes(whole)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("runDetails.resumed", -1),
        ("runDetails.metadata.startedOn", "yesterday"),
        ("runDetails.metadata.finishedOn", "2026-01-01T00:00:00"),
        ("buildDefinition.internalParameters.command", ["python"]),
        ("buildDefinition.internalParameters.clean", "no"),
        ("buildDefinition.internalParameters.git_commit", 5),
    ],
)
def test_what_an_audit_reads_of_a_record_is_checked(results, record, place, value):
    statement = read_json(record)
    *parents, last = place.split(".")
    part = statement["predicate"]
    for name in parents:
        part = part[name]
    part[last] = value
    write_json(record, statement)
    archive = Archive(results, ROOT)
    assert f"at predicate.{place}" in archive.broken[f"{NAME}.prov.json"] and NAME not in archive.artifacts


def test_settings_that_are_not_the_rules_are_shown_all_the_same(results, record):
    statement = read_json(record)
    statement["predicate"]["buildDefinition"]["externalParameters"]["settings"] = {"other": [1]}
    write_json(record, statement)
    archive = Archive(results, ROOT)
    lines = [*tell(archive, archive.artifacts[NAME], NAME)]
    assert lines[0] == f"{NAME}: made by select_checkpoint, with settings of another version"
    assert any("other" in line for line in lines)
