"""Stopping on request: SIGTERM, SIGINT and SIGUSR1 end a stage with one line, where its saved work is whole.

Batch systems send SIGTERM or SIGUSR1 some time before they kill; a terminal sends SIGINT. A stage ends at once, unless
it is in a part that must be finished first: that part is `deferred`, and looks with `check` where it can stop. The exit
code is 128 + the signal's number, as a shell reports it: 143, 130, 138.
"""

import ctypes
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from distill.errors import DistillError

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>

_pending = 0
_is_deferred = False


class Stopped(DistillError):
    """The stage was asked to stop, and did; what it saved is whole.

    Attributes:
        exit_code: 128 + the number of the signal.
    """

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}; the same command goes on from what is saved")
        self.exit_code = 128 + number


def requested() -> int:
    """Returns the number of the first signal that asked to stop, 0 if none did."""
    return _pending


def check() -> None:
    """Raises Stopped if a signal asked to stop."""
    if _pending:
        raise Stopped(_pending)


@contextmanager
def deferred() -> Iterator[None]:
    """Within, a request to stop waits for the next `check`; it stays pending where none is made."""
    global _is_deferred
    before, _is_deferred = _is_deferred, True
    try:
        yield
    finally:
        _is_deferred = before


@contextmanager
def watched() -> Iterator[None]:
    """Within, the signals of this module are requests to stop; repeated ones change nothing. For the main thread."""
    global _pending

    def request(number: int, _: object) -> None:
        global _pending
        first, _pending = not _pending, _pending or number
        if first and not _is_deferred:
            raise Stopped(number)

    earlier = {number: signal.signal(number, request) for number in SIGNALS}
    try:
        yield
    finally:
        _pending = 0
        for number, handler in earlier.items():
            signal.signal(number, handler)


def die_with(parent: int) -> None:
    """Ends this process when the one that started it ends, however that does."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before this was asked for
        os.kill(os.getpid(), signal.SIGKILL)
