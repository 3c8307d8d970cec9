"""Checks the places that a study names before any job is planned: Snakemake's own errors tell neither key nor fix."""

import os
from pathlib import Path

from distill.config.base import expand_path
from distill.config.given_models import FolderModel
from distill.config.keys import config_key
from distill.config.preferences import FilePairs
from distill.config.sources import FileSource
from distill.errors import ConfigError
from distill.study.parts import sources_of
from distill.study.study import Study


def check_places(study: Study) -> None:
    """Checks that each named file or folder is there and that the results folder can be written.

    Base models are checked by their own stage, since not every study needs both; here only their variables are.

    Raises:
        ConfigError: an environment variable in a path is not set, a place is absent, or results cannot be written.
    """
    for role in ("teacher", "student"):
        model = getattr(study.models, role)
        if isinstance(model, FolderModel):
            expand_path(model.path, f"models.{role}.path")
    named = {
        f"{config_key(name)}.path": source.path
        for name, source in sources_of(study).items()
        if isinstance(source, FileSource)
    }
    if study.preferences and isinstance(pairs := study.preferences.pairs, FilePairs):
        named |= {f"preferences.pairs.{name}": getattr(pairs, name) for name in ("train", "test")}
    named |= {f"external.{name}": path for name, path in study.external.model_dump().items() if path}
    for key, path in named.items():
        if not (place := expand_path(path, key)).exists():
            raise ConfigError(f"{key}: expected a file or folder, found none at {place}; correct the path")
    results = Path(study.results).absolute()
    nearest = next(place for place in (results, *results.parents) if place.exists())
    if not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)):
        found = "without write permission" if nearest.is_dir() else "which is a file"
        raise ConfigError(
            f"results: expected a folder that can be made and written, found {nearest} {found}; "
            "change it or set results to a folder of yours"
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
