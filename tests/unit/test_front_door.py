"""What a stranger meets first: a README of bounded length, no dead link, and metadata that agree."""

import os
import re
import shutil
import subprocess
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

ROOT = Path(__file__).parents[2]
REPORTS = sorted(path.relative_to(ROOT) for path in (ROOT / "docs").rglob("*.html"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
_LINK = re.compile(r"\]\(([^()\s]+)\)")


class _Links(HTMLParser):
    """The links and the ids of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        of = dict(attrs)
        self.links += [of[name] for name in ("href", "src") if of.get(name) is not None]
        self.ids |= {of["id"]} if of.get("id") else set()


def dead_in_report(path: Path) -> list[str]:
    """Returns an HTML page's links to files and places that are not there, and all that lead away."""
    page = _Links(path.read_text(encoding="utf-8"))

    def is_there(link: str) -> bool:
        name, _, anchor = link.partition("#")
        return link.startswith("data:") or ((path.parent / unquote(name)).exists() if name else anchor in page.ids)

    return [link for link in page.links if not is_there(link)]


def test_readme_is_short():
    assert len(README.splitlines()) <= 120
    assert len(README.split()) <= 900


@pytest.mark.parametrize("report", REPORTS, ids=str)
def test_links_of_committed_reports_lead_somewhere(report):
    assert dead_in_report(ROOT / report) == []


def test_dead_links_of_a_report_are_seen(tmp_path):
    page = tmp_path / "page.html"
    links = ("page.html", "#a", "#b", "gone/x.csv", "https://a/b", "data:,")
    page.write_text('<p id="a">' + "".join(f'<a href="{link}">x</a>' for link in links))
    assert dead_in_report(page) == ["#b", "gone/x.csv", "https://a/b"]


def test_the_site_fails_by_each_dead_link_and_unlisted_page(tmp_path):
    environment = ROOT / ".venv-docs"
    if not (environment / "bin" / "sphinx-build").exists():
        (pytest.fail if os.environ.get("DISTILL_REQUIRE_DOCS") else pytest.skip)("needs .venv-docs: make docs-env")
    for name in ("Makefile", "pyproject.toml", "docs/conf.py", "envs/install.sh", "envs/docs.lock"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "README.md").write_text(
        "# A `b`, c\n\n[1](docs/README.md#d) [2](#a-b-c) [3](Makefile)\n\n```mermaid\nflowchart LR\n    a --> b\n```\n"
    )
    (tmp_path / "docs" / "README.md").write_text("# D\n\n[1](page.md)\n")
    (tmp_path / "docs" / "page.md").write_text(
        "# Page\n\n[1](../README.md#a-b-c) [2](../README.md#one) [3](#two) [4](three.md) [5](four.csv) ![6](five.png)\n"
        "\n```\n[7](six.md)\n```\n\n[8](https://a/b)\n"
    )
    (tmp_path / "docs" / "other.md").write_text("# Other\n")
    result = subprocess.run(
        ["make", "docs", f"DOCS_VENV={environment}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    told = "\n".join(line for line in result.stderr.splitlines() if "WARNING" in line)
    assert result.returncode == 2 and told.count("\n") == 5, result.stderr
    dead = re.findall(r"one|two|three\.md|four\.csv|five\.png|other\.md: WARNING: document isn't included", told)
    assert len(set(dead)) == 6
    page = (tmp_path / "site" / "index.html").read_text()
    from_elsewhere = re.compile(r'<(script|link|img|object)[^>]*"(https?:)?//')
    assert ".svg" in page and not from_elsewhere.search(page)


def test_the_tree_names_all_that_git_keeps():
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    kept = {Path(line).parts[0] for line in listing.splitlines()}
    told = re.findall(
        r"^([\w.]+)[\w/]* {2,}", re.search(r"^## Where things are\n+```\n(.*?)^```", README, re.M | re.S)[1], re.M
    )
    described = {Path(name).name for name in _LINK.findall(README)}
    settings = {"Containerfile", "pyproject.toml", "README.md", *(name for name in kept if name.startswith("."))}
    assert kept - settings <= {*told, *described}
    assert all((ROOT / name).exists() for name in told)


def test_citation_names_this_software_and_its_paper():
    assert CITATION["cff-version"] == "1.2.0" and CITATION["type"] == "software"
    assert CITATION["message"] and CITATION["title"]
    (holder,) = (author["name"] for author in PROJECT["authors"])
    assert [author["name"] for author in CITATION["authors"]] == [holder]
    assert holder in (ROOT / "LICENSE").read_text()
    (paper,) = CITATION["references"]
    assert [author["family-names"] for author in paper["authors"]] == ["Yu", "Li", "Zhang"]
    assert paper["title"] in " ".join(README.split()) and paper["url"] in README


def test_version_and_licence_have_one_value():
    assert CITATION["version"] == PROJECT["version"]
    assert CITATION["license"] == PROJECT["license"] == "MIT"
    assert PROJECT["version"] in (ROOT / "CHANGELOG.md").read_text()
    assert (ROOT / "LICENSE").read_text().startswith("MIT License\n")


def test_what_the_forge_runs_is_pinned_by_commit_and_is_what_runs_by_hand():
    found = "".join(path.read_text() for path in (ROOT / ".github" / "workflows").glob("*.yml"))
    used = re.findall(r"uses: (\S+)", found)
    assert used and all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", name) for name in used)
    assert "run: .ci/run" in found
