"""Studies whose results lie in each other's folder: each is checked, and listed, for itself."""

import os
import shutil
import subprocess
import sys

import pytest

from distill.audit.archive import Archive
from distill.audit.manifest import manifest_of
from distill.errors import ConfigError
from distill.files import ROOT_MANIFEST, STATE
from distill.provenance.edits import check_unedited
from distill.study.load import load_study
from distill.study.places import check_places
from workplace import CONFIG, Workplace


@pytest.fixture
def second(workplace) -> Workplace:
    """A workplace whose results hold those of a second study."""
    shutil.copytree(workplace.results, workplace.results / "second")
    return workplace


def verify(place: Workplace, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "distill", "verify", *arguments],
        cwd=place.folder,
        env=os.environ | {"PYTHONPATH": "workflow"},
        capture_output=True,
        text=True,
    ).stdout


def test_each_of_two_studies_verifies_and_is_up_to_date(second):
    assert verify(second, "--configfile", CONFIG).endswith("; no findings\n")
    assert verify(second, "--results", "results/second").endswith("; no findings\n")
    assert manifest_of(Archive(second.results)) == manifest_of(Archive(second.results / "second"))
    assert "Nothing to be done" in second.run("--dry-run")
    second.configure({"results": "results/second"})
    assert set(second.planned()) == {"second/report.html"}  # which shows the config, the folder's name with it


@pytest.mark.parametrize("mark", [ROOT_MANIFEST, STATE], ids=["a finished one", "one that has begun"])
def test_an_edit_is_found_in_its_own_study_alone(second, mark):
    inner = second.results / "second"
    (inner / (STATE if mark == ROOT_MANIFEST else ROOT_MANIFEST)).rename(second.folder / "aside")
    (inner / "scores" / "sft" / "seeds.jsonl").write_text("x")
    check_unedited(second.results)
    assert verify(second, "--configfile", CONFIG).endswith("; no findings\n")
    assert "results/second/scores/sft/seeds.jsonl: truncated" in verify(second, "--results", "results/second")


def test_a_second_manifest_hides_nothing_of_an_artifact(second):
    added = second.results / "scores" / "sft" / "more"
    added.mkdir()
    for folder in (added, added.parent):
        (folder / ROOT_MANIFEST).write_text("{}")
    found = verify(second, "--configfile", CONFIG)
    assert f"results/scores/sft/more/{ROOT_MANIFEST}: added" in found
    assert f"results/scores/sft/{ROOT_MANIFEST}: added" in found


@pytest.mark.parametrize("results", ["scores/sft/mine", "scores"])
def test_a_study_in_or_as_a_part_of_another_is_refused_by_key(second, results):
    with pytest.raises(ConfigError, match="^results: expected a folder"):
        check_places(load_study({"results": str(second.results / results)}))
