"""Where the processes of one group meet: what `distill.launch` tells them, and no part of the launcher itself."""

MEETING = "DISTILL_MEETING"
"""Environment variable with the place where the processes of a group meet: a file, or `tcp://HOST:PORT` of several
machines."""
