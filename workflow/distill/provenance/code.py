"""Digests of code: what a stage imports from this package, without comments and docstrings.

Snakemake sees neither imported modules nor the package behind a shell command, so each rule carries this digest as a
parameter: an edit of code that a stage reaches reruns it, a comment or an edit elsewhere does not.
"""

import ast
import atexit
import hashlib
import json
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from distill.errors import DataError
from distill.files import digest_file, digest_value, write_json

PACKAGE = "distill"
_OWN_FOLDER = f"{PACKAGE}.*"
"""Stands for the modules of a package that finds them by `iter_modules(__path__)`: all files beside it."""


class _Parsed(NamedTuple):
    """What a closure needs of one file: the digest of its code, and every module of the package it may import."""

    code: str
    imported: list[str]


# Parses by the bytes that they came from: those of earlier processes, and those that this one asked for.
_kept: dict[str, _Parsed] = {}
_asked: dict[str, _Parsed] = {}


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
def _form() -> bytes:
    """Returns what a parse depends on besides its file: this module and the Python whose trees it writes down."""
    return f"{digest_file(Path(__file__))} {sys.version}".encode()


def _parse_text(text: str) -> _Parsed:
    tree = DropTypeOnly().visit(ast.parse(text))
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from a.b import c` may name a module a.b.c or an attribute of a.b.
            imported.update({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)})
        elif isinstance(node, ast.Call) and ast.unparse(node) == "iter_modules(__path__)":
            imported.add(_OWN_FOLDER)
    _strip_prose(tree)
    code = hashlib.sha256(ast.dump(tree).encode()).hexdigest()
    return _Parsed(code, sorted(name for name in imported if name.split(".")[0] == PACKAGE))


@cache
def _parse(path: Path) -> _Parsed:
    content = path.read_bytes()
    key = hashlib.sha256(_form() + content).hexdigest()
    _asked[key] = _kept.get(key) or _parse_text(content.decode("utf-8"))
    return _asked[key]


def keep_parses(path: Path) -> None:
    """Takes over the parses of earlier processes from a file and, at this process's end, writes what it used there.

    A parse is found by the bytes of its file, so an edited file is parsed again. A file that cannot be read or written
    costs time and nothing else.
    """
    with suppress(OSError, ValueError, TypeError, AttributeError):
        _kept.update({key: _Parsed(*parsed) for key, parsed in json.loads(path.read_bytes()).items()})

    def write() -> None:
        if _asked.keys() - _kept.keys():
            with suppress(DataError, OSError):
                write_json(path, _asked)

    atexit.register(write)


@cache
def _module_files(name: str, root: Path) -> frozenset[Path]:
    """Returns the files that importing `name` runs: each parent package's `__init__` and the module, if they exist."""
    parent, own = name.rpartition(".")[0], root.joinpath(*name.split("."))
    above = _module_files(parent, root) if parent else frozenset()
    return above | {path for path in (own / "__init__.py", own.with_suffix(".py")) if path.is_file()}


@cache
def _imports(path: Path, root: Path) -> frozenset[Path]:
    """Returns the files that a file's own import statements run."""
    return frozenset().union(
        *(
            path.parent.glob("*.py") if name == _OWN_FOLDER else _module_files(name, root)
            for name in _parse(path).imported
        )
    )


@cache
def _name(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else path.name


def import_closure(script: Path, root: Path, extra: tuple[str | Path, ...] = ()) -> list[Path]:
    """Returns the script and every file of the package that it imports, directly or not, sorted.

    Args:
        script: a stage's command line, e.g. workflow/scripts/train_run.py.
        root: the folder that holds the package, e.g. workflow/.
        extra: modules that the stage loads by name, e.g. the one method of a training job, and files outside the
            package.
    """
    found: set[Path] = set()
    waiting = {script}
    for named in extra:
        waiting |= {named} if isinstance(named, Path) else _module_files(named, root)
    while waiting:
        path = waiting.pop()
        found.add(path)
        waiting |= _imports(path, root) - found
    return sorted(found)


@cache
def code_digest(script: Path, root: Path, extra: tuple[str | Path, ...] = ()) -> str:
    """Returns the digest (16 hex digits) of a stage's code: its import closure without comments and docstrings.

    Files are read once a process: many jobs run the same code.
    """
    files = import_closure(script, root, extra)
    return digest_value({_name(path, root): _parse(path).code for path in files})[:16]
