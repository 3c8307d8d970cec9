"""Work in pieces that the processes of a job share: each piece is a sealed file, and one of them makes it.

A piece does not depend on who makes it: any number of processes leaves the same bytes, and may go on where another one
was killed.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from distill.sealed_files import is_whole
from distill.stopping import check

_POLL_S = 0.1


@dataclass(frozen=True)
class Share:
    """What a process makes of a job's pieces: every `world`-th one.

    Attributes:
        rank: number of the process; the first, 0, puts the pieces together.
        world: processes of the job.
    """

    rank: int = 0
    world: int = 1

    def has(self, number: int) -> bool:
        """Returns whether a piece is this process's to make."""
        return number % self.world == self.rank

    def wait_for(self, path: Path) -> None:
        """Returns once another process's piece is whole. `distill.launch` ends this process where that one fails."""
        while not is_whole(path):
            check()
            time.sleep(_POLL_S)


ALONE = Share()
