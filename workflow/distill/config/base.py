"""What every config section shares: strict, frozen models, and paths that may name environment variables."""

import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from distill.errors import ConfigError

Revision = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]


class Section(BaseModel):
    """A config section: unknown keys are errors, and so are NaN and infinity; values cannot change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def expand_path(path: str, key: str) -> Path:
    """Returns a configured path with `${NAME}` taken from the environment and `~` expanded.

    The config and the records keep the unexpanded form, so that no personal path enters them.

    Raises:
        ConfigError: an environment variable is not set, or `~NAME` is nobody's home.
    """

    def value(match: re.Match) -> str:
        if match[1] not in os.environ:
            raise ConfigError(
                f"{key}: expected the environment variable {match[1]} (in {path}), found it unset; "
                f"run with {match[1]}=/path/to/folder"
            )
        return os.environ[match[1]]

    try:
        return Path(re.sub(r"\$\{(\w+)\}", value, path)).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{key}: expected a path, found nobody's home in {path}; correct the path") from error
