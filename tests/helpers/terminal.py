"""A terminal in which a command runs, with what a person sees on it: the lines that scrolled away and the screen."""

import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
from collections.abc import Callable
from pathlib import Path

from warm import ENVIRONMENT, warm_python
from workplace import CONFIG, DROPPED, Workplace

WIDTH, HEIGHT = 110, 40
CTRL_C = b"\x03"
_SIGNS = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")


def rendered(text: str) -> str:
    """Returns what a terminal shows of a text that moves the cursor as rich does: up, to the start, erasing a line."""
    lines, row, column = [""], 0, 0
    for number, command, move, words in _SIGNS.findall(text):
        if command == "A":
            row = max(0, row - int(number or 1))
        elif command == "K":
            lines[row] = "" if number == "2" else lines[row][:column]
        elif move == "\r":
            column = 0
        elif move == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif words:
            lines[row] = lines[row].ljust(column)[:column] + words + lines[row][column + len(words) :]
            column += len(words)
    return "\n".join(line.rstrip() for line in lines)


class Terminal:
    """Snakemake on the small study in a terminal of its own, as a user would start it.

    It and its jobs are new processes, which alone hear a key that is pressed; if `warm`, forks as of `Workplace`.
    """

    def __init__(self, place: Workplace, *arguments: str, warm: bool = False):
        # As where `make env` was called in this copy: its package, and so its display, is on Python's path.
        kept = {name: value for name, value in ENVIRONMENT.items() if name not in DROPPED}
        python = warm_python("snakemake", "stages") if warm else Path(sys.executable)
        path = os.pathsep.join([str(python.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
        kept |= {"PATH": path, "TERM": "xterm"}
        kept |= {"PYTHONPATH": str(place.folder / "workflow"), "OMP_NUM_THREADS": "1"}
        command = [python, "-m", "snakemake", "--cores", "2", *arguments, "--configfile", CONFIG]
        self._text = b""
        self._process, self._stream = pty.fork()
        if self._process == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
            os.chdir(place.folder)
            os.execve(python, command, kept)

    @property
    def screen(self) -> str:
        """All lines so far, as they stand."""
        return rendered(self._text.decode(errors="replace"))

    def _take(self, size: int) -> bool:
        """Takes in at most so many bytes more; returns whether any came before the command's end."""
        assert select.select([self._stream], [], [], 300)[0], f"nothing more was shown:\n{self.screen}"
        try:
            chunk = os.read(self._stream, size)
        except OSError:  # so Linux says that the command has ended
            chunk = b""
        self._text += chunk
        return bool(chunk)

    def read(self, until: Callable[[str], object]) -> str:
        """Returns the screen as soon as it is as wanted, if only for a moment, or when the command ends."""
        while not until(self.screen) and self._take(128):
            pass
        return self.screen

    def press(self, key: bytes) -> None:
        """Presses a key."""
        os.write(self._stream, key)

    def end(self) -> tuple[int, str]:
        """Returns the exit code and the last screen once the command has ended."""
        while self._take(1 << 16):
            pass
        code = os.waitstatus_to_exitcode(os.waitpid(self._process, 0)[1])
        os.close(self._stream)
        return code, self.screen
