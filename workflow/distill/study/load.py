"""Loads a study from a config mapping; every mistake becomes one line with the key's path."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from distill.config.models import Models
from distill.config.phase1 import Phase1Run
from distill.errors import ConfigError
from distill.methods.registry import all_sections
from distill.study.embedded import EMBEDDED_RUNS
from distill.study.study import Study, study_type


def _describe(error: ErrorDetails) -> str:
    # Pydantic puts the tag of a discriminated union into the path, behind the key whose kind or method it is.
    kinds = {"world", "sums", "file", "hub", "split", "preferences", "folder", "scratch", "pruned"}
    location = error["loc"]
    path = ".".join(
        str(part)
        for index, part in enumerate(location)
        if not (index > 1 and location[index - 2] == "runs")
        and not (index and part in kinds and location[index - 1] != "evaluation")
    )
    place = f"config: {path}: " if path else "config: "
    kind, found = error["type"], error.get("input")
    if kind == "extra_forbidden":
        return f"{place}unknown key; delete it or see config.yaml for the keys that exist"
    if kind == "missing":
        return f"{place}expected a value, found none; add the key"
    message = error["msg"].removeprefix("Value error, ")
    if kind == "value_error":
        return f"{place}{message}"
    if kind.startswith("union_tag"):
        discriminator = error["ctx"]["discriminator"].strip("'")
        tag = found.get(discriminator) if isinstance(found, Mapping) else found
        known = error["ctx"].get("expected_tags", "the kinds in config.yaml")
        return f"config: {path}.{discriminator}: expected one of {known}, found {tag!r}"
    return f"{place}{message[0].lower() + message[1:]}, found {found!r} ({type(found).__name__}); fix the value"


def _merged(base: Any, changes: Any) -> Any:
    """Returns a config value with changes on top, mappings key by key."""
    if not (isinstance(base, Mapping) and isinstance(changes, Mapping)):
        return changes
    return {**base, **{key: _merged(base.get(key), value) for key, value in changes.items()}}


def _other_architectures(models: Any) -> dict[str, Any]:
    """Returns the further students that `models.further_architectures` stands for."""
    models = {**Models().model_dump(), **models} if isinstance(models, Mapping) else {}
    names, student = models.get("further_architectures"), models.get("student")
    if not (isinstance(names, list) and isinstance(student, Mapping) and student.get("kind") == "scratch"):
        return {}
    return {name: {"model": {**student, "architecture": name}} for name in names if isinstance(name, str)}


def _complete(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the config with each further student's sections filled up from the study's own."""
    students = config.get("further_students", {})
    if not isinstance(students, Mapping):
        return config
    own = {"phase1": config.get("phase1", Phase1Run().model_dump()), "runs": config.get("runs", EMBEDDED_RUNS)}
    students = {**_other_architectures(config.get("models", {})), **students}
    filled = {name: _merged(own, student) for name, student in students.items()}
    for student in filled.values():
        if isinstance(student, dict) and isinstance(student["runs"], dict):
            student["runs"] = {name: run for name, run in student["runs"].items() if run is not None}
    return {**config, "further_students": filled}


def load_study(config: Mapping[str, Any]) -> Study:
    """Returns the checked study of a config mapping; keys left out take the embedded study's values.

    Raises:
        ConfigError: an unknown key, a wrong type or an impossible combination; one line with the key's path.
    """
    try:
        if not isinstance(config, Mapping):
            return Study.model_validate(config)
        plugins = config.get("plugins")
        sections = all_sections(tuple(plugins) if isinstance(plugins, list) else ())
        return study_type(sections).model_validate(_complete(config))
    except ValidationError as error:
        # A misspelt key may be missing as well, under its right name; the misspelling is what helps.
        first = min(error.errors(), key=lambda entry: entry["type"] != "extra_forbidden")
        raise ConfigError(_describe(first)) from error
