"""The config's `tracker`: a program of the user's own that shows the curves of trainings."""

import re
import subprocess
from typing import Literal

from distill.errors import ConfigError

Package = Literal["trackio", "wandb"]
KEYS = ("WANDB_API_KEY", "TRACKIO_WRITE_TOKEN")
"""Environment variables that open the trackers' servers."""
_INSTALL = {"trackio": "--no-deps trackio gradio-client orjson brotli", "wandb": "wandb"}
"""What pip is told, so that it leaves the packages of the lock as they are: trackio 0.43 asks for an older pillow."""
_FIND = "import sys; from importlib.util import find_spec; sys.exit(find_spec(sys.argv[1]) is None)"


def project_of(title: str) -> str:
    """Returns under which project a study's runs stand in a tracker: its title, in letters that each of them takes."""
    return re.sub(r"[^\w .-]+", "-", title).strip()[:100] or "study"


def check_tracker(package: Package | None, python: str) -> None:
    """Refuses to begin what the curves could not be shown of; an interpreter that does not start is not judged here.

    Args:
        package: of the tracker, if there is one.
        python: the interpreter of trainings.

    Raises:
        ConfigError: it does not have the package.
    """
    if not package:
        return
    try:
        done = subprocess.run([python, "-c", _FIND, package], capture_output=True, check=False)
    except OSError:
        return
    if done.returncode:
        raise ConfigError(
            f"tracker: expected the package {package} beside the packages of the lock, found none; install it "
            f"(`{python} -m pip install {_INSTALL[package]}`), or set tracker to null"
        )
