"""A Python with libraries loaded, which runs each script or module that it is asked for in a fork of itself.

What runs there finds the arguments, folder, environment, streams and import path of a process of its own, and ends as
one does: threads are joined, exit handlers run, the exit code is passed on. Run as `warm_server.py SOCKET MODULE...`;
it ends when its standard input does.
"""

import atexit
import gc
import importlib
import json
import os
import pickle
import runpy
import select
import signal
import socket
import sys
import tempfile
import threading
import time
from contextlib import suppress

from warm_client import PREPARE


def _request(connection: socket.socket) -> tuple[dict, list[int]]:
    message, streams, _, _ = socket.recv_fds(connection, 1 << 16, 3)
    while not message.endswith(b"\n"):
        message += connection.recv(1 << 16)
    return json.loads(message), streams


def _become(request: dict, streams: list[int], path: list[str]) -> None:
    """Makes this fork the process that was asked for."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    tempfile.tempdir = None
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    sys.stdout.reconfigure(write_through=request["unbuffered"] or bool(os.environ.get("PYTHONUNBUFFERED")))
    sys.argv = request["arguments"]
    here = os.getcwd() if sys.argv[0] == "-m" else os.path.dirname(os.path.realpath(sys.argv[0]))
    sys.path[:] = [here, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), *path]
    importlib.invalidate_caches()


def _run() -> int:
    """Runs what `sys.argv` names; returns the exit code that the interpreter would give it."""
    try:
        if prepare := os.environ.pop(PREPARE, None):
            pickle.loads(bytes.fromhex(prepare))()
        if sys.argv[0] == "-m":
            del sys.argv[0]
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, int | None):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        return 1
    return 0


def _fork(request: dict, streams: list[int], path: list[str]) -> int:
    """Forks the process that is asked for; returns its number."""
    child = os.fork()
    if child == 0:
        _become(request, streams, path)
        code = _run()
        threading._shutdown()
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code & 0xFF)
    for stream in streams:
        os.close(stream)
    return child


def _serve(listener: socket.socket, path: list[str]) -> None:
    """Forks a process for each connection and tells there how it ended; one whose connection is closed is killed."""
    children: dict[int, tuple[int, socket.socket]] = {}  # by the descriptor that is ready at their end
    while True:
        connections = {connection: child for child, connection in children.values()}
        ready = select.select([0, listener, *children, *connections], [], [])[0]
        if 0 in ready:
            return
        if listener in ready:
            connection, _ = listener.accept()
            child = _fork(*_request(connection), path)
            children[os.pidfd_open(child)] = child, connection
        for end in children.keys() & ready:
            child, connection = children.pop(end)
            # Waited for, so that what it cost is counted as this process's.
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            os.close(end)
            with connection, suppress(OSError):
                connection.sendall(str(code).encode())
            connections.pop(connection)
        for connection in connections.keys() & ready:
            os.kill(connections[connection], signal.SIGKILL)


def main() -> None:
    """Loads the modules and serves."""
    place, *modules = sys.argv[1:]
    path = sys.path[1:]
    for name in modules:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen(64)
        print("ready", flush=True)
        _serve(listener, path)
    os._exit(0)  # libraries complain of what is set aside


def alone() -> int:
    """Returns the exit code of the command behind `--alone`, which runs in this very process."""
    sys.argv = sys.argv[2:]
    sys.path[0] = os.path.dirname(os.path.realpath(sys.argv[0]))
    return _run()


if __name__ == "__main__":
    sys.exit(alone() if sys.argv[1:2] == ["--alone"] else main())
