"""Finds methods: those of this package, and those in files that the config's `plugins` name.

A method of the package is a folder here, one outside it a Python file, of the method's name. It holds one section, a
subclass of `Run`, and `build_task(context) -> Task`; a folder's objective, its literal reference and its task lie
beside. The folder's `__init__.py`, or the file, is imported wherever a config is checked, so what loads torch is best
imported inside `build_task`.
"""

import importlib.util
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import get_args

from distill.config.base import expand_path
from distill.config.runs import Run
from distill.errors import ConfigError

_PACKAGE = "distill.methods"


@cache
def builtin_methods() -> tuple[str, ...]:
    """Returns the names of the package's methods."""
    return tuple(sorted(path.parent.name for path in Path(__file__).parent.glob("*/__init__.py")))


def plugin_files(plugins: Sequence[str]) -> dict[str, Path]:
    """Returns the files of the methods outside the package, by method.

    Raises:
        ConfigError: a file is absent, is not Python, or has the name of another method.
    """
    found: dict[str, Path] = {}
    for plugin in plugins:
        path = expand_path(plugin, "plugins")
        if path.suffix != ".py" or not path.is_file():
            raise ConfigError(f"plugins: expected Python files, found none at {path}; correct the path")
        if path.stem in found or path.stem in builtin_methods():
            raise ConfigError(f"plugins: expected a new method, found another named {path.stem}; rename {path}")
        found[path.stem] = path
    return found


def load_method(method: str, plugin: Path | None = None) -> ModuleType:
    """Returns the module of a method: the package's, or the one in the file `plugin`.

    Raises:
        ConfigError: the file cannot be imported.
    """
    if plugin is None:
        return importlib.import_module(method_module(method))
    name = f"distill_plugin_{method}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, plugin)
        assert spec and spec.loader, "the config takes .py files alone"
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:  # whatever a user's file raises
            del sys.modules[name]
            raise ConfigError(f"{plugin}: expected a file that can be imported, found {error!r}; fix it") from error
    return sys.modules[name]


def method_module(method: str) -> str:
    """Returns the dotted name of one of the package's methods; the digest of a training job's code includes it."""
    return f"{_PACKAGE}.{method}"


def method_section(method: str, plugin: Path | None = None) -> type[Run]:
    """Returns a method's config section.

    Raises:
        ConfigError: the file has no `build_task`, or not one subclass of `Run` whose `method` is the method's name.
    """
    module = load_method(method, plugin)
    sections = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Run) and value.__module__ == module.__name__
    ]
    names = [get_args(section.model_fields["method"].annotation) for section in sections]
    if names != [(method,)] or not hasattr(module, "build_task"):
        raise ConfigError(
            f"{plugin or module.__file__}: expected build_task(context) and one subclass of Run with method: "
            f'Literal["{method}"], found others; see docs/methods.md'
        )
    return sections[0]


def all_sections(plugins: Sequence[str] = ()) -> tuple[type[Run], ...]:
    """Returns the sections of every method, the package's first."""
    outside = plugin_files(plugins)
    return (*map(method_section, builtin_methods()), *(method_section(*entry) for entry in outside.items()))
