"""Memory that PyTorch runs out of, and how the C library hands it out."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from toolkit.engines.jobs import OutOfMemory

T = TypeVar("T")

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
KEPT_BYTES = 1 << 30
GIVEN_BACK_BYTES = 1 << 17


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


@contextmanager
def loading_memory() -> Iterator[None]:
    """Have the C library give large blocks back while a model is loaded, and from then on keep them.

    glibc's own thresholds rise as it goes. While loading, what is freed of SmolLM2's weights would leave
    holes of 200 MB among those that stay. A model at work frees and takes blocks of megabytes for each layer;
    each of them would be mapped anew, and the system fills it with zeros page by page.
    """
    _set_malloc({_MMAP_THRESHOLD: GIVEN_BACK_BYTES})
    try:
        yield
    finally:
        _set_malloc({_MMAP_THRESHOLD: KEPT_BYTES, _TRIM_THRESHOLD: KEPT_BYTES})


def _set_malloc(settings: Mapping[int, int]) -> None:
    """Set glibc's malloc; other systems are left as they are."""
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        for setting, value in settings.items():
            mallopt(setting, value)
