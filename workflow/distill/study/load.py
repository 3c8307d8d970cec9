"""Loads a study from a config mapping; every mistake becomes one line with the key's path."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from distill.config.models import Models
from distill.config.phase1 import Phase1Run
from distill.errors import ConfigError
from distill.files import read_json
from distill.methods.registry import all_sections
from distill.study.embedded import EMBEDDED_RUNS
from distill.study.study import Study, study_type

_SCHEMA = Path(__file__).parents[2] / "config.schema.json"


@cache
def _properties() -> tuple[dict[str, Any], ...]:
    """Returns the properties of every object that the config's schema describes."""

    def within(part: Any) -> Iterator[dict[str, Any]]:
        if isinstance(part, dict) and isinstance(part.get("properties"), dict):
            yield part["properties"]
        for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            yield from within(inner)

    return tuple(within(read_json(_SCHEMA)))


@cache
def _kinds() -> frozenset[str]:
    """Returns the kinds that sections are of."""
    own = (properties["kind"] for properties in _properties() if "kind" in properties)
    return frozenset(kind["const"] for kind in own if "const" in kind)


@cache
def _keys(*sections: str | int) -> frozenset[str]:
    """Returns the keys that a section may have; where it may be of several kinds, those of all sections."""
    model: Any = Study
    for name in map(str, sections):
        field = model.model_fields.get(name) if isinstance(model, type) and issubclass(model, BaseModel) else None
        model = field and field.annotation
    if isinstance(model, type) and issubclass(model, BaseModel):
        return frozenset(model.model_fields)
    return frozenset(key for properties in _properties() for key in properties)


def _meant(word: str, known: Iterable[str]) -> str:
    """Returns the question whether a word is a misspelling of a known one; empty where none is close."""
    close = get_close_matches(word, set(known) - {word}, n=1, cutoff=0.75)
    return f"(did you mean {close[0]}?)" if close else ""


def _describe(error: ErrorDetails) -> str:
    # Pydantic puts the tag of a discriminated union into the path, behind the key whose kind or method it is.
    location = error["loc"]
    path = ".".join(
        str(part)
        for index, part in enumerate(location)
        if not (index > 1 and location[index - 2] == "runs")
        and not (index and part in _kinds() and location[index - 1] != "evaluation")
    )
    place = f"config: {path}: " if path else "config: "
    kind, found = error["type"], error.get("input")
    if kind == "extra_forbidden":
        close = _meant(str(location[-1]), _keys(*location[:-1]))
        return f"{place}unknown key; delete it or see config.yaml for the keys that exist {close}".rstrip()
    if kind == "missing":
        return f"{place}expected a value, found none; add the key"
    message = error["msg"].removeprefix("Value error, ")
    if kind == "value_error":
        return f"{place}{message}"
    if kind.startswith("union_tag"):
        discriminator = error["ctx"]["discriminator"].strip("'")
        tag = found.get(discriminator) if isinstance(found, Mapping) else found
        known = error["ctx"].get("expected_tags", "the kinds in config.yaml")
        close = _meant(str(tag), known.replace("'", "").split(", "))
        if tag is None and isinstance(found, Mapping):  # perhaps it is there, misspelt
            close = next((f"beside {key!r}" for key in found if _meant(str(key), [discriminator])), "")
        return f"config: {path}.{discriminator}: expected one of {known}, found {tag!r} {close}".rstrip()
    return f"{place}{message[0].lower() + message[1:]}, found {found!r} ({type(found).__name__}); fix the value"


_LARGEST = 2**53
"""Whole numbers above it are no settings, and no file format keeps all of them."""
_DEEPEST = 50


def _is_address_of_a_server_alone(text: str) -> bool:
    try:
        found = urlsplit(text)
    except ValueError:
        return False
    return bool(found.hostname) and not (found.username or found.password or found.query or found.fragment)


def _problem(value: Any) -> str | None:
    """Returns what is wrong with a value whatever its key; what may be a secret is not repeated."""
    if isinstance(value, str):
        if not value.strip():
            return "expected a text or null, found an empty text; fill it or leave the key out"
        if any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in value):
            return f"expected one line of text, found {ascii(value)}; take the control characters out"
        if re.match(r"\w+://", value) and not _is_address_of_a_server_alone(value):
            return (
                "expected the address of a server without user, password, query or fragment, found another; addresses "
                "stand in records and pages: give secrets in the environment"
            )
    elif isinstance(value, int) and abs(value) > _LARGEST:
        return "expected a whole number up to 2^53, found a larger one; lower it"
    return None


def _problems(value: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Yields the problems of a config mapping's values, each behind its key."""
    if len(path) > _DEEPEST:
        yield f"config: {'.'.join(path[:3])}: expected a value or a section, found one within another without end"
    elif isinstance(value, Mapping | list):
        for key, entry in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _problems(entry, (*path, str(key)))
    elif found := _problem(value):
        yield f"config: {'.'.join(path)}: {found}"


class _EachKeyOnce(yaml.SafeLoader):
    """YAML in which a mapping may not name a key twice; the last one would count in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} twice", problem_mark=key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def check_config_files(paths: Iterable[Path | str]) -> None:
    """Reads the config files again as YAML, of which JSON is a part: Snakemake's reader takes a key's last value.

    Raises:
        ConfigError: a file is no YAML, or names a key twice; the message starts with file and line.
    """
    for path in map(Path, paths):
        try:
            yaml.load(path.read_bytes(), _EachKeyOnce)
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            mark = getattr(error, "problem_mark", None)
            found = getattr(error, "problem", None) or type(error).__name__
            place = f"{path}:{mark.line + 1}" if mark else str(path)
            raise ConfigError(f"{place}: expected YAML with each key once, found {found}; correct the file") from error


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
        ConfigError: an unknown key, a wrong type, a value that no key may have, or an impossible combination; one line
            with the key's path.
    """
    plugins: list[str] = []
    try:
        if not isinstance(config, Mapping):
            return Study.model_validate(config)
        for problem in _problems(config):
            raise ConfigError(problem)
        given = config.get("plugins")
        plugins = [plugin for plugin in given if isinstance(plugin, str)] if isinstance(given, list) else []
        sections = all_sections(tuple(plugins))
        return study_type(sections).model_validate(_complete(config))
    except ValidationError as error:
        # A misspelt key may be missing as well, under its right name; the misspelling is what helps.
        first = min(error.errors(), key=lambda entry: entry["type"] != "extra_forbidden")
        raise ConfigError(_describe(first)) from error
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        if not plugins:
            raise
        raise ConfigError(
            f"plugins: expected methods whose sections can be checked, found {error!r}; correct {', '.join(plugins)}"
        ) from error
