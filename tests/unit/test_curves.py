"""Curves of a training: TensorBoard and trackers are given each logged step once, whatever a kill left."""

import importlib
import sys

import pytest

from curves import logged_in, shown_in
from distill.config.tracker import check_tracker, project_of
from distill.errors import ConfigError
from distill.training.curves import Curves
from distill.training.saved_state import SavedState

OPTIONS = {"seed": 10, "learning_rate": 1e-3}
FAKE = '''"""What a tracker has of the interface of trackio and wandb; it keeps what it is given."""

inits, runs = [], []

class Run:
    def __init__(self):
        self.rows, self.ended = [], False

    def log(self, values, step=None):
        if step == 5 and len(runs) == 1:
            raise ConnectionError("https://host/?write_token=the-key")
        self.rows.append((step, values))

    def finish(self):
        self.ended = True

def init(**own):
    inits.append(own)
    runs.append(Run())
    return runs[-1]

def Settings(**own):
    return own
'''


def train(root, last, saves, tracker=None):
    """Logs updates as the loop does, and saves behind one of them; what it logs behind that a kill takes back."""
    root.mkdir(parents=True, exist_ok=True)
    saved = SavedState(root, "bd", 1.0)
    saved.open()
    if saved.step < 0:
        saved.append("dev.jsonl", [{"step": 0, "loss": 4.0}])
    with Curves(saved, tracker, OPTIONS):
        for step in range(max(saved.step, 0) + 1, last + 1):
            saved.append("metrics.jsonl", [{"step": step, "loss": 1 / step, "seconds": 0.5, "try": saved.resumes}])
            if step % 2 == 0:
                saved.append("dev.jsonl", [{"step": step, "loss": 2 / step}])
                saved.append("dev_items.jsonl", [{"step": step, "id": "a"}])
            if step == saves:
                with saved.saving(step):
                    pass


@pytest.fixture
def root(tmp_path):
    return tmp_path / ".state" / "train_run-0"


@pytest.fixture
def use_fake(tmp_path, monkeypatch):
    """Puts a package on the path that stands for a tracker, and returns it."""

    def use(package):
        (tmp_path / f"{package}.py").write_text(FAKE)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, package, raising=False)
        return importlib.import_module(package)

    yield use
    for package in ("trackio", "wandb"):
        sys.modules.pop(package, None)


def test_tensorboard_has_the_log_once_after_a_kill(root):
    train(root, last=4, saves=3)
    before = shown_in(root.parents[1] / "curves" / "bd")
    assert before == logged_in(root) and ("dev/loss", 4, 0.5) in before
    train(root, last=6, saves=6)
    after = shown_in(root.parents[1] / "curves" / "bd")
    assert after == logged_in(root) and ("try", 4, 1.0) in after and ("try", 4, 0.0) not in after


@pytest.mark.parametrize("package", ["trackio", "wandb"])
def test_a_tracker_has_all_steps_of_a_try_in_a_run_of_its_own(root, use_fake, monkeypatch, capsys, package):
    for name in ("WANDB_MODE", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    fake = use_fake(package)
    train(root, last=6, saves=3, tracker=(package, "A study"))
    said = capsys.readouterr().err
    assert f"warning: bd: {package} shows no curves (ConnectionError); the training goes on" in said
    assert "the-key" not in said
    train(root, last=6, saves=6, tracker=(package, "A study"))
    assert [step for step, _ in fake.runs[0].rows] == [0, 1, 2, 2, 3, 4, 4]
    first, second = (run.rows for run in fake.runs)
    assert [step for step, _ in second] == [0, 1, 2, 2, 3, 4, 4, 5, 6, 6] and fake.runs[1].ended
    assert second[:5] == first[:5] and second[5] == (4, {"loss": 0.25, "seconds": 0.5, "try": 1})
    own = {"project": "A study", "name": "bd", "config": OPTIONS}
    if package == "wandb":  # which else asks its server
        own |= {
            "mode": "offline",
            "dir": str(root.parents[1] / "curves/bd"),
            "settings": {"console": "off", "silent": True, "disable_git": True},
        }
    assert fake.inits == [own, own]


def test_without_tensorboard_a_training_says_one_line(root, monkeypatch, capsys):
    for module in ("tensorboard", "tensorboard.compat.proto.event_pb2"):
        monkeypatch.setitem(sys.modules, module, None)
    train(root, last=2, saves=2)
    assert capsys.readouterr().err == "no event files for TensorBoard, whose package is not installed\n"


def test_a_tracker_that_is_not_installed_ends_the_start_in_one_line(tmp_path, monkeypatch):
    check_tracker(None, sys.executable)
    with pytest.raises(ConfigError, match="^tracker: expected the package wandb .*, found none; install it"):
        check_tracker("wandb", sys.executable)
    (tmp_path / "wandb.py").write_text(FAKE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    check_tracker("wandb", sys.executable)


def test_a_title_is_a_project_that_trackers_take():
    assert project_of("Qwen2 0.5B: SFT/BD #1?") == "Qwen2 0.5B- SFT-BD -1-" and project_of("") == "study"
