"""Requests in flight: the cap of the settings, and what the server's complaints leave of it."""

from __future__ import annotations

from typing import Any

from toolkit.limits import ticks

FIRST_PROBE, LONGEST_PROBE = 60 * ticks.PER_SECOND, 600 * ticks.PER_SECOND
"""How long a level that was refused is left alone; doubles each time it is refused again."""


class Slots:
    """Counts requests in flight under an adaptive cap.

    A request's level is how many were in flight when it was sent, itself included. One incident cuts the cap
    once: a complaint about a request that was sent before the last cut is about the traffic of before that
    cut. If all was well one level below, the cap goes there, else to half of what is in flight.

    The cap grows by one after as many replies as it has places, and only replies of times in which all places
    were taken count; otherwise it would grow in idle hours to what was never tried. At a level that was
    refused it stops, and tries it again a minute later, then after two, up to ten: a server that works on six
    at a time is found once, and not every second. Times are ticks.

    Attributes
    ----------
    ceiling : int or None
        What the settings allow; None for no bound.
    in_flight : int
    """

    __slots__ = (
        "_cap",
        "_cut_at",
        "_full_since_cut",
        "_good",
        "_probe_at",
        "_probe_wait",
        "_refused",
        "ceiling",
        "in_flight",
    )

    def __init__(self, ceiling: int | None) -> None:
        self.ceiling = ceiling
        self.in_flight = 0
        self._cap: int | None = None  # None: as many as the ceiling has
        self._cut_at = -1
        self._full_since_cut = 0
        self._good = 0  # highest level that was answered since
        self._refused = 0  # level of the last complaint; 0 for none
        self._probe_at = 0
        self._probe_wait = FIRST_PROBE

    @property
    def cap(self) -> int | None:
        """The cap in force; None for no bound."""
        if self._cap is None or self.ceiling is None:
            return self.ceiling if self._cap is None else self._cap
        return min(self._cap, self.ceiling)

    def free(self, ahead: int = 0) -> bool:
        """Whether one more may be in flight when as many as are ``ahead`` have their places."""
        cap = self.cap
        return cap is None or self.in_flight + ahead < cap

    def take(self) -> int:
        """Count one more and return its level."""
        self.in_flight += 1
        return self.in_flight

    def give_back(self) -> None:
        """Count one less."""
        self.in_flight -= 1

    def cut(self, now: int, sent_at: int, level: int) -> bool:
        """Lower the cap for a complaint about a request; return whether it was lowered.

        To be called while the request is still counted. What is halved is what was in flight, if that
        was less than the cap: halving a cap of 100 helps nobody when 10 were too many.
        """
        if sent_at <= self._cut_at:
            return False
        self._probe_wait = min(2 * self._probe_wait, LONGEST_PROBE) if level == self._refused else FIRST_PROBE
        self._probe_at = now + self._probe_wait
        self._refused = level
        if self._good == level - 1 > 0:
            self._cap = self._good
        else:
            cap = self.cap
            busy = self.in_flight if cap is None else min(cap, self.in_flight)
            self._cap = max(1, busy // 2)
            self._good = 0
        self._cut_at = now
        self._full_since_cut = 0
        return True

    def answered(self, now: int, sent_at: int, level: int) -> bool:
        """Count a good reply, while it is still counted; return whether the cap grew."""
        if self._cap is None or sent_at <= self._cut_at:
            return False
        self._good = max(self._good, level)
        if level >= self._refused:
            self._refused = 0
        if self.in_flight >= self._cap:
            self._full_since_cut += 1
        if self._full_since_cut < self._cap or (self.ceiling is not None and self._cap >= self.ceiling):
            return False
        if self._cap + 1 == self._refused and now < self._probe_at:
            return False
        self._full_since_cut = 0
        self._cap += 1
        if self.ceiling is not None and self._cap >= self.ceiling:
            self._cap = None
        return True

    def shift(self, delta: int) -> None:
        """Move what is remembered by ``delta`` ticks."""
        if self._cut_at >= 0:
            self._cut_at += delta
            self._probe_at += delta

    def dump(self) -> list[Any]:
        """Return the state as plain values (without the ceiling)."""
        adapted = [
            self._cut_at,
            self._full_since_cut,
            self._good,
            self._refused,
            self._probe_at,
            self._probe_wait,
        ]
        return [self.in_flight, self._cap, adapted]

    def load(self, state: list[Any]) -> None:
        """Take over what ``dump`` returned."""
        self.in_flight, self._cap, adapted = state
        self._cut_at, self._full_since_cut, self._good, self._refused, self._probe_at, self._probe_wait = (
            adapted
        )
