"""Where a finished study's time went: jobs, CPU and wall seconds a rule, start-up and recording shares, critical path.

    .venv/bin/python benchmarks/study.py results > benchmarks/study.csv

Everything is read from the records beside the artifacts. Start-up is the CPU time of imports and engine starts,
recording that of digesting inputs, sealing outputs and writing records.
"""

import sys
from datetime import datetime
from pathlib import Path

from distill.audit.archive import Archive


def read_jobs(results: Path) -> dict[str, dict]:
    """Returns each artifact's rule, wall, CPU, start-up and recording seconds and the artifacts it was made from."""
    jobs = {}
    for artifact in Archive(results).artifacts.values():  # a study inside of it is another one
        predicate = artifact.statement["predicate"]
        build, run = predicate["buildDefinition"], predicate["runDetails"]
        started, finished = (datetime.fromisoformat(run["metadata"][key]) for key in ("startedOn", "finishedOn"))
        jobs[str(artifact.path)] = {
            "rule": build["externalParameters"]["rule"],
            "wall": (finished - started).total_seconds(),
            "cpu": run["usage"]["cpu_seconds"],
            "startup": run["usage"]["startup_cpu_seconds"],
            "recording": run["usage"]["recording_cpu_seconds"],
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
    total, startup, recording = (sum(job[key] for job in jobs.values()) for key in ("cpu", "startup", "recording"))
    path = critical_path(jobs)
    print(f"# {len(jobs)} jobs, {total:.0f} CPU seconds, start-up {startup:.0f} of them ({100 * startup / total:.0f}%)")
    print(f"# recording {recording:.1f} CPU seconds ({100 * recording / total:.2f}%)")
    print(f"# critical path, {sum(jobs[name]['wall'] for name in path):.0f} s: {' > '.join(path)}")
    print("rule,jobs,cpu_seconds,cpu_share,wall_seconds,startup_seconds,recording_seconds")
    for rule in sorted({job["rule"] for job in jobs.values()}):
        own = [job for job in jobs.values() if job["rule"] == rule]
        cpu, wall, startup, recording = (
            sum(job[key] for job in own) for key in ("cpu", "wall", "startup", "recording")
        )
        print(f"{rule},{len(own)},{cpu:.1f},{cpu / total:.3f},{wall:.0f},{startup:.1f},{recording:.1f}")


if __name__ == "__main__":
    main()
