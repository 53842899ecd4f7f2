"""Time as a parameter: everything that waits or measures is given a ``Clock``."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """What reads time and waits.

    ``now`` is monotonic and has an arbitrary zero; ``epoch`` is seconds since 1970. Both are in seconds.
    """

    def now(self) -> float:
        """Return monotonic seconds."""
        ...

    def epoch(self) -> float:
        """Return seconds since 1970-01-01 UTC."""
        ...

    def sleep(self, seconds: float, wake: threading.Event | None = None) -> None:
        """Wait ``seconds``, or until ``wake`` is set."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        """Return monotonic seconds."""
        return time.perf_counter()

    def epoch(self) -> float:
        """Return seconds since 1970-01-01 UTC."""
        return time.time()

    def sleep(self, seconds: float, wake: threading.Event | None = None) -> None:
        """Wait ``seconds``, or until ``wake`` is set."""
        if seconds <= 0:
            return
        if wake is None:
            time.sleep(seconds)
        else:
            wake.wait(seconds)


class ManualClock:
    """A clock that moves only when it is told to: for tests, scripts and simulations.

    ``sleep`` moves it on by the time asked for, so that code which waits ends at once and the time
    it would have taken can be read off. Safe to share between threads; sleeps of several threads add
    up as if they came one after another.
    """

    def __init__(self, start: float = 0.0, epoch: float = 1_700_000_000.0) -> None:
        self._now = start
        self._epoch_at_zero = epoch - start
        self._lock = threading.Lock()

    def now(self) -> float:
        """Return the time that the clock was moved to, in seconds."""
        with self._lock:
            return self._now

    def epoch(self) -> float:
        """Return the same time as seconds since 1970-01-01 UTC."""
        return self._epoch_at_zero + self.now()

    def advance(self, seconds: float) -> None:
        """Move the clock on by ``seconds`` (not negative)."""
        if seconds < 0:
            raise ValueError(f"a clock does not run backwards: {seconds}")
        with self._lock:
            self._now += seconds

    def sleep(self, seconds: float, wake: threading.Event | None = None) -> None:
        """Move the clock on by ``seconds`` and return at once."""
        if seconds > 0 and not (wake is not None and wake.is_set()):
            self.advance(seconds)
