"""Jobs that wait in a queue run the code and the config that they were planned with, or not at all."""

from collections.abc import Mapping, MutableMapping
from pathlib import Path

from distill.errors import DataError
from distill.files import digest_file, digest_value
from distill.study.study import Study

_SUBMITTED = "DISTILL_SUBMITTED"


def _digest(study: Study, root: Path) -> str:
    """Returns the digest of all that a plan is made of: the config, the workflow's files, plugins and locks."""
    families = study.environments.model_dump().values()
    files = [root / "Snakefile", *(root / family["lock"] for family in families), *map(Path, study.plugins)]
    files += [path for path in sorted((root / "workflow").rglob("*")) if path.suffix in (".py", ".smk")]
    return digest_value({"study": study.model_dump(mode="json"), "files": [digest_file(path) for path in files]})


def note_submitted(study: Study, root: Path, environ: MutableMapping[str, str]) -> None:
    """Hands on, to the jobs that inherit an environment, what they are planned with.

    Args:
        study: the checked config.
        root: folder of the repository.
        environ: the environment.
    """
    environ[_SUBMITTED] = _digest(study, root)


def check_submitted(study: Study, root: Path, environ: Mapping[str, str]) -> None:
    """Checks in a job that code and config are those that it was planned with.

    Raises:
        DataError: they are others.
    """
    if environ.get(_SUBMITTED, found := _digest(study, root)) != found:
        raise DataError(
            "config and code: expected those that this job was planned with, found them changed since; "
            "start Snakemake again, which plans with the new ones"
        )
