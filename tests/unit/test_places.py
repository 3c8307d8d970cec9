"""Where a study lies: expanded, normalised, and never in a place that holds other things."""

import errno
import os
from pathlib import Path

import pytest

from distill import files
from distill.errors import ConfigError
from distill.files import link_or_copy
from distill.study import places
from distill.study.load import load_study
from distill.study.places import check_places, check_writable, results_folder


def folder_of(results: str) -> str:
    return str(results_folder(load_study({"results": results})))


def test_results_are_expanded_and_normalised(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SCRATCH", "/scratch/ä b")
    found = [folder_of(name) for name in ("~/study", "${SCRATCH}/x", "out/", "./out", "a//b/../c", "/x/'y' z")]
    assert found == [f"{tmp_path}/study", "/scratch/ä b/x", "out", "out", "a/c", "/x/'y' z"]


@pytest.mark.parametrize(
    "name", ["", " ", ".", "/", "..", "~", "/home/somebody", "x/..", "{run}/x", "${NOT_SET_HERE}/x"]
)
def test_a_place_that_holds_other_things_is_refused_by_key(name):
    with pytest.raises(ConfigError, match="results: expected "):
        folder_of(name)


def test_a_link_to_nowhere_is_named(tmp_path):
    (tmp_path / "results").symlink_to(tmp_path / "gone")
    with pytest.raises(ConfigError, match="as a link to .*gone, which is not there"):
        check_places(load_study({"results": str(tmp_path / "results")}))


def test_a_file_in_the_way_of_the_results_is_named(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(ConfigError, match="which is a file; change it"):
        check_places(load_study({"results": str(tmp_path / "taken" / "results")}))


def test_a_folder_with_files_of_others_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(
        ConfigError, match=r"^results: expected a folder of its own, found .* with notes\.txt, which no "
    ):
        check_places(load_study({"results": str(tmp_path)}))
    (tmp_path / "tables.md.prov.json").write_text("{}")  # copied results, without what only a run needs
    check_places(load_study({"results": str(tmp_path)}))


def test_a_kill_before_the_first_stage_leaves_a_folder_that_can_be_used(tmp_path):
    (tmp_path / "README.md").write_text("what a study makes")
    (tmp_path / "logs").mkdir()
    check_places(load_study({"results": str(tmp_path)}))


@pytest.mark.parametrize("config", [{}, {"external": {"samples": "x" * 300}}], ids=["results", "external.samples"])
def test_a_name_that_no_file_system_takes_is_refused_by_key(config, request):
    with pytest.raises(ConfigError, match=f"^{request.node.callspec.id}: expected names of at most 255 bytes"):
        check_places(load_study(config or {"results": "ä" * 130}))


def test_only_a_run_that_writes_needs_a_place_to_write(tmp_path, monkeypatch):
    monkeypatch.setattr(places.os, "access", lambda path, mode: False)  # root may write everywhere
    results = tmp_path / "a" / "results"
    check_places(load_study({"results": str(results)}))
    with pytest.raises(ConfigError, match=f"found {tmp_path} without write permission; change it"):
        check_writable(results)


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EPERM])
def test_where_files_cannot_be_linked_they_are_copied(tmp_path, monkeypatch, number):
    def refuse(source, target):
        raise OSError(number, os.strerror(number), str(source), None, str(target))

    (tmp_path / "a").write_bytes(b"bytes")
    monkeypatch.setattr(files.os, "link", refuse)
    link_or_copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"bytes" and (tmp_path / "b").stat().st_nlink == 1


def test_a_refusal_that_no_copy_helps_stays_one(tmp_path):
    (tmp_path / "a").write_bytes(b"bytes")
    link_or_copy(tmp_path / "a", tmp_path / "b")
    assert Path(tmp_path / "b").samefile(tmp_path / "a")
    with pytest.raises(FileExistsError):
        link_or_copy(tmp_path / "a", tmp_path / "b")
