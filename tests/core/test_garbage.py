"""The search for cycles of garbage: off for a block, and then as it was."""

from __future__ import annotations

import gc
import threading

import pytest

from toolkit.garbage import no_search_for_cycles


def test_off_within_and_on_after() -> None:
    """Also where the block fails."""
    with no_search_for_cycles():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(KeyError), no_search_for_cycles():
        raise KeyError
    assert gc.isenabled()


def test_whoever_switched_it_off_finds_it_off() -> None:
    """A program may do without it."""
    gc.disable()
    try:
        with no_search_for_cycles():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_blocks_that_overlap() -> None:
    """Whichever of two threads ends last, it is on again after both."""
    for first in (0, 1):
        ends = [threading.Event(), threading.Event()]
        begun = threading.Barrier(3)

        def block(end: threading.Event, begun: threading.Barrier = begun) -> None:
            with no_search_for_cycles():
                begun.wait(10)
                end.wait(10)

        threads = [threading.Thread(target=block, args=(end,)) for end in ends]
        for thread in threads:
            thread.start()
        begun.wait(10)
        for which in (first, 1 - first):
            ends[which].set()
            threads[which].join(10)
        assert gc.isenabled()
