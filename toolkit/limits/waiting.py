"""How a thread waits: for its turn, for a time, and for the lock."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Protocol

from toolkit.clock import Clock, ManualClock
from toolkit.limits.axis import Axis

STOP_LOOK_S = 0.2
"""How often a waiter looks at a plain ``threading.Event`` that stops it; `StopEvent` needs no looking."""


YIELDS = 50
"""How often a thread lets others run before it blocks on a lock; see bench_limiter.py."""


class YieldingLock:
    """A re-entrant lock for decisions of some microseconds, made by many threads.

    A blocked thread is handed the lock of Python's own without being able to run yet: the one that released
    it blocks on it next, and each decision costs a switch of threads. With 32 threads that halves the rate;
    one that lets others run and tries again finds the lock free, and keeps it.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        take = self._lock.acquire
        if take(blocking=False):
            return
        for _ in range(YIELDS):
            time.sleep(0)
            if take(blocking=False):
                return
        take()

    def __exit__(self, *raised: object) -> None:
        self._lock.release()


class StopEvent(threading.Event):
    """An event that calls back when it is set, so that waiters of a limiter end at once without polling."""

    def __init__(self) -> None:
        super().__init__()
        self._callbacks_lock = threading.Lock()
        self._callbacks: dict[Callable[[], None], int] = {}

    def set(self) -> None:
        """Set the event and call everybody who subscribed."""
        super().set()
        with self._callbacks_lock:
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback()

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when the event is set; as often as it subscribed it has to unsubscribe."""
        with self._callbacks_lock:
            self._callbacks[callback] = self._callbacks.get(callback, 0) + 1

    def unsubscribe(self, callback: Callable[[], None]) -> None:
        """Undo one ``subscribe``."""
        with self._callbacks_lock:
            left = self._callbacks.pop(callback, 0) - 1
            if left > 0:
                self._callbacks[callback] = left


class Sleeper(Protocol):
    """Waits until something happens or a time is reached."""

    def wait(self, woken: threading.Event, until: float, axis: Axis, stop: threading.Event) -> None:
        """Return when ``woken`` or ``stop`` is set or ``axis()`` has reached ``until`` (maybe infinity)."""
        ...


class RealSleeper:
    """Waits in real time."""

    def wait(self, woken: threading.Event, until: float, axis: Axis, stop: threading.Event) -> None:
        """Wait; a plain stop event is looked at now and then."""
        longest = threading.TIMEOUT_MAX if isinstance(stop, StopEvent) else STOP_LOOK_S
        while not stop.is_set():
            left = until - axis()
            if left <= 0 or woken.wait(min(left, longest)):
                return


class ManualSleeper:
    """Moves a manual clock instead of waiting: the one who waits for a time makes it come.

    Only the first in line waits for a time, so the clock steps from admission to admission. ``ready`` is
    asked before each step, for tests that first want all waiters in line: it blocks until they are.
    """

    def __init__(self, clock: ManualClock, ready: Callable[[], object] = lambda: None) -> None:
        self._clock = clock
        self._ready = ready

    def wait(self, woken: threading.Event, until: float, axis: Axis, stop: threading.Event) -> None:
        """Step to exactly ``until``, or block until woken if that never comes."""
        self._ready()
        if math.isinf(until):
            woken.wait()
            return
        while not woken.is_set() and not stop.is_set():
            now = axis()
            if now >= until:
                return
            # The clock adds in floats; what rounding leaves is stepped over by the least that moves it.
            self._clock.advance(max(until - now, math.ulp(self._clock.now())))


def sleeper_for(clock: Clock) -> Sleeper:
    """Return what waits on a clock."""
    return ManualSleeper(clock) if isinstance(clock, ManualClock) else RealSleeper()
