"""Seconds, memory and the machine's matrix speed, and tables of them."""

import ctypes
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import numpy as np
import torch

HEAP = "glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=17179869184:glibc.malloc.hugetlb=1"
"""Settings of glibc under which freed blocks of any size are used again: without them most of the official step's time
can go into page faults of its temporary tensors."""
_TUNABLES = "GLIBC_TUNABLES"
_PROBE_BYTES, _PROBES, _FEW_FAULTS = 2**26, 32, 8
_LARGER_BLOCK = 2**18
MATRIX = {"cpu": 2048, "cuda": 8192}


def reuse_heap() -> None:
    """Starts this script again with a heap that is reused; returns once it is.

    Raises:
        SystemExit: the settings have no effect.
    """
    if os.environ.get(_TUNABLES) != HEAP:
        os.environ[_TUNABLES] = HEAP
        os.execv(sys.executable, sys.orig_argv)
    for _ in range(_PROBES):  # the heap grows for a while before every block finds its place
        before = page_faults()
        torch.ones(_PROBE_BYTES, dtype=torch.uint8)
        found = page_faults() - before
    if found > _FEW_FAULTS:
        raise SystemExit(
            f"{_TUNABLES}: expected at most {_FEW_FAULTS} page faults when {_PROBE_BYTES} bytes are taken again, found "
            f"{found}; run on Linux with glibc 2.35 or newer"
        )


def page_faults() -> int:
    """Returns this process's page faults so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def seconds(work: Callable[[], object], device: str) -> float:
    """Returns the CPU seconds of all threads that `work` took, or on a GPU the seconds between its first and last
    kernel.
    """
    if device == "cpu":
        start = time.process_time()
        work()
        return time.process_time() - start
    events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
    events[0].record()
    work()
    events[1].record()
    torch.cuda.synchronize()
    return events[0].elapsed_time(events[1]) / 1000


def peak_bytes(work: Callable[[], object], device: str) -> int:
    """Returns the largest memory during `work` above what was held before it."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - before
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    before = _status_bytes("VmRSS")
    work()
    return _status_bytes("VmHWM") - before


def _status_bytes(name: str) -> int:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) * 1024


def return_freed_blocks() -> None:
    """Lets the processes started from here on give every larger block back when it is freed.

    Their peak is then what they need, whatever glibc would have kept for later.
    """
    os.environ[_TUNABLES] = f"glibc.malloc.mmap_threshold={_LARGER_BLOCK}"


def matmul_speed(device: str, dtype: torch.dtype) -> float:
    """Returns the floating-point operations a (CPU) second of one large square matrix product."""
    size = MATRIX[device]
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / seconds(lambda: left @ right, device)


def print_header(device: str, threads: int, columns: Sequence[str]) -> None:
    """Prints where and when, as a remark, and the columns of the measurements that `print_row` adds."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    cpu = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    machine = f"{len(cpu)} x {cpu[0]}" if device == "cpu" else torch.cuda.get_device_name()
    print(
        f"# {date.today()}, commit {commit}, {machine}, {platform.system()} {platform.machine()}, "
        f"torch {torch.__version__}, {threads} thread{'s' * (threads > 1)}"
    )
    print(",".join([*columns, "unit", "n", "p20", "p50", "p80"]), flush=True)


def print_row(labels: Sequence[object], unit: str, values: Sequence[float]) -> None:
    """Prints one measurement: how often it was taken, and three quantiles."""
    quantiles = (f"{value:.5g}" for value in np.quantile(values, [0.2, 0.5, 0.8]))
    print(",".join([*map(str, labels), unit, str(len(values)), *quantiles]), flush=True)
