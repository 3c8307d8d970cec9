"""The memory that an engine's process has held at most."""

import resource

import torch


def peak_memory(device: str) -> int:
    """Returns bytes: of GPUs what torch allocated, of a CPU all that the process had in memory."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
