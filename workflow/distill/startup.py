"""Start-up, the imports of large libraries and the start of an engine: how long it takes, and how it takes less."""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager

_seconds = 0.0


@contextmanager
def starting() -> Iterator[None]:
    """Counts the CPU seconds inside as start-up, and keeps the garbage collector out of it.

    Imports leave a million objects that live as long as the process. Looking for garbage among them again and again
    takes a sixth of their time, so it is not done meanwhile, and they are set aside for good.
    """
    global _seconds
    before = time.process_time()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        _seconds += time.process_time() - before


def startup_seconds() -> float:
    """Returns the CPU seconds that this process spent inside `starting`."""
    return _seconds
