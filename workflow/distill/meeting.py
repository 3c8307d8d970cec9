"""Where the processes of one group meet: what `distill.launch` tells them, and no part of the launcher itself."""

import os

MEETING = "DISTILL_MEETING"
"""Environment variable with the place where the processes of a group meet: a file, or `tcp://HOST:PORT` of several
machines."""


def leave_other_groups() -> None:
    """Forgets the group that another launcher, of a pod or a notebook, has put this process into: it is none of ours,
    whose further processes would be waited for.
    """
    if MEETING not in os.environ:
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
            os.environ.pop(name, None)
