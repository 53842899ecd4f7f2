"""The search for cycles of garbage: off for a block, and then as it was."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from toolkit.garbage import no_search_for_cycles


class Node:
    """Holds itself."""

    def __init__(self) -> None:
        self.me = self


def test_off_within_and_on_after() -> None:
    """Also where the block fails."""
    with no_search_for_cycles():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(KeyError), no_search_for_cycles():
        raise KeyError
    assert gc.isenabled()


def test_what_was_made_is_old_and_is_found_when_it_is_garbage() -> None:
    """No search over all of it comes at once, and a later one of everything still finds it."""
    gc.collect()
    with no_search_for_cycles():
        made = [Node() for _ in range(10_000)]
    assert gc.get_count()[0] < 1000
    assert any(item is made[0] for item in gc.get_objects(generation=2))
    seen = weakref.ref(made[0])
    made.clear()
    assert seen() is not None
    gc.collect()
    assert seen() is None


def test_what_a_program_froze_stays_frozen() -> None:
    """Servers do so before they fork."""
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        with no_search_for_cycles():
            pass
        assert gc.get_freeze_count() == frozen
    finally:
        gc.unfreeze()


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
