"""Who starts while another process makes results again is not refused; who edits them is."""

import random
import threading
from dataclasses import asdict, replace

import pytest

from distill.errors import DataError
from distill.files import MANIFEST, replace_folder, seal_folder, write_json, write_text
from distill.provenance.edits import check_unedited
from distill.provenance.ownership import OWNERS, own, this_process
from distill.provenance.record import artifact_digest, record_path


def record(artifact):
    write_json(
        record_path(artifact), {"subject": [{"name": artifact.name, "digest": {"sha256": artifact_digest(artifact)}}]}
    )


def make_folder(folder, text):
    """Publishes a folder as a stage does."""
    temporary = folder.with_name("temporary~")
    write_text(temporary / "a.txt", text)
    write_text(temporary / "b.txt", text)
    seal_folder(temporary)
    replace_folder(temporary, folder)


def make_file(path, text):
    """Publishes a file and its record as a stage does."""
    write_text(path, text)
    record(path)


@pytest.fixture
def results(tmp_path):
    make_folder(tmp_path / "results/models/sft", "a")
    make_file(tmp_path / "results/tables.md", "a")
    return tmp_path / "results"


def test_two_hundred_looks_beside_a_process_that_makes_results_again(results):
    done, made, looks = threading.Event(), 0, 0

    def make():
        nonlocal made
        while not done.is_set():
            for name, act in (("models/sft", make_folder), ("tables.md", make_file)):
                owned = own(results / ".state", name.replace("/", "-"), f"results/{name}")
                act(results / name, f"text {made}")
                owned.release()
            made += 1

    maker = threading.Thread(target=make)
    maker.start()
    try:
        while looks < 200 or made < 20:
            check_unedited(results)
            looks += 1
    finally:
        done.set()
        maker.join()


@pytest.mark.parametrize("seed", range(20))
def test_each_edit_is_refused(results, seed):
    draw = random.Random(seed)
    path = results / draw.choice(["models/sft/a.txt", "models/sft/b.txt", "tables.md"])
    path.write_text(f"{path.read_text()}{seed}")
    with pytest.raises(DataError, match=rf"{path}: expected the bytes that its stage wrote, found others"):
        check_unedited(results)


def test_an_owner_that_was_killed_hides_no_edit(results):
    dead = replace(this_process("results/tables.md"), process=2**22 + 1)
    write_json(results / ".state" / OWNERS / "tables" / "1" / "owner.json", asdict(dead))
    (results / "tables.md").write_text("mine")
    with pytest.raises(DataError, match="found others"):
        check_unedited(results)


def test_what_a_living_owner_has_half_published_is_its_own_matter(results):
    owned = own(results / ".state", "tables", "results/tables.md")
    (results / "tables.md").write_text("its record comes next")
    check_unedited(results)
    owned.release()
    with pytest.raises(DataError, match="found others"):
        check_unedited(results)


def test_a_folder_whose_manifest_goes_meanwhile_is_none(results, monkeypatch):
    monkeypatch.setattr("distill.provenance.edits.load_manifest", lambda path: path.unlink() or {})
    check_unedited(results)
    assert not (results / "models/sft" / MANIFEST).exists()
