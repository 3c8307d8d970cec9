"""Runs the smallest study from nothing, checks every byte of it, and says PASS: `make smoke`.

Its rules and scripts are those of any study. Only the start of their processes is shared: they are forks of two
servers that have loaded the libraries once (`warm.py`), which is most of the time of jobs so small.
"""

import csv
import resource
import shutil
import sys

import yaml

from distill.__main__ import main as distill
from warm import stop_servers
from workplace import ROOT, SMOKE, Workplace

NEXT = f"""
Next:
  make plan                            what the embedded study costs
  make tables                          run it
  less {{results}}/tables.md         all tables of this one; report.html beside it is for a browser

A study of your own starts from a copy of {SMOKE} or config.yaml: docs/configure.md"""


def cpu_seconds() -> float:
    """Returns the user and system seconds of this process and of its ended children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main() -> int:
    """Returns 0 if all stages ran and nothing is found wrong with what they made."""
    results = yaml.safe_load((ROOT / SMOKE).read_text())["results"]
    shutil.rmtree(ROOT / results, ignore_errors=True)
    code = Workplace(ROOT, SMOKE).snakemake("--quiet", "host", "reason", "rules", output=None).returncode
    code = code or distill(["verify", "--configfile", SMOKE])
    stop_servers()
    if code:
        print(f"FAIL: see above, and {results}/logs")
        return code
    print(f"PASS: {cpu_seconds():.0f} CPU seconds\n")
    with open(ROOT / results / "tables/scores.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["dataset"] == "dolly"]
    print(f"{'system':<12} {'decoding':<12} Rouge-L (it means nothing: tiny models, trained for seconds)")
    for row in rows:
        print(f"{row['system']:<12} {row['decoding']:<12} {float(row['mean']):7.1f}")
    print(NEXT.format(results=results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
