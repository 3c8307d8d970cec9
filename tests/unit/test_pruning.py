"""Checkpoints that nobody needs any more go, by config, and what is left is as whole as before."""

import pytest
from test_selection import RIGHT, TOKENIZER, WRONG, choose, model_folder

from distill.checkpoints import check_unpruned, link_files, prune_checkpoints, read_candidates
from distill.errors import DataError
from distill.files import MANIFEST, PRUNED, digest_file, list_files, read_manifest, seal_folder
from distill.provenance.edits import check_unedited


def names(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("rule", "answers", "left"),
    [
        ("dev_rouge_l", {0: WRONG, 2: RIGHT, 4: WRONG}, {2, 4}),
        ("dev_rouge_l", {0: WRONG, 2: WRONG, 4: RIGHT}, {4}),
        ("dev_rouge_l", {0: RIGHT, 2: RIGHT, 4: WRONG}, {4}),
        ("dev_loss", {}, {2, 4}),
    ],
)
def test_the_selected_and_the_last_checkpoint_stay(tmp_path, rule, answers, left):
    places = [tmp_path / name for name in ("all", "selected")]
    models = [choose(place, rule, answers, keep=place.name)[0] for place in places]
    assert [digest_file(models[0] / MANIFEST)] == [digest_file(models[1] / MANIFEST)]
    run = places[1] / "training/mine"
    for update, folder in read_candidates(run, None).items():
        whole = {"model.safetensors", *(f"{name}.json" for name in TOKENIZER)}
        assert names(folder) == {MANIFEST} | (whole if update in left else {PRUNED})
    assert names(places[0] / "training/mine") >= {f"checkpoints/step-00000{n}/model.safetensors" for n in (2, 4)}
    assert digest_file(run / MANIFEST) == digest_file(places[0] / "training/mine" / MANIFEST)
    read_manifest(run)
    check_unedited(places[1])


def test_a_pruned_checkpoint_is_refused_by_name_where_its_weights_are_asked_for(tmp_path):
    choose(tmp_path, "dev_loss", {}, with_start=False, keep="selected")
    run = tmp_path / "training/mine"
    prune_checkpoints(run, (4,))
    with pytest.raises(
        DataError, match=r"step-000002: expected a checkpoint, found it pruned .*mine/COMPLETE and rerun"
    ):
        link_files(run / "checkpoints/step-000002", tmp_path / "model")
    check_unpruned(run / "checkpoints/step-000004")


def test_a_kill_while_files_go_leaves_a_whole_run(tmp_path, monkeypatch):
    run = tmp_path / "training/mine"
    checkpoint = model_folder(run / "checkpoints/step-000002", "weights", config={}, more={})
    model_folder(run / "checkpoints/step-000004", "weights")
    seal_folder(run)
    removed = []

    def kill(path):
        if removed:
            raise KeyboardInterrupt
        removed.append(path)
        path.rename(tmp_path / "gone")

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(type(run), "unlink", kill)
        prune_checkpoints(run, (4,))
    assert len(list_files(checkpoint)) == 3, "the mark and two of three files"
    check_unedited(tmp_path)
    prune_checkpoints(run, (4,))
    assert names(checkpoint) == {MANIFEST, PRUNED}


def test_only_a_mark_excuses_files_that_are_gone(tmp_path):
    choose(tmp_path, "dev_loss", {})
    run = tmp_path / "training/mine"
    (run / "checkpoints/step-000004/model.safetensors").unlink()
    with pytest.raises(DataError, match="expected 12 bytes as sealed"):
        read_manifest(run)
