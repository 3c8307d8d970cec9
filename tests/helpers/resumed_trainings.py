"""Trainings that end early and go on, beside whole ones: what each leaves, in as many processes as it is started as.

Run as `resumed_trainings.py REQUEST OUTPUT`. The request is JSON: `inputs`, folders by name; `folder`, to work in;
`cases`, [name, slice of train_run, update at which it ends]. The output has by name the digests of both, and what the
second one noted. With `half`, `first` makes the first part alone, `second` the whole and the second part; both leave
all where it is.
"""

import shutil
import sys
from pathlib import Path
from unittest import mock

from distill.config.slices.train_run import TrainRun
from distill.files import MANIFEST, digest_file, digest_value, list_files, read_json, read_jsonl, write_json
from distill.methods.needs import NEEDED_INPUTS, SHARED_INPUTS
from distill.methods.run_method import train_method
from distill.training import loop, saved_state

CLOCK = {"tokens_per_second", "seconds"}


class Ended(BaseException):
    """What ends a training early: it leaves what a kill leaves."""


def ending(step: int):
    """Returns the loop's update, which ends the training in the place of one of them."""
    update = loop._update

    def watched(engine, task, plan, number):
        if number == step:
            raise Ended
        return update(engine, task, plan, number)

    return watched


def left_by(output: Path) -> dict[str, str]:
    """Returns the digests of what a training leaves; of the metrics only what no clock makes."""
    rows = [{key: row[key] for key in row.keys() - CLOCK} for _, row in read_jsonl(output / "metrics.jsonl")]
    files = [path for path in list_files(output) if path.name not in ("metrics.jsonl", MANIFEST)]
    return {str(path.relative_to(output)): digest_file(path) for path in files} | {"metrics": digest_value(rows)}


def main(request: Path, output: Path) -> None:
    """Runs each case whole, and in two parts."""
    saved_state._SHARE = 0  # saved behind every update, however long that takes
    asked, found = read_json(request), {}
    inputs = {name: [Path(path) for path in asked["inputs"].get(name, [])] for name in SHARED_INPUTS + NEEDED_INPUTS}

    def train(settings: dict, place: str, minutes: float) -> dict:
        folders = Path(asked["folder"]) / place, Path(asked["folder"]) / place / "state"
        for folder in folders:
            folder.mkdir(exist_ok=True, parents=True)
        return train_method(TrainRun.model_validate(settings), inputs, folders[1], folders[0] / "output", minutes)

    for number, (name, settings, step) in enumerate(asked["cases"]):
        half = asked.get("half")
        if half != "first":
            train(settings, f"{number}-whole", 1e9)
        try:
            with mock.patch.object(loop, "_update", ending(step)):
                if half != "second":
                    train(settings, f"{number}-parts", 1e-9)
        except Ended:
            pass
        if half == "first":
            continue
        notes = train(settings, f"{number}-parts", 1e9)
        if not notes["resumes"]:  # only the first process counts them, and it alone reports
            continue
        if half:
            found[name] = notes
        else:
            both = (Path(asked["folder"]) / f"{number}-{kind}" / "output" for kind in ("whole", "parts"))
            found[name] = [*map(left_by, both), notes]
            for kind in ("whole", "parts"):
                shutil.rmtree(Path(asked["folder"]) / f"{number}-{kind}")
    if found:
        write_json(output, found)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
