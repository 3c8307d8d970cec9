"""Where a finished study's time went: jobs, CPU and wall seconds a rule, start-up share, critical path.

    python benchmarks/study.py results > docs/timing.csv

Start-up is measured here and now: the CPU seconds of a bare import of what a software family's jobs load (the least of
three), times the number of its jobs. Everything else is read from the records beside the artifacts.
"""

import json
import resource
import subprocess
import sys
from collections import defaultdict
from datetime import datetime
from pathlib import Path

IMPORTS = {
    "train": "import torch, deepspeed; from transformers import AutoModelForCausalLM",
    "vllm": "from vllm import LLM",
    "light": "import pydantic, tokenizers",
}
FAMILY = defaultdict(
    lambda: "light",
    {rule: "train" for rule in ("make_base", "train_run", "build_candidates")}
    | {rule: "vllm" for rule in ("sample_teacher", "validate_run", "generate_responses")},
)


def import_seconds(statement: str) -> float:
    """Returns the least CPU seconds of three interpreters that run one import statement."""
    found = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", statement], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(found)


def read_jobs(results: Path) -> dict[str, dict]:
    """Returns each artifact's rule, wall and CPU seconds and the artifacts it was made from."""
    jobs = {}
    for path in sorted(results.rglob("*.prov.json")):
        predicate = json.loads(path.read_text())["predicate"]
        build, run = predicate["buildDefinition"], predicate["runDetails"]
        started, finished = (datetime.fromisoformat(run["metadata"][key]) for key in ("startedOn", "finishedOn"))
        jobs[str(path).removesuffix(".prov.json")] = {
            "rule": build["externalParameters"]["rule"],
            "wall": (finished - started).total_seconds(),
            "cpu": run["usage"]["cpu_seconds"],
            "inputs": [dependency["uri"] for dependency in build["resolvedDependencies"]],
        }
    return jobs


def critical_path(jobs: dict[str, dict]) -> list[str]:
    """Returns the artifacts of the chain with the largest sum of wall seconds, first to last."""
    best: dict[str, tuple[float, list[str]]] = {}

    def longest(artifact: str) -> tuple[float, list[str]]:
        if artifact not in best:
            before = max((longest(name) for name in jobs[artifact]["inputs"] if name in jobs), default=(0.0, []))
            best[artifact] = (before[0] + jobs[artifact]["wall"], [*before[1], artifact])
        return best[artifact]

    return max(map(longest, jobs))[1]


def main() -> None:
    """Prints the table as CSV; a line that starts with # is a remark."""
    jobs = read_jobs(Path(sys.argv[1]))
    startup = {family: import_seconds(statement) for family, statement in IMPORTS.items()}
    total = sum(job["cpu"] for job in jobs.values())
    path = critical_path(jobs)
    spent = sum(startup[FAMILY[job["rule"]]] for job in jobs.values())
    print(
        f"# {len(jobs)} jobs, {total:.0f} CPU seconds, of which imports about {spent:.0f} ({100 * spent / total:.0f}%)"
    )
    print(f"# critical path, {sum(jobs[name]['wall'] for name in path):.0f} s: {' > '.join(path)}")
    print("rule,jobs,cpu_seconds,cpu_share,wall_seconds,import_seconds_a_job")
    for rule in sorted({job["rule"] for job in jobs.values()}):
        own = [job for job in jobs.values() if job["rule"] == rule]
        cpu, wall = sum(job["cpu"] for job in own), sum(job["wall"] for job in own)
        print(f"{rule},{len(own)},{cpu:.1f},{cpu / total:.3f},{wall:.0f},{startup[FAMILY[rule]]:.1f}")


if __name__ == "__main__":
    main()
