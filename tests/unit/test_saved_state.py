"""The saved states of a training: what is damaged is named and not used, what is older or the start takes its place."""

import random
import shutil

import pytest

from distill.errors import DataError
from distill.files import read_json, read_jsonl
from distill.training.saved_state import SavedState


def write_files(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(random.Random(f"{folder.parent.name} {name}").randbytes(300))


def train(saved, steps, checkpoints=()):
    """Logs updates and saves behind each, as the loop does."""
    for step in steps:
        saved.append("metrics.jsonl", [{"step": step, "loss": 1 / step}])
        if step in checkpoints:
            saved.append("dev.jsonl", [{"step": step}])
            saved.append("dev_items.jsonl", [{"step": step, "id": id_} for id_ in "ab"])
            saved.add_checkpoint(step, lambda folder: write_files(folder, "model.safetensors", "config.json"))
        with saved.saving(step) as folders:
            for folder in folders:
                write_files(folder, "weight.safetensors", "own.json")


def opened(root, minutes=1.0):
    root.mkdir(exist_ok=True)
    saved = SavedState(root, "bd", minutes)
    saved.open()
    return saved


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Five updates, each saved, with checkpoints behind the second and the fourth; one update behind is logged."""
    root = tmp_path_factory.mktemp("state") / "root"
    saved = opened(root)
    train(saved, range(1, 6), checkpoints=(2, 4))
    saved.append("metrics.jsonl", [{"step": 6}])
    return root


def steps_of(root, log):
    return [row["step"] for _, row in read_jsonl(root / log)]


def flip(path, chance):
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


DAMAGES = {
    "flipped": flip,
    "zeroed": lambda path, _: path.write_bytes(bytes(path.stat().st_size)),
    "cut": lambda path, chance: path.write_bytes(path.read_bytes()[: chance.randrange(path.stat().st_size)]),
    "gone": lambda path, _: path.unlink(),
}


def test_two_states_are_kept_and_the_newest_is_gone_on_from(finished, tmp_path, capsys):
    root = shutil.copytree(finished, tmp_path / "root")
    assert sorted(path.name for path in (root / "saved").iterdir()) == ["step-000004", "step-000005"]
    saved = opened(root)
    assert (saved.step, saved.resumes) == (5, 1) and capsys.readouterr().err == ""
    assert steps_of(root, "metrics.jsonl") == [1, 2, 3, 4, 5] and steps_of(root, "dev_items.jsonl") == [2, 2, 4, 4]
    train(saved, (6, 7))
    again = opened(root)
    assert (again.step, again.resumes) == (7, 2)
    again.publish(tmp_path)
    assert steps_of(tmp_path, "metrics.jsonl") == [*range(1, 8)]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-000002", "step-000004"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_no_damaged_byte_is_used(finished, tmp_path, capsys, damage):
    """Every file in turn, at a place of it that is drawn; the logs that grow are only to be looked at."""
    for number, own in enumerate(sorted(path for path in finished.rglob("*") if path.is_file())):
        name = str(own.relative_to(finished))
        root = shutil.copytree(finished, tmp_path / str(number) / "root")
        before = own.read_bytes()
        DAMAGES[damage](root / name, random.Random(f"{damage} {name}"))
        assert not (root / name).exists() or (root / name).read_bytes() != before
        saved, said = opened(root), capsys.readouterr().err
        if name.startswith("saved/step-000005/"):
            assert saved.step == 4 and "behind update 5" in said
        elif name.startswith("checkpoints/"):  # both states know it
            assert saved.step == -1 and name.split("/")[1] in said and "from nothing" in said
            assert not list((root / "checkpoints").iterdir())
        else:
            assert saved.step == 5 and (said == "") == (name != "resume.json" or damage == "gone")
        assert said.count("\n") == bool(said)
        done = [*range(1, saved.step + 1)]
        assert steps_of(root, "metrics.jsonl") == done
        assert steps_of(root, "dev.jsonl") == [step for step in done if step in (2, 4)]


@pytest.mark.parametrize("text", ["", "[]", "3", '{"step": null}', '{"step": "5"}', "\x00" * 12])
def test_a_pointer_that_is_none_is_named(finished, tmp_path, capsys, text):
    root = shutil.copytree(finished, tmp_path / "root")
    (root / "resume.json").write_text(text)
    assert opened(root).step == 5 and "resume.json cannot be read" in capsys.readouterr().err


def test_states_that_are_gone_are_named(finished, tmp_path, capsys):
    root = shutil.copytree(finished, tmp_path / "root")
    shutil.rmtree(root / "saved" / "step-000005")
    assert opened(root).step == 4 and "behind update 5 is gone" in capsys.readouterr().err
    shutil.rmtree(root / "saved")
    assert opened(root).step == -1 and "from nothing" in capsys.readouterr().err


def test_a_state_counts_only_where_it_was_saved(finished, tmp_path, capsys):
    """Whole states that changed their places, and those of another training."""
    root = shutil.copytree(finished, tmp_path / "root")
    four, five, aside = (root / "saved" / name for name in ("step-000004", "step-000005", "aside"))
    for source, target in ((four, aside), (five, four), (aside, five)):
        source.rename(target)
    assert opened(root).step == -1
    assert "update 5 is that behind update 4 of root; " in capsys.readouterr().err
    root = shutil.copytree(finished, tmp_path / "checkpoint" / "root")
    shutil.rmtree(root / "saved/step-000004")
    (root / "checkpoints/step-000004").rename(root / "saved/step-000004")
    assert opened(root).step == -1 and "update 4 is no saved state" in capsys.readouterr().err
    other = shutil.copytree(finished, tmp_path / "other")
    assert opened(other).step == -1 and "of root; training starts again from nothing" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["/x", "../x", "", "engine"])
def test_a_manifest_may_name_anything(finished, tmp_path, capsys, name):
    root = shutil.copytree(finished, tmp_path / "root")
    manifest = root / "saved/step-000005/COMPLETE"
    manifest.write_text(manifest.read_text().replace("engine/own.json", name))
    assert opened(root).step == 4 and f"update 5 lacks {name}; " in capsys.readouterr().err


def test_a_file_that_nobody_sealed_is_a_fault(finished, tmp_path, capsys):
    root = shutil.copytree(finished, tmp_path / "root")
    (root / "saved/step-000005/COMPLETE").write_text("{}")
    (root / "saved/step-000004/task/more.json").write_text("{}")
    assert opened(root).step == -1 and capsys.readouterr().err.count("\n") == 1


def test_what_a_kill_leaves_is_removed(finished, tmp_path):
    root = shutil.copytree(finished, tmp_path / "root")
    for left in ("saved/step-000006.tmp-1/engine", "checkpoints/step-000006.tmp-1", "checkpoints/step-000006"):
        (root / left).mkdir(parents=True)
    (root / "saved" / "file").write_text("")
    assert opened(root).step == 5
    assert sorted(path.name for path in (root / "saved").iterdir()) == ["step-000004", "step-000005"]
    assert sorted(path.name for path in (root / "checkpoints").iterdir()) == ["step-000002", "step-000004"]


def test_a_checkpoint_that_changes_while_training_runs_is_not_published(finished, tmp_path):
    root = shutil.copytree(finished, tmp_path / "root")
    saved = opened(root)
    flip(root / "checkpoints/step-000002/model.safetensors", random.Random(0))
    with pytest.raises(DataError, match="step-000002: .* other bytes in model.safetensors .* rerun"):
        saved.publish(tmp_path / "output")
    assert opened(root).step == -1


def test_a_save_by_the_clock_waits_for_its_minutes_and_costs_a_fiftieth(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("distill.training.saved_state.time.monotonic", lambda: clock[0])
    saved = opened(tmp_path / "root", minutes=2)
    found = []
    for clock[0] in (119, 120):
        found.append(saved.is_due())
    with saved.saving(1):
        clock[0] = 130  # a save of ten seconds
    for clock[0] in (130 + 120, 130 + 499, 130 + 500):
        found.append(saved.is_due())
    assert found == [False, True, False, False, True]
    assert read_json(tmp_path / "root" / "resume.json") == {"step": 1}
