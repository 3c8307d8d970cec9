"""Finds in the rules' logs why a workflow stopped."""

from pathlib import Path

PREFIX = "error: "


def last_errors(logs: Path, since: float) -> list[str]:
    """Returns the last line of every log written after `since` (seconds since 1970) that ends with a stage's error."""
    found = []
    for path in sorted(logs.rglob("*.log"), key=lambda path: path.stat().st_mtime):
        if path.stat().st_mtime >= since:
            lines = path.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
            if lines and lines[-1].startswith(PREFIX):
                found.append(f"{lines[-1]} (log: {path})")
    return found
