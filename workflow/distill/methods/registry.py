"""Finds a method's module by name and imports no other method, so that an edit of one reruns only its own runs."""

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distill.training.task import Task

PACKAGE = "distill.methods"


def method_module(method: str) -> str:
    """Returns the dotted name of a method's module; the digest of a training job's code includes it."""
    return f"{PACKAGE}.{method}"


def load_method(method: str) -> "Callable[..., Task]":
    """Returns the method's `build_task(context) -> Task`."""
    return importlib.import_module(method_module(method)).build_task
