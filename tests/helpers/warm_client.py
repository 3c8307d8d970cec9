"""Stands for `python`: asks a warm server to run the command, or becomes the real interpreter where none can.

It runs isolated and without site-packages, so it starts in milliseconds.
"""

import json
import os
import signal
import socket
import sys

FOLDER = os.path.dirname(os.path.abspath(__file__))
PREPARE = "WARM_PREPARE"
SERVER = "warm_server.py"
# What programs read when they need it, and not when they are loaded.
LATE = {"PATH", "PWD", "OLDPWD", "SHLVL", "_", "TMPDIR", "TMP", "TEMP", "TEMPDIR", "TERM", "TZ"}
LATE |= {"NO_PROXY", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "OPENAI_API_KEY", "JUDGE_KEY"}
# Set by Snakemake for each job, to what OMP_NUM_THREADS is, and by distill.launch for each process.
LATE |= {f"{name}_NUM_THREADS" for name in ("GOTO", "OPENBLAS", "MKL", "NUMEXPR")} | {"VECLIB_MAXIMUM_THREADS"}
LATE |= {"RANK", "WORLD_SIZE"}
FAMILIES = ("WARM_", "PYTEST_", "DISTILL_", "LOCAL_", "CUDA_")
MODULES = {"snakemake": "snakemake", "distill.launch": "stages"}


def server_of(arguments: list[str]) -> str:
    """Returns the name of the server that has loaded what a command line needs; empty if there is none."""
    if arguments[:1] == ["-m"]:
        return MODULES.get(arguments[1], "")
    return "stages" if arguments and arguments[0].endswith(".py") else ""


def early(name: str, environment: dict[str, str]) -> dict[str, str]:
    """Returns the variables that may matter to what a server loaded; Snakemake loads nothing of the hub's."""
    families = (*FAMILIES, "HF_") if name == "snakemake" else FAMILIES
    return {key: value for key, value in environment.items() if key not in LATE and not key.startswith(families)}


def main() -> int:
    """Returns the exit code of the command."""
    environment, unbuffered = dict(os.environ), sys.argv[1:2] == ["-u"]
    arguments = sys.argv[1 + unbuffered :]
    name = server_of(arguments)
    place = f"{FOLDER}/{name}"
    if not (name and os.path.exists(place)):
        return real()
    with open(f"{place}.json", encoding="utf-8") as file:
        if json.load(file) != early(name, environment):
            return real()
    request = {"arguments": arguments, "folder": os.getcwd(), "environment": environment, "unbuffered": unbuffered}
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(place)
        message = json.dumps(request).encode() + b"\n"
        sent = socket.send_fds(server, [message], [0, 1, 2])
        server.sendall(message[sent:])
        code = int(server.recv(16))
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


def real() -> int:
    """Becomes the interpreter; where something is to be called first, by way of the server's own script."""
    first = [SERVER, "--alone"] if PREPARE in os.environ else []
    os.execv(sys.executable, [sys.executable, *first, *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
