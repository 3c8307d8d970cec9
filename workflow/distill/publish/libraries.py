"""The libraries of the audit environment, which the default environment lacks."""

import sys
from importlib import import_module
from types import ModuleType

from distill.errors import DistillError


def audit_library(name: str) -> ModuleType:
    """Imports a module of a library that envs/audit.lock lists.

    Raises:
        DistillError: this Python lacks the library.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise DistillError(
            f"{sys.executable}: expected the audit environment with {name.split('.')[0]}, found another; "
            "run `make audit-env` and give the same command to .venv-audit/bin/python"
        ) from error
