"""Writes what a person sees on a terminal: a run, a stop, what goes on, a failure (`make terminal`)."""

import re
import sys
import tempfile
from pathlib import Path

from terminal import CTRL_C, Terminal
from workplace import CONFIG, FEW_RUNS, check_out

TARGET = "results/report.html"
COMMAND = f"snakemake --cores 2 {TARGET} --configfile {CONFIG}"
PAGE = """# What is shown on a terminal

Text captures of the smallest study (`{config}`, with one run of SFT and one of Bellman Distill), in a window of 100
columns, without colours. `make terminal` makes them again; what the parts mean:
[workflow.md](workflow.md#what-is-shown).

## A run

Ended stages stay above. Below them, once a second: the stages that run, each with its updates or answers, their speed,
loss or tokens a second and time left, as its log has them; and the jobs done of all.

```
{running}
```

## Ctrl-C

```
{stopped}
```

## The same command again

```
{ended}
```

## A failure

A row of an evaluation set is broken. The last line says where, what was expected and found, and which log has more.

```
{failed}
```
"""


def main(page: Path) -> None:
    """Runs the study three times in a copy of the repository: until it is stopped, to its end, and to a failure."""
    with tempfile.TemporaryDirectory() as folder:
        place = check_out(Path(folder))

        def shown(screen: str) -> str:
            return f"$ {COMMAND}\n{screen.strip()}".replace(str(place.folder), "/home/me/bellman-distill")

        longer = {"runs.sft.training": {"steps": 600, "learning_rate": 3e-3, "evaluate_every": 300}}
        place.configure(FEW_RUNS | longer)
        terminal = Terminal(place, TARGET)
        running = terminal.read(until=lambda screen: re.search(r"train_run sft +━\S+ +[1-9]\d*/600", screen))
        terminal.press(CTRL_C)
        stopped = terminal.end()[1]
        ended = Terminal(place, TARGET).end()[1]
        (place.folder / "mine.jsonl").write_text('{"instruction": "Name a colour.", \n')
        place.configure({"data.evaluation.vicuna": {"kind": "file", "path": "mine.jsonl"}})
        failed = Terminal(place, TARGET).end()[1]
    screens = {"running": running, "stopped": stopped, "ended": ended, "failed": failed}
    shots = {name: shown(screen) for name, screen in screens.items()}
    page.write_text(PAGE.format(config=CONFIG, **shots), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
