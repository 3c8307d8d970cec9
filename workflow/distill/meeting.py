"""Where the processes of one group meet: what `distill.launch` tells them, and no part of the launcher itself."""

MEETING = "DISTILL_MEETING"
"""Environment variable with the file in which the processes of a group meet."""
