"""What this machine has."""

from __future__ import annotations

import functools
import os


def cores_here() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache  # It stays, and each report has it.
def memory_mb() -> float:
    """Return the memory of this machine in MB (10^6 bytes)."""
    import psutil

    return float(psutil.virtual_memory().total) / 1e6
