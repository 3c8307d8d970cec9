"""Where a training run keeps its checkpoints and logs; readable without torch."""

from collections.abc import Container
from pathlib import Path

from distill.errors import DataError
from distill.files import CARD, MANIFEST, PRUNED, link_or_copy, list_files, write_text

CHECKPOINTS, METRICS, DEV, DEV_ITEMS = "checkpoints", "metrics.jsonl", "dev.jsonl", "dev_items.jsonl"
SELECTION, DATA_SEEN = "selection.json", "data_seen.json"


def checkpoint_name(step: int) -> str:
    """Returns the folder name of the checkpoint after `step` updates."""
    return f"step-{step:06d}"


def read_checkpoints(folder: Path) -> dict[int, Path]:
    """Returns the sealed checkpoints of a finished run by update, in order."""
    return {
        int(path.name.removeprefix("step-")): path
        for path in sorted((folder / CHECKPOINTS).iterdir())
        if (path / MANIFEST).is_file()
    }


def read_candidates(run: Path, start: Path | None) -> dict[int, Path]:
    """Returns what a checkpoint is selected from, by update: the model that the run started from, as update 0, where
    it is a candidate, and the run's checkpoints.
    """
    return ({0: start} if start else {}) | read_checkpoints(run)


def prune_checkpoints(run: Path, keep: Container[int]) -> None:
    """Removes the weights of a run's other checkpoints; their manifests stay, which tell what they were, and a mark."""
    for update, folder in read_checkpoints(run).items():
        if update not in keep:
            write_text(folder / PRUNED, "")  # before the first file goes, or a kill would leave a damaged folder
            for path in list_files(folder):
                if path != folder / PRUNED:
                    path.unlink()


def check_unpruned(candidate: Path) -> None:
    """Refuses a pruned checkpoint.

    Raises:
        DataError: its weights are gone.
    """
    if (candidate / PRUNED).exists():
        raise DataError(
            f"{candidate}: expected a checkpoint, found it pruned (`keep_checkpoints: selected`); delete "
            f"{candidate.parents[1] / MANIFEST} and rerun to train again"
        )


def link_files(source: Path, target: Path) -> None:
    """Links a model's files into `target`, its manifest, selection and card left out: no second copy of the weights
    where the file systems can do without one.

    Raises:
        DataError: it was pruned.
    """
    check_unpruned(source)
    for path in sorted(source.rglob("*")):
        if path.is_file() and path not in (source / MANIFEST, source / SELECTION, source / CARD):
            link = target / path.relative_to(source)
            link.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(path, link)
