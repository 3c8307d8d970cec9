"""Checks the places that a study names before any job is planned: Snakemake's own errors tell neither key nor fix."""

import os
import re
from pathlib import Path

from distill.config.base import expand_path
from distill.config.given_models import FolderModel
from distill.config.keys import config_key
from distill.config.preferences import FilePairs
from distill.config.sources import FileSource
from distill.errors import ConfigError
from distill.files import MANIFEST, is_study
from distill.study.parts import sources_of
from distill.study.study import Study

_WILDCARD = re.compile(r"\{\s*[.\w]+\s*(,[^{}]*)?\}")
"""What Snakemake takes for a wildcard, wherever it stands in a path."""
_RENAME = "choose another name"


_LONGEST_NAME = 255  # bytes, on the usual file systems


def _check_path(key: str, path: Path) -> None:
    for part in path.parts:
        if len(os.fsencode(part)) > _LONGEST_NAME:
            raise ConfigError(
                f"{key}: expected names of at most {_LONGEST_NAME} bytes, found {part[:20]}...; rename it"
            )
    if found := _WILDCARD.search(str(path)):
        raise ConfigError(
            f"{key}: expected a path without `{found[0]}`, which Snakemake takes for a wildcard, found {path}; rename "
            "it or name it by a link"
        )


def results_folder(study: Study) -> Path:
    """Returns the folder of everything that a study makes: variables and `~` expanded, normalised; relative if it was.

    Raises:
        ConfigError: it is empty, holds the repository, or is the root of the file system or a home; or an environment
            variable in it is not set.
    """
    if not study.results.strip():
        raise ConfigError("results: expected a folder, found an empty name; set it to a new folder, such as results")
    folder = Path(os.path.normpath(expand_path(study.results, "results")))
    place, here = Path(os.path.realpath(folder)), Path(os.path.realpath(Path.cwd()))
    if here.is_relative_to(place) or place == Path.home().resolve() or place.parent == Path("/home"):
        raise ConfigError(
            f"results: expected a folder of its own, found {folder}, which holds other things; set it to a new folder "
            "in it"
        )
    _check_path("results", folder)
    return folder


def named_places(study: Study) -> dict[str, Path]:
    """Returns the files and folders from outside that a study names, by key; base models may not be there."""
    named = {
        f"{config_key(name)}.path": source.path
        for name, source in sources_of(study).items()
        if isinstance(source, FileSource)
    }
    if study.preferences and isinstance(pairs := study.preferences.pairs, FilePairs):
        named |= {f"preferences.pairs.{name}": getattr(pairs, name) for name in ("train", "test")}
    named |= {f"external.{name}": path for name, path in study.external.model_dump().items() if path}
    for role in ("teacher", "student"):
        model = getattr(study.models, role)
        if isinstance(model, FolderModel):
            named[f"models.{role}.path"] = model.path
    return {key: expand_path(path, key) for key, path in named.items()}


def check_store(place: str, results: Path) -> None:
    """Checks how a store is named; whether it answers is seen when it is used.

    Raises:
        ConfigError: it is neither a folder outside of the results nor a bucket. The name is not repeated where it may
            hold a secret.
    """
    if place.startswith("s3://"):
        bucket = place.removeprefix("s3://").partition("/")[0]
        if not bucket or set(place) & set("@?#:%& ") - {":"} or place.count(":") > 1:
            raise ConfigError(
                "store: expected s3://BUCKET/PREFIX without keys, queries and ports, found another form; keys and "
                "endpoint belong into your AWS settings (AWS_ENDPOINT_URL_S3, ~/.aws)"
            )
    elif "://" in place or not place.strip():
        raise ConfigError("store: expected a folder or s3://BUCKET/PREFIX, found another form; correct it")
    elif (found := Path(os.path.realpath(place))).is_relative_to(os.path.realpath(results)):
        raise ConfigError(f"store: expected a folder outside of the results, found {found}; choose another one")


def store_of(study: Study) -> str | None:
    """Returns the store that a study names, a folder's variables and `~` expanded.

    Raises:
        ConfigError: it is neither a folder outside of the results nor a bucket, or a variable in it is not set.
    """
    if study.store is None:
        return None
    place = study.store if "://" in study.store else str(expand_path(study.store, "store"))
    check_store(place, results_folder(study))
    return place


def check_places(study: Study) -> None:
    """Checks that each named file or folder is there, and that Snakemake takes no path for a pattern.

    Base models are checked by their own stage, since not every study needs both; here only their paths are.

    Raises:
        ConfigError: an environment variable in a path is not set, or a place is absent or has such a name.
    """
    for key, place in named_places(study).items():
        _check_path(key, place)
        if not (place.exists() or key.startswith("models.")):
            raise ConfigError(f"{key}: expected a file or folder, found none at {place}; correct the path")
    results = results_folder(study)
    if results.is_symlink() and not results.exists():
        raise ConfigError(
            f"results: expected a folder, found {results} as a link to {os.path.realpath(results)}, which is not "
            "there; make it or take the link away"
        )
    for parent in results.absolute().parents:
        if (parent / MANIFEST).is_file():
            raise ConfigError(
                f"results: expected a folder outside of artifacts, found {results} in {parent}; {_RENAME}"
            )
    if is_study(results.absolute().parent) and not is_study(results) and any(results.glob(f"*/{MANIFEST}")):
        raise ConfigError(f"results: expected a folder of its own, found {results}, a part of a study; {_RENAME}")
    if other := _file_of_others(results):
        raise ConfigError(
            f"results: expected a folder of its own, found {results} with {other}, which no study made; {_RENAME}"
        )
    if not (nearest := _nearest(results)).is_dir():
        raise _no_place_to_write(f"{nearest} which is a file")


def _file_of_others(results: Path) -> str | None:
    """Returns a file in a folder that holds no study, not even one without its state: then nothing is put beside it."""
    if not results.is_dir() or is_study(results) or any(any(results.glob(f"{way}*.prov.json")) for way in ("", "*/")):
        return None
    return next((path.name for path in sorted(results.iterdir()) if path.is_file() and path.name != "README.md"), None)


def check_writable(results: Path) -> None:
    """Checks that the results folder can be made and written, as a run must that does more than look.

    Raises:
        ConfigError: it cannot.
    """
    if not os.access(nearest := _nearest(results), os.W_OK | os.X_OK):
        raise _no_place_to_write(f"{nearest} without write permission")


def _nearest(place: Path) -> Path:
    """Returns the place, or the nearest of its parents that is there."""
    return next(each for each in (place.absolute(), *place.absolute().parents) if each.exists())


def _no_place_to_write(found: str) -> ConfigError:
    return ConfigError(
        f"results: expected a folder that can be made and written, found {found}; change it or set results to a "
        "folder of yours"
    )


def check_locks(study: Study, root: Path) -> None:
    """Checks that each software family's lock is there; its digest is in the key of every job.

    Raises:
        ConfigError: one is not.
    """
    for name, environment in study.environments:
        if not (root / environment.lock).is_file():
            raise ConfigError(
                f"environments.{name}.lock: expected a lock, found none at {root / environment.lock}; correct the path"
            )
