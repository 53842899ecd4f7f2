"""Memory that PyTorch runs out of, and how the C library hands it out."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import TypeVar

from toolkit.engines.jobs import OutOfMemory

T = TypeVar("T")

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
KEPT_BYTES = 1 << 30


def watching_memory(work: Callable[[], T]) -> T:
    """Return what some work returns, with PyTorch's errors of memory turned into ``OutOfMemory``.

    A function and not a context manager: there the original error would be the context of the new one, and
    its traceback would hold on to the very tensors that did not fit.

    Raises
    ------
    OutOfMemory
    """
    import torch

    try:
        return work()
    except RuntimeError as error:
        # On the processor PyTorch has no class for it; its allocator's name is in the message.
        if not isinstance(error, torch.OutOfMemoryError) and "CPUAllocator" not in str(error):
            raise
        shortage = str(error)
    raise OutOfMemory(shortage)


def keep_freed_memory() -> bool:
    """Ask the C library not to give large blocks back to the system each time that they are freed.

    A model frees and takes blocks of megabytes for each layer; with glibc's own thresholds each of them is
    mapped anew, and the system fills it with zeros page by page. Other systems are left as they are.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, KEPT_BYTES)) and bool(mallopt(_TRIM_THRESHOLD, KEPT_BYTES))
