"""Makes the smallest study with more and more samples of the teacher, and measures what each stage takes.

    export PYTHONPATH=workflow:tests/helpers
    .venv/bin/python tests/reliability/growth.py --samples 1000 10000 > growth.csv

A row is a stage's job: the most memory that it ever held (VmHWM of the finished process, which no sampling misses) and
its CPU seconds, start-up apart. Sizes grow through prompts, 8 samples each, so the instructions grow with them;
evaluation sets and updates stay. Ends with 1 where a stage's time or memory grows faster than its samples.
"""

import argparse
import csv
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from distill.files import read_json, read_jsonl
from workplace import Workplace, check_out

PER_PROMPT = 8
TARGETS = ("training/seqkd", "training/bd_sampled", "training/bd_released", "scores/phase1", "validation/sft")
"""What the corpus of samples goes into, and answers of a student; further tables have the size of the study."""
_PYTHON = """#!{python}
# A stage's interpreter that notes, as the process ends, the most memory that it held.
import atexit, json, re, runpy, sys

def note():
    peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
    with open({noted!r}, "a") as file:
        file.write(json.dumps({{"output": sys.argv[sys.argv.index("--output") + 1], "peak": peak}}) + "\\n")

atexit.register(note)
del sys.argv[0]
sys.path[0] = sys.argv[0].rpartition("/")[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@dataclass
class Cost:
    """What a job took: samples of the study, peak memory in MB, CPU seconds with and without start-up."""

    samples: int
    rule: str
    artifact: str
    peak_mb: int
    cpu_seconds: float
    work_seconds: float


def measure(place: Workplace, samples: int, engine: str, targets: tuple[str, ...] = TARGETS) -> Iterator[Cost]:
    """Makes a study with so many samples and yields what its jobs took."""
    noted, python = place.folder / "noted.jsonl", place.folder / "python"
    python.write_text(_PYTHON.format(python=sys.executable, noted=str(noted)))
    python.chmod(0o755)
    prompts = samples // PER_PROMPT
    place.configure(
        {
            "data.instructions.rows": prompts + 200,
            "teacher_samples.prompts": prompts,
            "teacher_samples.per_prompt": PER_PROMPT,
            "sampling.engine": engine,
            **{f"environments.{family}.python": str(python) for family in ("light", "train", "vllm")},
        }
    )
    # New processes: a fork's peak would be that of what it was forked from.
    place.run(*(f"results/{target}/COMPLETE" for target in targets), warm=False)
    for _, row in read_jsonl(noted):
        artifact = row["output"].removeprefix("results/").removesuffix("/COMPLETE")
        run = read_json(place.results / f"{artifact}.prov.json")["predicate"]
        usage = run["runDetails"]["usage"]
        rule = run["buildDefinition"]["externalParameters"]["rule"]
        work = usage["cpu_seconds"] - usage["startup_cpu_seconds"]
        yield Cost(samples, rule, artifact, row["peak"] // 1024, usage["cpu_seconds"], round(work, 2))


def too_fast(costs: list[Cost], slack: float = 1.3) -> list[str]:
    """Returns the rules whose work grows faster than the samples between the two largest sizes, within a slack."""
    work: dict[str, dict[int, float]] = defaultdict(dict)
    for cost in costs:
        work[cost.rule][cost.samples] = max(cost.work_seconds, work[cost.rule].get(cost.samples, 0.0))
    faults = []
    for rule, by_size in work.items():
        *_, small, large = [0, *sorted(by_size)]
        if small and by_size[large] > slack * max(by_size[small], 1.0) * large / small:
            faults.append(f"{rule}: {by_size[small]} s for {small} samples, {by_size[large]} s for {large}")
    return faults


def main() -> None:
    """Prints a CSV row for each job; ends with 1 where a stage grows faster than linearly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--engine", default="vllm", help="of sampling: vllm or transformers")
    parser.add_argument("--targets", nargs="*", default=TARGETS, help="artifacts, without results/")
    options = parser.parse_args()
    writer = csv.DictWriter(sys.stdout, [field.name for field in fields(Cost)])
    writer.writeheader()
    began, found = time.monotonic(), list[Cost]()
    for samples in options.samples:
        with tempfile.TemporaryDirectory() as folder:
            for cost in measure(check_out(Path(folder) / "study"), samples, options.engine, tuple(options.targets)):
                writer.writerow(asdict(cost))
                found.append(cost)
            sys.stdout.flush()
    faults = too_fast(found)
    print(
        f"{len(found)} jobs in {time.monotonic() - began:.0f} s; faster than linear: {faults or 'none'}",
        file=sys.stderr,
    )
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
