"""The digest of a stage's code: what it imports, and nothing but what runs."""

import subprocess
import sys
from pathlib import Path

import pytest

from distill.provenance.code import code_digest, import_closure

FILES = {
    "scripts/stage.py": '''
"""The stage."""
from distill.used import value


def main():
    """Runs."""
    import distill.lazy
    return distill.lazy.answer(value)
''',
    "distill/__init__.py": "",
    "distill/used.py": "# A number.\nvalue = 1\n",
    "distill/lazy/__init__.py": "from distill.lazy.deep import answer\n",
    "distill/lazy/deep.py": 'def answer(value):\n    """Twice."""\n    return 2 * value\n',
    "distill/unused.py": "import distill.used\n",
    "distill/methods/__init__.py": "",
    "distill/methods/one.py": "from distill.used import value\nloss = value\n",
    "distill/methods/two.py": "loss = 2\n",
}


@pytest.fixture
def root(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


DIGEST = """
import ast, sys
from pathlib import Path
from distill.provenance.code import code_digest, keep_parses

root, kept, *modules = map(Path, sys.argv[1:])
parse, parsed = ast.parse, []
ast.parse = lambda text: parsed.append(text) or parse(text)
if kept != Path("none"):
    keep_parses(kept)
print(code_digest(root / "scripts/stage.py", root, tuple(map(str, modules))), len(parsed))
"""


def digest_anew(root: Path, *modules: str, kept: Path | str = "none") -> tuple[str, int]:
    """Returns the digest as a new process finds it, which reads each file once, and how many files it parsed."""
    command = [sys.executable, "-c", DIGEST, root, kept, *modules]
    found, parsed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return found, int(parsed)


def digest(root: Path, *modules: str) -> str:
    return digest_anew(root, *modules)[0]


@pytest.fixture(autouse=True)
def package_on_path(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "workflow"))


def test_closure_follows_imports_wherever_they_stand(root):
    names = [str(path.relative_to(root)) for path in import_closure(root / "scripts/stage.py", root)]
    assert names == [
        "distill/__init__.py",
        "distill/lazy/__init__.py",
        "distill/lazy/deep.py",
        "distill/used.py",
        "scripts/stage.py",
    ]


def test_closure_takes_the_one_method_that_is_named(root):
    names = [path.name for path in import_closure(root / "scripts/stage.py", root, ("distill.methods.one",))]
    assert "one.py" in names and "two.py" not in names


def test_closure_holds_the_modules_that_a_package_finds_in_its_folder(root):
    package = root / "distill/methods/__init__.py"
    package.write_text("from pkgutil import iter_modules\nFOUND = [one.name for one in iter_modules(__path__)]\n")
    script = root / "scripts/stage.py"
    script.write_text("import distill.methods\n")
    assert {"one.py", "two.py", "used.py"} <= {path.name for path in import_closure(script, root)}
    before = digest(root)
    (root / "distill/methods/three.py").write_text("loss = 3\n")
    assert digest(root) != before


@pytest.mark.parametrize(
    ("name", "old", "new", "changes"),
    [
        ("distill/used.py", "# A number.", "# Another word.", False),
        ("distill/used.py", "value = 1", "value  =  1  # one", False),
        ("distill/used.py", "value = 1", "value = 10", True),
        ("distill/lazy/deep.py", '"""Twice."""', '"""Two times."""', False),
        ("distill/lazy/deep.py", '    """Twice."""\n', "", False),
        ("distill/lazy/deep.py", "2 * value", "3 * value", True),
        ("distill/lazy/__init__.py", "import answer", "import answer as answer", True),
        ("scripts/stage.py", '"""The stage."""', '"""A stage."""', False),
        ("scripts/stage.py", "import distill.lazy", "import distill.lazy, distill.unused", True),
        ("distill/unused.py", "import distill.used", "import distill.lazy", False),
        ("distill/methods/two.py", "loss = 2", "loss = 3", False),
        ("distill/methods/one.py", "loss = value", "loss = -value", True),
    ],
)
def test_digest_changes_with_what_runs(root, name, old, new, changes):
    before = digest(root, "distill.methods.one")
    path = root / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert (digest(root, "distill.methods.one") != before) == changes


def test_digest_does_not_depend_on_where_the_repository_lies(root, tmp_path_factory):
    other = tmp_path_factory.mktemp("elsewhere") / "moved"
    root.rename(other)
    moved = code_digest(other / "scripts/stage.py", other)
    other.rename(root)
    assert moved == code_digest(root / "scripts/stage.py", root)
    assert len(moved) == 16


def test_a_module_renamed_with_the_same_code_is_another_digest(root):
    before = digest(root)
    (root / "distill/used.py").rename(root / "distill/number.py")
    script = root / "scripts/stage.py"
    script.write_text(script.read_text().replace("distill.used", "distill.number"))
    assert digest(root) != before


@pytest.mark.parametrize("damage", [None, "", "[1]", '{"a": 1}'])
def test_a_later_process_parses_what_was_edited_and_nothing_else(root, damage):
    kept, modules = root / "kept" / "code.json", ("distill.methods.one",)
    first, parsed = digest_anew(root, *modules, kept=kept)
    assert (first, parsed) == digest_anew(root, *modules) and parsed == 7
    if damage is not None:
        kept.write_text(damage)
        assert digest_anew(root, *modules, kept=kept) == (first, parsed)
    assert digest_anew(root, *modules, kept=kept) == (first, 0)
    (root / "distill/used.py").write_text("value = 10\n")
    second, parsed = digest_anew(root, *modules, kept=kept)
    assert (second, parsed) == (digest(root, *modules), 1) and second != first
    assert digest_anew(root, *modules, kept=kept) == (second, 0)


ROOT = Path(__file__).parents[2] / "workflow"


@pytest.mark.parametrize("script", sorted((ROOT / "scripts").glob("*.py")), ids=lambda path: path.stem)
def test_no_closure_reaches_all_of_the_package(script):
    """Each stage's closure leaves out what only others use: a stage that reached everything would always rerun."""
    names = {
        str(path.relative_to(ROOT / "distill")) for path in import_closure(script, ROOT) if "distill" in path.parts
    }
    assert not any(name.startswith(("methods/bd/", "methods/sft/")) for name in names), "methods are loaded by name"
    if script.stem not in ("make_tables", "render_tables", "draw_figures", "render_report"):
        assert not any(name.startswith("report/") for name in names)
