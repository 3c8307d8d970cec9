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

Text captures of the smallest study (`{config}`, with one run of SFT and one of Bellman Distill), in a window of 110
columns, without colours. `make terminal` makes them again. What the parts mean:
[workflow.md](workflow.md#what-is-shown).

## A run

Ended stages stay above. Below them, once a second: the stages that run, each with its updates or answers, their speed,
loss or tokens a second and time left, as its log has them; and the jobs done of all.

```
{running}
```

## Ctrl-C

The last lines:

```
{stopped}
```

## The same command again

Its last lines:

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

        def shown(screen: str, last: int | None = None) -> str:
            """Returns a screen below its command, of its lines only the last ones if told so."""
            lines = screen.strip().replace(str(place.folder), "/home/me/bellman-distill").splitlines()
            return "\n".join([f"$ {COMMAND}", *(lines[-last:] if last else lines)])

        longer = {"runs.sft.training": {"steps": 4000, "learning_rate": 3e-3, "evaluate_every": 2000}}
        place.configure(FEW_RUNS | longer)
        terminal = Terminal(place, TARGET)
        # Whole, with the line of all jobs below.
        drawn = re.compile(r"train_run sft +━\S+ +[1-9][\d,]*/4,000 .+ left\n(.+\n)*.+ jobs done +━\S+ +\d\d:\d\d\s*\Z")
        running = terminal.read(until=drawn.search)
        terminal.press(CTRL_C)
        stopped = terminal.end()[1]
        ended = Terminal(place, TARGET).end()[1]
        (place.folder / "mine.jsonl").write_text('{"instruction": "Name a colour.", \n')
        place.configure({"data.evaluation.vicuna": {"kind": "file", "path": "mine.jsonl"}})
        failed = Terminal(place, TARGET).end()[1]
    shots = {
        "running": shown(running),
        "stopped": shown(stopped, 7),
        "ended": shown(ended, 12),
        "failed": shown(failed),
    }
    page.write_text(PAGE.format(config=CONFIG, **shots), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
