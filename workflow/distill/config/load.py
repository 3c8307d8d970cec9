"""Loads a study from a config mapping; every mistake becomes one line with the key's path."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from distill.config.study import Study
from distill.errors import ConfigError


def _describe(error: dict) -> str:
    # Pydantic puts the tag of a discriminated union into the path; keys of the file never contain one there.
    tags = {"world", "file", "hub", "split", "folder", "scratch", "pruned", "sft", "bd"}
    location = list(error["loc"])
    path = ".".join(
        str(part) for index, part in enumerate(location) if not (index and part in tags and _is_tag(location, index))
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
    return f"{place}{message[0].lower() + message[1:]}, found {found!r} ({type(found).__name__}); mend the value"


def _is_tag(location: list, index: int) -> bool:
    """A run named `sft` is a key (after `runs`), the `sft` behind a run's name is a tag."""
    return location[index - 1] != "runs" and location[index - 1] != "evaluation"


def load_study(config: Mapping[str, Any]) -> Study:
    """Returns the checked study of a config mapping; keys left out take the embedded study's values.

    Raises:
        ConfigError: an unknown key, a wrong type or an impossible combination; one line with the key's path.
    """
    try:
        return Study.model_validate(config)
    except ValidationError as error:
        # A misspelt key may be missing as well, under its right name; the misspelling is what helps.
        first = min(error.errors(), key=lambda entry: entry["type"] != "extra_forbidden")
        raise ConfigError(_describe(first)) from error
