"""The three kinds of `Window`: bucket, sliding window, calendar window."""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any

from toolkit.limits import ticks
from toolkit.limits.window import Kind, Window


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
