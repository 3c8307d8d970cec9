"""`python` for tests that start many processes: forks of servers that have loaded the large libraries once.

    subprocess.run([warm_python("stages"), "script.py", ...], env=ENVIRONMENT | {...})

A command that a server cannot run as a process of its own would becomes one: `python -c`, another environment.
"""

import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from warm_client import early
from warm_server import PREPARE

HERE = Path(__file__).parent
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
"""The environment of the tests before a library that they load writes into it; that of the servers."""
SERVERS = {
    "snakemake": ("snakemake.cli", "snakemake.report.html_reporter", "smart_open", "pandas"),
    "stages": ("warm_stages",),
}
_servers: dict[str, subprocess.Popen] = {}


@cache
def _folder() -> tempfile.TemporaryDirectory:
    """Returns the folder of this process's servers, with the client that stands for `python`."""
    folder = tempfile.TemporaryDirectory(prefix="warm-")
    client = Path(folder.name) / "python"
    text = (HERE / "warm_client.py").read_text().replace('"warm_server.py"', repr(str(HERE / "warm_server.py")))
    client.write_text(f"#!{sys.executable} -IS\n{text}")
    client.chmod(0o755)
    return folder


def _start(name: str) -> None:
    """Starts a server."""
    place = f"{_folder().name}/{name}"
    command = [sys.executable, HERE / "warm_server.py", place, *SERVERS[name]]
    _servers[name] = server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT)
    assert server.stdout.readline() == b"ready\n", f"the server {name} did not start"
    Path(f"{place}.json").write_text(json.dumps(early(name, ENVIRONMENT)))


def warm_python(*names: str) -> Path:
    """Starts the named servers, unless they run, and returns the command that stands for `python`."""
    for name in names:
        if name not in _servers:
            _start(name)
    return Path(_folder().name) / "python"


def stop_servers() -> None:
    """Ends the servers; waits for them, so that what they cost is counted as this process's."""
    while _servers:
        _servers.popitem()[1].communicate()


def prepared(prepare: Callable[[], None] | None) -> dict[str, str]:
    """Returns the environment in which a module's function is called in the process before the command runs."""
    return {PREPARE: pickle.dumps(prepare).hex(), "PYTHONPATH": os.pathsep.join(sys.path)} if prepare else {}
