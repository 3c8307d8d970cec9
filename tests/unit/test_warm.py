"""Forks of a warm server are, to whoever starts them, the processes that they stand for."""

import subprocess
import sys

import pytest

from warm import ENVIRONMENT, prepared, warm_python

SCRIPTS = {
    "what it finds": "import os, sys; print(sys.argv, __name__, os.getcwd(), os.environ['PYTEST_MINE'], sys.path)",
    "standard input": "print(input()[::-1])",
    "order of streams": "import sys; print('a', flush=True); print('b', file=sys.stderr); print('c')",
    "an exit code": "import sys; sys.exit(3)",
    "no exit code": "import sys; sys.exit()",
    "a last word": "import sys; sys.exit('error: fix it')",
    "an exception": "1 / 0",
    "a signal": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "an end": "import atexit, threading, time; atexit.register(print, 'z'); threading.Timer(0.05, print, 'y').start()",
    "a child": "import subprocess; print(subprocess.run(['sh', '-c', 'echo $PYTEST_MINE; exit 4']).returncode)",
    "a module beside it": "import beside; print(beside.__name__)",
}


def run(python, folder, *arguments, **variables):
    done = subprocess.run(
        [python, *arguments],
        cwd=folder,
        env=ENVIRONMENT | {"PYTHONPATH": "/first:/second", "PYTEST_MINE": "x"} | variables,
        input="abc\n",
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr.splitlines()[-1:]


@pytest.mark.parametrize("case", SCRIPTS)
def test_a_fork_is_the_process_that_it_stands_for(case, tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "beside.py").write_text("")
    (tmp_path / "code" / "script.py").write_text(SCRIPTS[case])
    command = (tmp_path, "code/script.py", "one", "--two=3")
    assert run(warm_python("stages"), *command) == run(sys.executable, *command)


def say_so():
    print("prepared")


def test_it_is_warm_where_its_surroundings_are_the_servers(tmp_path):
    (tmp_path / "script.py").write_text("import sys; print('torch' in sys.modules)")
    python = warm_python("stages")
    assert run(python, tmp_path, "script.py")[1] == "True\n"
    assert run(python, tmp_path, "script.py", HF_HOME=str(tmp_path))[1] == "False\n"
    assert run(python, tmp_path, "-c", "import sys; print('torch' in sys.modules)")[1] == "False\n"
    assert run(python, tmp_path, "script.py", **prepared(say_so))[1] == "prepared\nTrue\n"
    cold = {"HF_HOME": str(tmp_path)}
    assert run(python, tmp_path, "script.py", **cold, **prepared(say_so))[1] == "prepared\nFalse\n"
