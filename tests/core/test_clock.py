"""ManualClock: time that moves only when it is told to."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from toolkit.clock import ManualClock


def test_sleep_moves_the_clock_by_what_was_asked() -> None:
    """Code that waits ends at once, and how long it would have waited can be read off."""
    clock = ManualClock(start=5.0, epoch=1000.0)
    clock.sleep(2.5)
    clock.sleep(-1.0)
    assert (clock.now(), clock.epoch()) == (7.5, 1002.5)


def test_sleep_that_is_woken_before_it_begins_takes_no_time() -> None:
    """An event that is set already ends a wait at once, as it does on the machine's clock."""
    clock, wake = ManualClock(), threading.Event()
    wake.set()
    clock.sleep(10.0, wake)
    assert clock.now() == 0.0


def test_sleeps_of_many_threads_add_up() -> None:
    """No advance is lost when threads move the clock together."""
    clock = ManualClock()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: clock.sleep(1.0), range(500)))
    assert clock.now() == 500.0


def test_clock_does_not_run_backwards() -> None:
    """A monotonic clock refuses a step back; code under test could otherwise measure negative times."""
    with pytest.raises(ValueError, match="backwards"):
        ManualClock().advance(-1.0)
