"""What the tests run in the audit environment: the command line, other people's readers, and their validator."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from workplace import ROOT

BIN = ROOT / ".venv-audit" / "bin"
TERMS = ROOT / "tests" / "fixtures" / "ro_crate_terms.json"
PROFILE = "provenance-run-crate-0.5"
_FILL = """
import json, sys
from requests_cache import CachedRequest, CachedResponse, CachedSession
cache = CachedSession(sys.argv[1], backend="sqlite", expire_after=-1).cache
for url, terms in json.load(open(sys.argv[2])).items():
    cache.save_response(CachedResponse(
        url=url, status_code=200, reason="OK", content=json.dumps({"@context": terms}).encode(),
        headers={"Content-Type": "application/ld+json"}, request=CachedRequest(method="GET", url=url, headers={}),
    ))
"""


def run_in_audit(*command: str | Path, **variables: str) -> subprocess.CompletedProcess:
    """Runs a program of the audit environment in the repository; where there is no such environment, skips the test."""
    if not (BIN / "python").exists():
        (pytest.fail if os.environ.get("DISTILL_REQUIRE_AUDIT") else pytest.skip)("needs .venv-audit: make audit-env")
    program, *arguments = map(str, command)
    environment = os.environ | {"PYTHONPATH": "workflow", "NO_PROXY": "*"} | variables
    return subprocess.run(
        [str(BIN / program), *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def audit(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess:
    """Runs `python -m distill` in the audit environment."""
    return run_in_audit("python", "-m", "distill", *arguments, **variables)


def evaluate(code: str, *arguments: str | Path) -> Any:
    """Returns what a piece of Python prints as JSON in the audit environment."""
    result = run_in_audit("python", "-c", code, *arguments)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def validate(crate: Path, folder: Path) -> dict:
    """Returns roc-validator's report on the required checks; it asks no network, but takes the terms from a fixture."""
    filled = run_in_audit("python", "-c", _FILL, folder / "cache", TERMS)
    assert filled.returncode == 0, filled.stderr
    where = ["--offline", "--cache-path", folder / "cache", "--no-paging", "-f", "json", "-o", folder / "report.json"]
    result = run_in_audit("rocrate-validator", "-y", "--disable-color", "validate", "-p", PROFILE, *where, crate)
    assert (folder / "report.json").is_file(), result.stdout + result.stderr
    return json.loads((folder / "report.json").read_text())
