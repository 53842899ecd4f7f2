r"""How a server counts: bucket, sliding window, calendar window. Whole numbers only, exact, no clock.

All three share one vocabulary. ``take`` counts an amount now and returns a mark; ``refund`` undoes it by
that mark. ``hold`` counts an amount without a time, for what a server counts at some unknown moment
until the reply is there; it ends in ``release``, and then ``take`` of what was really used. ``fits_at`` is
the earliest tick at which an amount fits if nothing else happens, and at that tick it does fit.

What a refund may give back is what the law would still count against us had the amount never been taken:

* bucket: amounts flow out in the order in which they came in; only the part that has not flowed out.
  Subtracting the amount from the level would also give back what had been refilled meanwhile.
* sliding: the amount, as long as its entry is inside the window.
* calendar: the amount, as long as its own window lasts; it never enriches a later one.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from typing import Any, Protocol

from toolkit.limits import ticks
from toolkit.limits.ticks import NEVER


class Kind(StrEnum):
    """How a limit is counted over its period."""

    BUCKET = "bucket"
    """Full at first, refilled continuously: at most limit + limit x w / period in any w."""
    SLIDING = "sliding"
    """At most the limit in any window of the period."""
    FIXED = "fixed"
    """At most the limit in each calendar window, counted from 1970-01-01 UTC."""


class Window(Protocol):
    """What the core needs of a window; all times are ticks that never run back, amounts whole numbers."""

    limit: int
    period: int
    held: int

    def fits_at(self, now: int, amount: int) -> int:
        """Return the earliest tick from ``now`` on at which ``amount`` fits.

        More than the limit fits when nothing else is counted.
        """
        ...

    def take(self, now: int, amount: int) -> int:
        """Count ``amount``, whether it fits or not; return the mark for ``refund``."""
        ...

    def refund(self, now: int, amount: int, mark: int) -> None:
        """Undo a ``take`` as far as it still counts."""
        ...

    def used(self, now: int) -> float:
        """Return what counts now, held amounts included."""
        ...

    def tighten(self, now: int, since: int, remaining: int, refill: int) -> int:
        """Believe that at most ``remaining`` was left at some moment from ``since`` to ``now``.

        ``refill`` is the server's limit, which may be above ours. Own amounts may or may not have been
        counted at that moment; only what they cannot explain is added. Returns how much that is.
        """
        ...

    def resize(self, now: int, limit: int) -> None:
        """Change the limit; what is used stays used."""
        ...

    def shift(self, now: int, delta: int) -> None:
        """Move all that is remembered by ``delta`` ticks: the clock was set back and shows ``now``."""
        ...

    def dump(self) -> list[Any]:
        """Return the state as plain values (without limit and period)."""
        ...

    def load(self, state: list[Any]) -> None:
        """Take over what ``dump`` returned."""
        ...


class Bucket:
    """Refilled continuously at limit / period up to the limit.

    The level is kept as amount x period, so that one tick drains exactly ``limit`` of it.
    """

    __slots__ = ("_at", "_flow", "_level", "held", "limit", "period")

    def __init__(self, limit: int, period: int) -> None:
        self.limit = limit
        self.period = period
        self.held = 0
        self._level = 0
        self._at = 0
        self._flow = 0  # what could have drained so far; grows while the bucket is empty too

    def _drain(self, now: int) -> None:
        if now > self._at:
            flow = self.limit * (now - self._at)
            self._flow += flow
            self._level = self._level - flow if self._level > flow else 0
            self._at = now

    def fits_at(self, now: int, amount: int) -> int:
        """See `Window`."""
        self._drain(now)
        free = self.limit - self.held - min(amount, self.limit)
        if free < 0:
            return NEVER
        over = self._level - free * self.period
        return now if over <= 0 else now - (-over // self.limit)

    def take(self, now: int, amount: int) -> int:
        """See `Window`."""
        self._drain(now)
        self._level += amount * self.period
        return self._flow + self._level

    def refund(self, now: int, amount: int, mark: int) -> None:
        """See `Window`."""
        self._drain(now)
        still_inside = max(0, mark - self._flow)
        self._level = max(0, self._level - min(amount * self.period, still_inside))

    def used(self, now: int) -> float:
        """See `Window`."""
        self._drain(now)
        return self._level / self.period + self.held

    def tighten(self, now: int, since: int, remaining: int, refill: int) -> int:
        """See `Window`."""
        self._drain(now)
        most = remaining * self.period + max(refill, self.limit) * (now - since)
        least_level = (self.limit - self.held) * self.period - most
        added = least_level - self._level
        if added <= 0:
            return 0
        self._level = least_level
        return -(-added // self.period)

    def resize(self, now: int, limit: int) -> None:
        """See `Window`."""
        self._drain(now)
        self.limit = limit

    def shift(self, now: int, delta: int) -> None:
        """See `Window`."""
        self._at += delta

    def dump(self) -> list[Any]:
        """See `Window`."""
        return [self.held, self._level, self._at, self._flow]

    def load(self, state: list[Any]) -> None:
        """See `Window`."""
        self.held, self._level, self._at, self._flow = state


class FixedWindow:
    """At most the limit in each calendar window; windows are aligned to the epoch."""

    __slots__ = ("_index", "_used", "held", "limit", "period")

    def __init__(self, limit: int, period: int) -> None:
        self.limit = limit
        self.period = period
        self.held = 0
        self._index = 0
        self._used = 0

    def _roll(self, now: int) -> None:
        index = now // self.period
        if index > self._index:
            self._index = index
            self._used = 0

    def fits_at(self, now: int, amount: int) -> int:
        """See `Window`."""
        self._roll(now)
        free = self.limit - self.held - min(amount, self.limit)
        if free < 0:
            return NEVER
        return now if self._used <= free else (self._index + 1) * self.period

    def take(self, now: int, amount: int) -> int:
        """See `Window`."""
        self._roll(now)
        self._used += amount
        return self._index

    def refund(self, now: int, amount: int, mark: int) -> None:
        """See `Window`."""
        self._roll(now)
        if mark == self._index:
            self._used = max(0, self._used - amount)

    def used(self, now: int) -> float:
        """See `Window`."""
        self._roll(now)
        return self._used + self.held

    def tighten(self, now: int, since: int, remaining: int, refill: int) -> int:
        """See `Window`."""
        self._roll(now)
        least = self.limit - self.held - remaining
        # A reading that may be of the window before says nothing about this one.
        if since // self.period != self._index or least <= self._used:
            return 0
        added = least - self._used
        self._used = least
        return added

    def resize(self, now: int, limit: int) -> None:
        """See `Window`."""
        self._roll(now)
        self.limit = limit

    def shift(self, now: int, delta: int) -> None:
        """See `Window`."""
        # What counts in the window that the clock showed before counts in the one that it shows now.
        self._roll(now - delta)
        self._index = now // self.period

    def dump(self) -> list[Any]:
        """See `Window`."""
        return [self.held, self._index, self._used]

    def load(self, state: list[Any]) -> None:
        """See `Window`."""
        self.held, self._index, self._used = state


class SlidingWindow:
    """At most the limit in any window of the period, half open: what came at t has left at t + period.

    Exact up to ``entries`` amounts in a window. Denser ones share a slot of period / entries and leave
    with the last of them: never early, and late by at most 0.1 % of the period.
    """

    __slots__ = ("_amounts", "_gone", "_gone_from", "_slot", "_times", "_total", "held", "limit", "period")

    def __init__(self, limit: int, period: int, entries: int = 1024) -> None:
        self.limit = limit
        self.period = period
        self.held = 0
        self._slot = max(1, period // entries)
        self._times: deque[int] = deque()
        self._amounts: deque[int] = deque()
        self._total = 0
        # What left, and when: a reading of the server may be of a moment at which it still counted.
        self._gone: deque[tuple[int, int]] = deque(maxlen=256)
        self._gone_from = 0

    def _expire(self, now: int) -> None:
        times, horizon = self._times, now - self.period
        while times and times[0] <= horizon:
            if len(self._gone) == 256:
                self._gone_from = self._gone[0][0]
            amount = self._amounts.popleft()
            self._gone.append((times.popleft() + self.period, amount))
            self._total -= amount

    def fits_at(self, now: int, amount: int) -> int:
        """See `Window`."""
        self._expire(now)
        free = self.limit - self.held - min(amount, self.limit)
        if free < 0:
            return NEVER
        over = self._total - free
        if over <= 0:
            return now
        for time, leaving in zip(self._times, self._amounts, strict=True):
            over -= leaving
            if over <= 0:
                return time + self.period
        raise AssertionError("the entries of a window add up to its total")

    def take(self, now: int, amount: int) -> int:
        """See `Window`."""
        self._expire(now)
        self._add(now, amount)
        return now

    def _add(self, at: int, amount: int) -> None:
        times = self._times
        if times and (
            times[-1] == at
            or (len(times) * self._slot >= self.period and times[-1] // self._slot == at // self._slot)
        ):
            times[-1] = at
            self._amounts[-1] += amount
        else:
            times.append(at)
            self._amounts.append(amount)
        self._total += amount

    def refund(self, now: int, amount: int, mark: int) -> None:
        """See `Window`."""
        self._expire(now)
        if mark <= now - self.period:
            return
        for place, time in enumerate(self._times):
            if time >= mark:  # the entry itself, or the one that it was put together with
                given = min(amount, self._amounts[place])
                self._amounts[place] -= given
                self._total -= given
                return

    def used(self, now: int) -> float:
        """See `Window`."""
        self._expire(now)
        return self._total + self.held

    def tighten(self, now: int, since: int, remaining: int, refill: int) -> int:
        """See `Window`."""
        self._expire(now)
        if since < self._gone_from:
            return 0
        gone = sum(amount for left_at, amount in self._gone if left_at > since)
        least = self.limit - remaining - self.held - gone
        added = least - self._total
        if added <= 0:
            return 0
        # Of others' amounts it is known only that they came before now; the latest is the safe moment.
        self._add(now, added)
        return added

    def resize(self, now: int, limit: int) -> None:
        """See `Window`."""
        self._expire(now)
        self.limit = limit

    def shift(self, now: int, delta: int) -> None:
        """See `Window`."""
        self._times = deque(time + delta for time in self._times)
        self._gone = deque(((left_at + delta, amount) for left_at, amount in self._gone), maxlen=256)

    def dump(self) -> list[Any]:
        """See `Window`."""
        return [self.held, list(self._times), list(self._amounts)]

    def load(self, state: list[Any]) -> None:
        """See `Window`."""
        self.held, times, amounts = state
        self._times, self._amounts = deque(times), deque(amounts)
        self._total = sum(amounts)
        # Nobody wrote down what had left before; readings from before now say nothing here.
        self._gone.clear()
        self._gone_from = self._times[-1] if self._times else 0


_CLASSES: dict[Kind, type[Bucket] | type[SlidingWindow] | type[FixedWindow]] = {
    Kind.BUCKET: Bucket,
    Kind.SLIDING: SlidingWindow,
    Kind.FIXED: FixedWindow,
}


def make_window(kind: Kind, limit: int, period_s: int) -> Window:
    """Return an unused window of ``limit`` in ``period_s`` seconds."""
    return _CLASSES[kind](limit, period_s * ticks.PER_SECOND)
