r"""How a server counts: bucket, sliding window, calendar window. Whole numbers only, exact, no clock.

Nobody outside knows at which moment a server counts a request: between its sending and the reply. So what
is ``send`` counts in full from the start, but does not begin to drain or to expire before the moment at which
the server has counted it at the latest: the reply, or ``due``, by which every request has arrived (``NEVER``
where it counts what was really used, at an end that only the reply shows). Whichever moment in between it
was, the law is kept.

``settle`` ends it: what was reserved becomes what it has come to. Of what is counted already it gives back
only what the law would still count against us had it never been there:

* bucket: amounts flow out in the order in which they came in; only the part that has not flowed out.
  Subtracting the amount from the level would also give back what had been refilled meanwhile.
* sliding: the amount, as long as its entry is inside the window.
* calendar: the amount, as long as its own window lasts; it never enriches a later one.

``fits_at`` is the earliest tick at which an amount fits if nothing else happens, and then it does fit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import StrEnum
from typing import Any

from toolkit.limits.ticks import NEVER


class Kind(StrEnum):
    """How a limit is counted over its period."""

    BUCKET = "bucket"
    """Full at first, refilled continuously: at most limit + limit x w / period in any w."""
    SLIDING = "sliding"
    """At most the limit in any window of the period."""
    FIXED = "fixed"
    """At most the limit in each calendar window, counted from 1970-01-01 UTC."""


class Window(ABC):
    """One limit over one period; all times are ticks that never run back, amounts whole numbers.

    Attributes
    ----------
    limit, period : int
    held : int
        Counted until its settlement, whenever that is.
    transit : int
        Sent, and maybe not counted by the server yet.
    """

    __slots__ = ("_caught_up", "_held", "_marks", "_transit", "held", "limit", "period", "transit")

    def __init__(self, limit: int, period: int) -> None:
        self.limit = limit
        self.period = period
        self.held = 0
        self.transit = 0
        self._held: dict[int, int] = {}
        self._transit: dict[int, tuple[int, int]] = {}  # due and amount, in the order of both
        self._marks: dict[int, int] = {}  # of what is counted and not settled
        self._caught_up = -1

    def fits_at(self, now: int, amount: int) -> int:
        """Return the earliest tick from ``now`` on at which ``amount`` fits.

        More than the limit fits when nothing else is counted.
        """
        self._catch_up(now)
        target = self.limit - min(amount, self.limit) - self.held
        return NEVER if target < 0 else self._drained_to(now, target)

    def send(self, now: int, key: int, amount: int, due: int) -> None:
        """Count ``amount``, whether it fits or not; the server does so between ``now`` and ``due``."""
        self._catch_up(now)
        if due <= now:
            self._marks[key] = self._take(now, amount)
        elif due == NEVER:
            self._held[key] = amount
            self.held += amount
        else:
            self._transit[key] = (due, amount)
            self.transit += amount

    def settle(self, now: int, key: int, reserved: int, final: int) -> None:
        """End what was sent under ``key``: it has come to ``final``, and the server has counted it by now."""
        self._catch_up(now)
        mark = self._marks.pop(key, None)
        if mark is not None:
            if final < reserved:
                self._refund(now, reserved - final, mark)
            elif final > reserved:
                self._take(now, final - reserved)
            return
        if key in self._held:
            self.held -= self._held.pop(key)
        elif key in self._transit:
            self.transit -= self._transit.pop(key)[1]
        else:  # sent before this limit was known
            return
        if final:
            self._take(now, final)

    def take(self, now: int, amount: int) -> None:
        """Count ``amount`` now and for good."""
        self._catch_up(now)
        self._take(now, amount)

    def used(self, now: int) -> float:
        """Return what counts now, held and sent amounts included."""
        self._catch_up(now)
        return self._used() + self.held + self.transit

    def tighten(self, now: int, since: int, remaining: int, refill: int) -> int:
        """Believe that at most ``remaining`` was left at some moment from ``since`` to ``now``.

        ``refill`` is the server's limit, which may be above ours. Own amounts may or may not have been
        counted at that moment; only what they cannot explain is added. Returns how much that is.
        """
        self._catch_up(now)
        return self._tighten(now, since, self.limit - self.held - self.transit - remaining, refill)

    def resize(self, now: int, limit: int) -> None:
        """Change the limit; what is used stays used."""
        self._catch_up(now)
        self.limit = limit

    def shift(self, now: int, delta: int) -> None:
        """Move all that is remembered by ``delta`` ticks: the clock was set back and shows ``now``."""
        self._transit = {key: (due + delta, amount) for key, (due, amount) in self._transit.items()}
        self._shift(now, delta)
        self._caught_up = -1

    def dump(self) -> list[Any]:
        """Return the state as plain values (without limit and period)."""
        transit = [[key, due, amount] for key, (due, amount) in self._transit.items()]
        return [list(self._held.items()), transit, list(self._marks.items()), self._dump()]

    def load(self, state: list[Any]) -> None:
        """Take over what ``dump`` returned."""
        held, transit, marks, rest = state
        self._caught_up = -1
        self._held = dict(held)
        self._transit = {key: (due, amount) for key, due, amount in transit}
        self._marks = dict(marks)
        self.held = sum(self._held.values())
        self.transit = sum(amount for _, amount in self._transit.values())
        self._load(rest)

    def _catch_up(self, now: int) -> None:
        """Count what the server has counted by now, each at its own moment."""
        if now == self._caught_up:  # several questions are asked in one decision
            return
        self._caught_up = now
        while self._transit:
            key, (due, amount) = next(iter(self._transit.items()))
            if due > now:
                break
            del self._transit[key]
            self.transit -= amount
            self._marks[key] = self._take(due, amount)
        self._roll(now)

    @abstractmethod
    def _roll(self, now: int) -> None:
        """Let go what does not count any more at ``now``."""

    @abstractmethod
    def _take(self, at: int, amount: int) -> int:
        """Count ``amount`` at ``at``, from then on by the law; return the mark for ``_refund``."""

    @abstractmethod
    def _refund(self, now: int, amount: int, mark: int) -> None:
        """Undo a part of a ``_take`` as far as it still counts."""

    @abstractmethod
    def _drained_to(self, now: int, target: int) -> int:
        """Return the earliest tick at which what counts, sent amounts included, is at most ``target``."""

    @abstractmethod
    def _used(self) -> float:
        """Return what the law counts, without held and sent amounts."""

    @abstractmethod
    def _tighten(self, now: int, since: int, least: int, refill: int) -> int:
        """Raise what counts to ``least`` as far as it must be; return by how much."""

    @abstractmethod
    def _shift(self, now: int, delta: int) -> None: ...

    @abstractmethod
    def _dump(self) -> list[Any]: ...

    @abstractmethod
    def _load(self, state: list[Any]) -> None: ...
