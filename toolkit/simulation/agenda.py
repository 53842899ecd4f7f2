"""Time that is moved from event to event: a clock that nobody waits on, and the agenda that moves it."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable

from toolkit.garbage import no_search_for_cycles

EPOCH = 1_700_000_040
"""Where simulated time begins, in epoch seconds: at a full minute."""


class VirtualClock:
    """A clock that shows the time of the event that is happening.

    Parameters
    ----------
    epoch : int
        Epoch seconds at its zero; whole, so that the two are made of each other without a rounding.
    """

    def __init__(self, epoch: int = EPOCH) -> None:
        self._epoch = epoch
        self.time = 0.0

    def now(self) -> float:
        """Return seconds since the beginning."""
        return self.time

    def epoch(self) -> float:
        """Return epoch seconds."""
        return self._epoch + self.time

    def when(self, epoch: float) -> float:
        """Return the time of the clock at an epoch time, exactly."""
        return epoch - self._epoch

    def sleep(self, seconds: float, wake: threading.Event | None = None) -> None:
        """Refuse: in a simulation what takes time is put on the agenda."""
        raise RuntimeError("nobody sleeps in a simulation")


class Agenda:
    """What is going to happen, in the order of time, then of when it was put there."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self._heap: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = itertools.count()

    def at(self, time: float, action: Callable[[], object]) -> None:
        """Have something happen at a time of the clock, or now if that is past."""
        heapq.heappush(self._heap, (max(time, self.clock.time), next(self._numbers), action))

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        """Have something happen after some seconds."""
        self.at(self.clock.time + seconds, action)

    def run(self) -> None:
        """Let everything happen until nothing is left."""
        heap, clock = self._heap, self.clock
        with no_search_for_cycles():
            while heap:
                clock.time, _, action = heapq.heappop(heap)
                action()
