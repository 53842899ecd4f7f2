"""Requests in flight: the cap of the settings, and what the server's complaints leave of it."""

from __future__ import annotations

from typing import Any


class Slots:
    """Counts requests in flight under an adaptive cap.

    One incident halves the cap once: a complaint about a request that was sent before the last cut is about
    the traffic of before that cut. The cap grows by one after as many replies as it has places, and only
    replies of times in which all places were taken count; otherwise it would grow in idle hours to what
    was never tried. Times are ticks.

    Attributes
    ----------
    ceiling : int or None
        What the settings allow; None for no bound.
    in_flight : int
    """

    __slots__ = ("_cap", "_cut_at", "_full_since_cut", "ceiling", "in_flight")

    def __init__(self, ceiling: int | None) -> None:
        self.ceiling = ceiling
        self.in_flight = 0
        self._cap: int | None = None  # None: as many as the ceiling has
        self._cut_at = -1
        self._full_since_cut = 0

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

    def take(self) -> None:
        """Count one more."""
        self.in_flight += 1

    def give_back(self) -> None:
        """Count one less."""
        self.in_flight -= 1

    def cut(self, now: int, sent_at: int) -> bool:
        """Halve the cap for a complaint about a request sent at ``sent_at``; return whether it was cut.

        To be called while the request is still counted. What is halved is what was in flight, if that
        was less than the cap: halving a cap of 100 helps nobody when 10 were too many.
        """
        if sent_at <= self._cut_at:
            return False
        cap = self.cap
        busy = self.in_flight if cap is None else min(cap, self.in_flight)
        self._cap = max(1, busy // 2)
        self._cut_at = now
        self._full_since_cut = 0
        return True

    def answered(self, sent_at: int) -> bool:
        """Count a good reply, while it is still counted; return whether the cap grew."""
        if self._cap is None or sent_at <= self._cut_at:
            return False
        if self.in_flight >= self._cap:
            self._full_since_cut += 1
        if self._full_since_cut < self._cap or (self.ceiling is not None and self._cap >= self.ceiling):
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

    def dump(self) -> list[Any]:
        """Return the state as plain values (without the ceiling)."""
        return [self.in_flight, self._cap, self._cut_at, self._full_since_cut]

    def load(self, state: list[Any]) -> None:
        """Take over what ``dump`` returned."""
        self.in_flight, self._cap, self._cut_at, self._full_since_cut = state
