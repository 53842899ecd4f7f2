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

import itertools
from abc import ABC, abstractmethod
from collections import deque
from enum import StrEnum
from typing import Any

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


class Bucket(Window):
    """Refilled continuously at limit / period up to the limit.

    The level is kept as amount x period, so that one tick drains exactly ``limit`` of it.
    """

    __slots__ = ("_at", "_flow", "_level")

    def __init__(self, limit: int, period: int) -> None:
        super().__init__(limit, period)
        self._level = 0
        self._at = 0
        self._flow = 0  # what could have drained so far; grows while the bucket is empty too

    def _roll(self, now: int) -> None:
        if now > self._at:
            flow = self.limit * (now - self._at)
            self._flow += flow
            self._level = self._level - flow if self._level > flow else 0
            self._at = now

    def _take(self, at: int, amount: int) -> int:
        self._roll(at)
        self._level += amount * self.period
        return self._flow + self._level

    def _refund(self, now: int, amount: int, mark: int) -> None:
        given = min(amount * self.period, max(0, mark - self._flow), self._level)
        self._level -= given
        for key, other in self._marks.items():
            if other > mark:  # what came in later stands so much nearer to the outflow now
                self._marks[key] = other - given

    def _drained_to(self, now: int, target: int) -> int:
        level = self._level
        over = level + (self.transit - target) * self.period
        if over <= 0:
            return now
        at = now
        for due, amount in self._transit.values():
            if over <= level:
                break
            # It runs dry first, and nothing more drains until the next one is counted.
            drained = min(level, self.limit * (due - at))
            level += amount * self.period - drained
            over -= drained
            at = due
        return at - (-over // self.limit)

    def _used(self) -> float:
        return self._level / self.period

    def _tighten(self, now: int, since: int, least: int, refill: int) -> int:
        least_level = least * self.period - max(refill, self.limit) * (now - since)
        added = least_level - self._level
        if added <= 0:
            return 0
        self._level = least_level
        return -(-added // self.period)

    def _shift(self, now: int, delta: int) -> None:
        self._at += delta

    def _dump(self) -> list[Any]:
        return [self._level, self._at, self._flow]

    def _load(self, state: list[Any]) -> None:
        self._level, self._at, self._flow = state


class FixedWindow(Window):
    """At most the limit in each calendar window; windows are aligned to the epoch."""

    __slots__ = ("_count", "_index")

    def __init__(self, limit: int, period: int) -> None:
        super().__init__(limit, period)
        self._index = 0
        self._count = 0

    def _roll(self, now: int) -> None:
        index = now // self.period
        if index > self._index:
            self._index = index
            self._count = 0

    def _take(self, at: int, amount: int) -> int:
        self._roll(at)
        self._count += amount
        return self._index

    def _refund(self, now: int, amount: int, mark: int) -> None:
        if mark == self._index:
            self._count = max(0, self._count - amount)

    def _drained_to(self, now: int, target: int) -> int:
        if self._count + self.transit <= target:
            return now
        for index in itertools.count(self._index + 1):
            starts = index * self.period
            if sum(amount for due, amount in self._transit.values() if due >= starts) <= target:
                return starts
        raise AssertionError("what is sent is counted in some window")

    def _used(self) -> float:
        return self._count

    def _tighten(self, now: int, since: int, least: int, refill: int) -> int:
        # A reading that may be of the window before says nothing about this one.
        if since // self.period != self._index or least <= self._count:
            return 0
        added = least - self._count
        self._count = least
        return added

    def _shift(self, now: int, delta: int) -> None:
        # What counts in the window that the clock showed before counts in the one that it shows now.
        self._roll(now - delta)
        self._index = now // self.period
        self._marks = dict.fromkeys(self._marks, -1)

    def _dump(self) -> list[Any]:
        return [self._index, self._count]

    def _load(self, state: list[Any]) -> None:
        self._index, self._count = state


class SlidingWindow(Window):
    """At most the limit in any window of the period, half open: what came at t has left at t + period.

    Exact up to ``entries`` amounts in a window. Denser ones share a slot of period / entries and leave
    with the last of them: never early, and late by at most 0.1 % of the period.
    """

    __slots__ = ("_amounts", "_gone", "_gone_from", "_slot", "_times", "_total")

    def __init__(self, limit: int, period: int, entries: int = 1024) -> None:
        super().__init__(limit, period)
        self._slot = max(1, period // entries)
        self._times: deque[int] = deque()
        self._amounts: deque[int] = deque()
        self._total = 0
        # What left, and when: a reading of the server may be of a moment at which it still counted.
        self._gone: deque[tuple[int, int]] = deque(maxlen=256)
        self._gone_from = 0

    def _roll(self, now: int) -> None:
        times, horizon = self._times, now - self.period
        while times and times[0] <= horizon:
            if len(self._gone) == 256:
                self._gone_from = self._gone[0][0]
            amount = self._amounts.popleft()
            self._gone.append((times.popleft() + self.period, amount))
            self._total -= amount

    def _take(self, at: int, amount: int) -> int:
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
        return at

    def _refund(self, now: int, amount: int, mark: int) -> None:
        if mark <= now - self.period:
            return
        for place, time in enumerate(self._times):
            if time >= mark:  # the entry itself, or the one that it was put together with
                given = min(amount, self._amounts[place])
                self._amounts[place] -= given
                self._total -= given
                return

    def _drained_to(self, now: int, target: int) -> int:
        over = self._total + self.transit - target
        if over <= 0:
            return now
        counted = zip(self._times, self._amounts, strict=True)
        for time, leaving in itertools.chain(counted, self._transit.values()):
            over -= leaving
            if over <= 0:
                return time + self.period
        raise AssertionError("the entries of a window add up to its total")

    def _used(self) -> float:
        return self._total

    def _tighten(self, now: int, since: int, least: int, refill: int) -> int:
        if since < self._gone_from:
            return 0
        least -= sum(amount for left_at, amount in self._gone if left_at > since)
        added = least - self._total
        if added <= 0:
            return 0
        # Of others' amounts it is known only that they came before now; the latest is the safe moment.
        self._take(now, added)
        return added

    def _shift(self, now: int, delta: int) -> None:
        self._times = deque(time + delta for time in self._times)
        self._gone = deque(((left_at + delta, amount) for left_at, amount in self._gone), maxlen=256)
        self._marks = {key: mark + delta for key, mark in self._marks.items()}

    def _dump(self) -> list[Any]:
        return [list(self._times), list(self._amounts)]

    def _load(self, state: list[Any]) -> None:
        times, amounts = state
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
