"""How a server counts one thing against one limit: four ways, each a small class without I/O or clock.

All of them are driven with ``now`` in seconds since 1970, which never runs backwards. They are written
for the server alone and share nothing with the toolkit's own limiter: an error in one must not be hidden
by the same error in the other.

=================  ================================================================
``Bucket``         holds ``limit``, refilled evenly over ``period_s``
``Sliding``        at most ``limit`` in any ``period_s`` seconds
``Calendar``       at most ``limit`` in each period of the calendar (a UTC minute)
``FirstRequest``   like ``Calendar``, but a period starts with its first request
=================  ================================================================
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from enum import StrEnum


class Resource(StrEnum):
    """What is counted."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    INPUT_TOKENS = "input_tokens"
    OUTPUT_TOKENS = "output_tokens"


# Levels are sums of floats: a client that waits exactly as long as it was told to must not be refused
# for the last digit.
_ROUNDING = 1e-6


class Meter(ABC):
    """One limit on one resource.

    Parameters
    ----------
    name : str
        Unique within a law, as in ``quota_shares`` of the score.
    resource : Resource
    limit : int
        Units within ``period_s``.
    period_s : float
        Seconds.
    scope : str
        ``"organization"`` or ``"project"``: whose limit it is.
    """

    def __init__(
        self, name: str, resource: Resource, limit: int, period_s: float, scope: str = "organization"
    ) -> None:
        self.name = name
        self.resource = resource
        self.limit = limit
        self.period_s = period_s
        self.scope = scope
        self._opening: float | None = None
        self._first = 0.0
        self._used = 0.0

    @abstractmethod
    def remaining(self, now: float) -> float:
        """Return the units that are left at ``now``; negative where more was used than allowed."""

    @abstractmethod
    def wait_s(self, now: float, units: float) -> float:
        """Return the seconds until ``units`` fit; 0 if they do, infinite if they never will."""

    @abstractmethod
    def reset_s(self, now: float) -> float:
        """Return the seconds until nothing counts as used any more, if nothing else is asked for."""

    @abstractmethod
    def _take(self, now: float, units: float) -> float:
        """Count ``units`` as used and return when, for ``give_back``."""

    @abstractmethod
    def give_back(self, now: float, units: float, taken_at: float) -> None:
        """Count ``units`` of what was taken at ``taken_at`` as unused, as far as that still matters."""

    @abstractmethod
    def _allowed_since_opening(self, last: float) -> float:
        """Return the units that could be used from the first admission to ``last``."""

    def take(self, now: float, units: float) -> float:
        """Count ``units`` of an admitted request as used; return a mark for ``give_back``."""
        if self._opening is None:
            self._opening = max(0.0, self.remaining(now))
            self._first = now
            self._open()
        self._used += units
        return self._take(now, units)

    def return_unused(self, now: float, units: float, taken_at: float) -> None:
        """Give units of an admitted request back at its settlement."""
        self._used -= units
        self.give_back(now, units, taken_at)

    def penalize(self, now: float) -> None:
        """Count a refused request, as far as there is anything left: a refusal never makes a debt."""
        left = self.remaining(now)
        if left > 0:
            self._take(now, min(1.0, left))

    def share(self, last: float) -> float:
        """Return the share used of what the law allowed from the first admission to ``last``."""
        if self._opening is None:
            return 0.0
        allowed = self._opening + self._allowed_since_opening(last)
        return self._used / allowed if allowed > 0 else 0.0

    def reset_share(self) -> None:
        """Measure the share from the next admission on."""
        self._opening = None
        self._used = 0.0

    def _open(self) -> None:  # noqa: B027 - only one kind of meter has anything to remember
        """Remember what a share needs when its measurement begins."""


class Bucket(Meter):
    """A bucket with room for ``limit``, refilled at ``limit / period_s`` a second; full at the start.

    The level may fall below 0 where usage is known only afterwards (output tokens).
    """

    def __init__(
        self, name: str, resource: Resource, limit: int, period_s: float, scope: str = "organization"
    ) -> None:
        super().__init__(name, resource, limit, period_s, scope)
        self._level = float(limit)
        self._at: float | None = None

    def remaining(self, now: float) -> float:
        """Return the level at ``now``."""
        if self._at is None:
            return self._level
        return min(float(self.limit), self._level + max(0.0, now - self._at) * self.limit / self.period_s)

    def wait_s(self, now: float, units: float) -> float:
        """Return ``(units - level) / rate``."""
        if units > self.limit:
            return math.inf
        missing = units - self.remaining(now)
        return missing * self.period_s / self.limit if missing > _ROUNDING else 0.0

    def reset_s(self, now: float) -> float:
        """Return ``(limit - level) / rate``: the time until it is full, not until one may send."""
        return (self.limit - self.remaining(now)) * self.period_s / self.limit

    def _take(self, now: float, units: float) -> float:
        self._level = self.remaining(now) - units
        self._at = now
        return now

    def give_back(self, now: float, units: float, taken_at: float) -> None:
        """Pour ``units`` back; what does not fit is lost."""
        self._level = min(float(self.limit), self.remaining(now) + units)
        self._at = now

    def _allowed_since_opening(self, last: float) -> float:
        return (last - self._first) * self.limit / self.period_s


class Sliding(Meter):
    """At most ``limit`` within any ``period_s`` seconds."""

    def __init__(
        self, name: str, resource: Resource, limit: int, period_s: float, scope: str = "organization"
    ) -> None:
        super().__init__(name, resource, limit, period_s, scope)
        self._entries: deque[list[float]] = deque()
        self._sum = 0.0

    def _forget(self, now: float) -> None:
        while self._entries and self._entries[0][0] + self.period_s <= now:
            self._sum -= self._entries.popleft()[1]

    def remaining(self, now: float) -> float:
        """Return what the last ``period_s`` seconds left over."""
        self._forget(now)
        return self.limit - self._sum

    def wait_s(self, now: float, units: float) -> float:
        """Return the time until enough old entries have left the window."""
        if units > self.limit:
            return math.inf
        missing = units - self.remaining(now)
        if missing <= _ROUNDING:
            return 0.0
        for at, used in self._entries:
            missing -= used
            if missing <= _ROUNDING:
                return at + self.period_s - now
        return self.period_s

    def reset_s(self, now: float) -> float:
        """Return the time until the youngest entry leaves the window."""
        self._forget(now)
        return self._entries[-1][0] + self.period_s - now if self._entries else 0.0

    def _take(self, now: float, units: float) -> float:
        self._forget(now)
        self._entries.append([now, units])
        self._sum += units
        return now

    def give_back(self, now: float, units: float, taken_at: float) -> None:
        """Make the entry of ``taken_at`` smaller, if it is still in the window."""
        self._forget(now)
        for entry in reversed(self._entries):
            if entry[0] == taken_at and entry[1] >= units:
                entry[1] -= units
                self._sum -= units
                return
            if entry[0] < taken_at:
                return

    def _allowed_since_opening(self, last: float) -> float:
        return self.limit * math.floor((last - self._first) / self.period_s)


class Calendar(Meter):
    """At most ``limit`` within each period that the calendar cuts: whole UTC minutes, seconds, days."""

    def __init__(
        self, name: str, resource: Resource, limit: int, period_s: float, scope: str = "organization"
    ) -> None:
        super().__init__(name, resource, limit, period_s, scope)
        self._window = -1
        self._count = 0.0

    def _roll(self, now: float) -> int:
        window = math.floor(now / self.period_s)
        if window > self._window:
            self._window, self._count = window, 0.0
        return window

    def remaining(self, now: float) -> float:
        """Return what is left in the period that ``now`` lies in."""
        self._roll(now)
        return self.limit - self._count

    def wait_s(self, now: float, units: float) -> float:
        """Return the time until the next period begins, if ``units`` do not fit into this one."""
        if units > self.limit:
            return math.inf
        return 0.0 if units <= self.remaining(now) + _ROUNDING else self._left_s(now)

    def reset_s(self, now: float) -> float:
        """Return the time until the next period begins, if anything was used in this one."""
        self._roll(now)
        return self._left_s(now) if self._count else 0.0

    def _left_s(self, now: float) -> float:
        return (self._window + 1) * self.period_s - now

    def _take(self, now: float, units: float) -> float:
        self._roll(now)
        self._count += units
        return now

    def give_back(self, now: float, units: float, taken_at: float) -> None:
        """Count ``units`` less, if the period that they were taken in is not over."""
        if math.floor(taken_at / self.period_s) == self._roll(now):
            self._count -= units

    def _allowed_since_opening(self, last: float) -> float:
        return self.limit * (math.floor(last / self.period_s) - math.floor(self._first / self.period_s))


class FirstRequest(Meter):
    """At most ``limit`` within a period that begins with the first request after the last one ended."""

    def __init__(
        self, name: str, resource: Resource, limit: int, period_s: float, scope: str = "organization"
    ) -> None:
        super().__init__(name, resource, limit, period_s, scope)
        self._started = -math.inf
        self._count = 0.0
        self._windows = 0
        self._windows_at_opening = 0

    def _running(self, now: float) -> bool:
        return now < self._started + self.period_s

    def remaining(self, now: float) -> float:
        """Return what is left in the running period, all of ``limit`` if none runs."""
        return self.limit - self._count if self._running(now) else float(self.limit)

    def wait_s(self, now: float, units: float) -> float:
        """Return the time until the running period ends, if ``units`` do not fit into it."""
        if units > self.limit:
            return math.inf
        return (
            0.0 if units <= self.remaining(now) + _ROUNDING else max(0.0, self._started + self.period_s - now)
        )

    def reset_s(self, now: float) -> float:
        """Return the time until the running period ends."""
        return self._started + self.period_s - now if self._running(now) else 0.0

    def _take(self, now: float, units: float) -> float:
        if not self._running(now):
            self._started, self._count = now, 0.0
            self._windows += 1
        self._count += units
        return now

    def give_back(self, now: float, units: float, taken_at: float) -> None:
        """Count ``units`` less, if the period that they were taken in is not over."""
        if self._running(now) and taken_at >= self._started:
            self._count -= units

    def _open(self) -> None:
        # The window that the first admission opens is in the opening balance, which is the full limit then.
        self._windows_at_opening = self._windows + (0 if self._running(self._first) else 1)

    def _allowed_since_opening(self, last: float) -> float:
        return self.limit * (self._windows - self._windows_at_opening)
