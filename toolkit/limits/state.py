"""Where the book of a quota key lives: the seam, and the memory of one process.

A core works on a book of its own; the state makes that book the shared one for the length of one
decision: ``with state.exclusive(core): core.try_reserve(...)``. In memory that is a lock. A database
begins a transaction that keeps other writers out, loads the book if somebody else has written it since,
and commits it afterwards. It needs one table: quota key, version, book.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from typing import Protocol

from toolkit.clock import Clock
from toolkit.limits.axis import Axis, make_axis
from toolkit.limits.core import LimiterCore

AGAIN_S = 0.25
"""How soon a state is tried again that could not be reached."""


class Overtaken(Exception):
    """Another process has decided meanwhile: nothing of this decision holds, and it is to be made again."""


class LimiterState(Protocol):
    """Keeps books; every method may be called from any thread.

    Attributes
    ----------
    holder : str
        Name of this process among those that share the state; empty if nobody shares it.
    sharers : int
        How many these are, as far as is known.
    is_distant : bool
        Whether a look into it takes a round trip, so that leases are better taken ahead.
    """

    is_distant: bool

    @property
    def holder(self) -> str:
        """Name of this process among the sharers."""
        ...

    @property
    def sharers(self) -> int:
        """How many processes share it, as far as is known."""
        ...

    def axis(self, clock: Clock) -> Axis:
        """Return the time axis of a clock, which for the machine's own is the one that all sharers have."""
        ...

    def exclusive(self, core: LimiterCore) -> AbstractContextManager[object]:
        """Make ``core``'s book the shared one, and nobody else's meanwhile; `StoreError` if it cannot be.

        May raise `Overtaken` at its end, but not twice in a row: the decision has to be made again.
        """
        ...

    def is_alive(self, holder: str) -> bool:
        """Whether another process that shares the state still lives."""
        ...


class MemoryState:
    """Books of one process; one core for each quota key."""

    holder = ""
    sharers = 1
    is_distant = False

    def __init__(self) -> None:
        self._book_lock = threading.RLock()

    def axis(self, clock: Clock) -> Axis:
        """See `LimiterState`."""
        return make_axis(clock)

    def exclusive(self, core: LimiterCore) -> AbstractContextManager[object]:
        """See `LimiterState`."""
        return self._book_lock

    def is_alive(self, holder: str) -> bool:
        """See `LimiterState`."""
        return True
