"""Sphinx's settings: the Markdown pages of this repository as a site (make docs).

The source folder is the repository, so that a link from one page to another, in docs/ or not, is a link of the site.
A link to a page, a heading or a file that is not there is a warning of Sphinx, and `make docs` takes none.
"""

import re
import shutil
import tomllib
from pathlib import Path

from docutils import nodes
from sphinx import addnodes

ROOT = Path(__file__).parents[1]

project = "Bellman Distill"
version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
extensions = ["myst_parser", "sphinxcontrib.mermaid"]
root_doc = "README"
include_patterns = ["*.md", "docs/**.md", "presets/*.md", "envs/*.md", "benchmarks/*.md"]
exclude_patterns = [".*", "site", "results", "wheelhouse", "logs", "tests", "workflow"]  # folders not worth a walk
myst_heading_anchors = 6  # those that GitHub gives
myst_fence_as_directive = ["mermaid"]
mermaid_output_format = "svg"  # drawn here: no script draws it in the reader's browser
mermaid_cmd = "mmdr"
html_theme = "furo"
html_title = project
html_copy_source = False
nitpicky = True


def contents(caption: str, pages: list[str]) -> str:
    """Returns a list of pages for the site's side, which the page itself does not show."""
    return "\n".join(
        ["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *(f"/{page}" for page in pages), "```", ""]
    )


def add_contents(app, docname, source):
    """Lists in the README's contents what docs/README.md links to, in its order, and behind it what lies at the top."""
    folder = ROOT / Path(docname).parent
    if docname == root_doc:
        links = re.findall(r"\]\(([^()#\s:]+)\.md\)", (ROOT / "docs/README.md").read_text(encoding="utf-8"))
        pages = list(dict.fromkeys((ROOT / "docs" / link).resolve().relative_to(ROOT).as_posix() for link in links))
        top = sorted(path.stem for path in ROOT.glob("*.md") if path.stem != root_doc)
        studies = [page for page in pages if page.startswith("docs/studies/")]
        source[0] += contents("Manual", ["docs/README", *(page for page in pages if page not in {*studies, *top})])
        source[0] += contents("Studies", studies) + contents("Project", top)
    elif docname.startswith("docs/studies/") and docname.endswith("/README") and (folder / "tables.md").exists():
        source[0] += contents("Tables", [f"{Path(docname).parent.as_posix()}/tables"])


def keep_reports(app, doctree):
    """Keeps a report beside the files that it links to, where Sphinx would move it into its folder of downloads."""
    place = Path(app.env.docname).parent
    for link in list(doctree.findall(addnodes.download_reference)):
        if link["reftarget"].endswith(".html"):
            target = place / link["reftarget"]
            shutil.copytree(ROOT / target.parent, Path(app.outdir) / target.parent, dirs_exist_ok=True)
            link.replace_self(nodes.reference("", "", *link.children, refuri=link["reftarget"]))


def write_index(app, error):
    """The README is the site's first page."""
    if error is None:
        shutil.copy(Path(app.outdir) / "README.html", Path(app.outdir) / "index.html")


def setup(app):
    """Sphinx calls this."""
    app.connect("source-read", add_contents)
    app.connect("doctree-read", keep_reports, priority=400)  # before downloads are collected
    app.connect("build-finished", write_index)
