"""Digests of code: what a stage imports from this package, without comments and docstrings.

Snakemake sees neither imported modules nor the package behind a shell command, so each rule carries this digest as a
parameter: an edit of code that a stage reaches reruns it, a comment or an edit elsewhere does not.
"""

import ast
from functools import cache
from pathlib import Path

from distill.files import digest_value

PACKAGE = "distill"


class DropTypeOnly(ast.NodeTransformer):
    """Takes out `if TYPE_CHECKING:` blocks, which never run."""

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:  # noqa: N802 - the name that ast asks for
        return node.orelse if ast.unparse(node.test) == "TYPE_CHECKING" else self.generic_visit(node)


def _strip_prose(tree: ast.AST) -> None:
    """Takes out docstrings and the `description` arguments of config fields: neither changes what a stage does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            node.keywords = [keyword for keyword in node.keywords if keyword.arg != "description"]
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]


@cache
def _parse(path: Path) -> tuple[str, frozenset[str]]:
    """Returns a file's code without comments and docstrings, and every module name that it may import."""
    tree = DropTypeOnly().visit(ast.parse(path.read_text(encoding="utf-8")))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from a.b import c` may name a module a.b.c or an attribute of a.b.
            imported.update({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)})
    _strip_prose(tree)
    return ast.dump(tree), frozenset(name for name in imported if name.split(".")[0] == PACKAGE)


def _module_files(name: str, root: Path) -> list[Path]:
    """Returns the files that importing `name` runs: each parent package's `__init__` and the module, if they exist."""
    parts = name.split(".")
    candidates = [root.joinpath(*parts[:depth], "__init__.py") for depth in range(1, len(parts) + 1)]
    candidates.append(root.joinpath(*parts).with_suffix(".py"))
    return [path for path in candidates if path.is_file()]


def import_closure(script: Path, root: Path, extra: tuple[str | Path, ...] = ()) -> list[Path]:
    """Returns the script and every file of the package that it imports, directly or not, sorted.

    Args:
        script: a stage's command line, e.g. workflow/scripts/train_run.py.
        root: the folder that holds the package, e.g. workflow/.
        extra: modules that the stage loads by name, e.g. the one method of a training job, and files outside the
            package.
    """
    found: set[Path] = set()
    waiting = [script]
    for named in extra:
        waiting += [named] if isinstance(named, Path) else _module_files(named, root)
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += [file for name in _parse(path)[1] for file in _module_files(name, root)]
    return sorted(found)


def code_digest(script: Path, root: Path, extra: tuple[str | Path, ...] = ()) -> str:
    """Returns the digest (16 hex digits) of a stage's code: its import closure without comments and docstrings."""
    files = import_closure(script, root, extra)
    names = [str(path.relative_to(root)) if path.is_relative_to(root) else path.name for path in files]
    return digest_value({name: _parse(path)[0] for name, path in zip(names, files, strict=True)})[:16]
