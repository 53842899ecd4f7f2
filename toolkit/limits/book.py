"""``Book``: all that is remembered about one quota key, and how it is written down and read again.

Nothing here decides; `core` does. The book is what processes share. Limits that are configured are not in
it (each process has its own), limits that the server told are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from toolkit.limits import ticks
from toolkit.limits.charges import Amounts
from toolkit.limits.fitted import ChargeModel
from toolkit.limits.laws import DIMENSIONS, Clause, Dimension
from toolkit.limits.settings import CEILING, LimitSettings
from toolkit.limits.slots import Slots
from toolkit.limits.turns import Line, Place
from toolkit.limits.window import Kind, Window
from toolkit.limits.windows import SlidingWindow, make_window

# A book is written at every decision: one encoder that does not look for circles saves a quarter of that.
_in_json = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class Counter:
    """One window of the law and the limits that are known for it.

    Attributes
    ----------
    clause : Clause
    window : Window
    place : int
        Of its dimension in a tuple of amounts.
    own, told : int or None
        The limit of this process's settings, and the one that the server told.
    """

    __slots__ = ("clause", "own", "place", "told", "window")

    def __init__(self, clause: Clause) -> None:
        self.clause = clause
        self.window: Window = make_window(clause.kind, CEILING, clause.period_s)
        self.place = DIMENSIONS.index(clause.dimension)
        self.own: int | None = None
        self.told: int | None = None

    def limit(self, learn: str) -> int | None:
        """Return the limit in force; None if this window binds nobody here."""
        if self.own is None or self.told is None:
            return self.told if self.own is None else self.own
        return self.told if learn == "auto" else min(self.own, self.told)


@dataclass(slots=True)
class Entry:
    """A lease that is out; its amounts stand under its id in the windows.

    ``level`` is how many were in flight when it was given, itself included. ``refused`` stands for the
    moment between a refusal and the end of the lease.
    """

    holder: str
    at: int
    amounts: Amounts
    level: int
    refused: bool = False


@dataclass(slots=True)
class LastReading:
    """The last word on remaining tokens: between which ticks it was taken, and after which admission."""

    sent: int
    received: int
    remaining: int
    admissions: int


@dataclass
class Book:
    """The state of one quota key; times are ticks.

    Attributes
    ----------
    counters : dict
        By the clause's name.
    leases : dict
        By the lease's id; ids are given out in order.
    line : dict
        See `turns`.
    """

    counters: dict[str, Counter] = field(default_factory=dict)
    leases: dict[int, Entry] = field(default_factory=dict)
    slots: Slots = field(default_factory=lambda: Slots(None))
    model: ChargeModel = field(default_factory=ChargeModel)
    line: Line = field(default_factory=dict)
    admissions: int = 0
    latest: int = 0
    paused_until: int = 0
    pause_set_at: int = -1
    refusals: int = 0
    day_until: int = 0
    day_dimension: Dimension = Dimension.REQUESTS
    shortfall_from: int = 0
    shortfall: int = 0
    last_reading: LastReading | None = None
    remaining: dict[str, int] = field(default_factory=dict)
    periods: dict[str, int] = field(default_factory=dict)
    requests_60s: SlidingWindow = field(
        default_factory=lambda: SlidingWindow(CEILING, 60 * ticks.PER_SECOND, 60)
    )
    tokens_60s: SlidingWindow = field(
        default_factory=lambda: SlidingWindow(CEILING, 60 * ticks.PER_SECOND, 60)
    )

    def counter(self, clause: Clause) -> Counter:
        """Return the counter of a clause; a new one has counted what the meters saw in the last minute."""
        found = self.counters.get(clause.name)
        if found is None:
            found = self.counters[clause.name] = Counter(clause)
            meter = {Dimension.REQUESTS: self.requests_60s, Dimension.TOKENS: self.tokens_60s}
            if clause.dimension in meter:
                seen = int(meter[clause.dimension].used(self.latest))
                if seen:
                    found.window.take(self.latest, seen)
        return found

    def configure(self, settings: LimitSettings) -> None:
        """Take over a process's own limits."""
        self.slots.ceiling = settings.max_concurrent
        for counter in self.counters.values():
            counter.own = None
        for clause, limit in settings.rules().items():
            self.counter(clause).own = limit
        self.apply_limits(settings.learn)

    def apply_limits(self, learn: str) -> list[Counter]:
        """Give every window the limit in force; return those that bind.

        A window that only another process's settings know is counted into and not obeyed.
        """
        binding = []
        for counter in self.counters.values():
            limit = counter.limit(learn)
            if limit is not None:
                binding.append(counter)
                if limit != counter.window.limit:
                    counter.window.resize(self.latest, limit)
        return binding

    def forget(self) -> None:
        """Forget how much in flight was too much and what requests count, as replies have taught it.

        What is used, limits that the server told and their periods, a pause, a day that is used up, and by
        how much optimism has overshot, all stay: who forgot these could send more than is allowed. Who
        forgot a charge is careful again (prompt and cap, one at a time); who forgot a cap is at worst
        refused again.
        """
        self.slots = Slots(self.slots.ceiling)
        self.model = ChargeModel()
        self.last_reading = None
        self.refusals = 0

    def set_back(self, now: int) -> None:
        """Move everything to where a clock that was set back shows it: what just happened, just happened."""
        delta = now - self.latest
        for counter in self.counters.values():
            counter.window.shift(now, delta)
        for meter in (self.requests_60s, self.tokens_60s):
            meter.shift(now, delta)
        for entry in self.leases.values():
            entry.at += delta
        self.slots.shift(delta)
        self.line.clear()
        self.last_reading = None
        self.latest += delta
        self.paused_until += delta
        self.pause_set_at += delta
        self.day_until += delta
        self.shortfall_from += delta

    def dump(self) -> str:
        """Write the book down."""
        reading = self.last_reading
        return _in_json(
            [
                [[n, c.told, c.window.limit, c.window.dump()] for n, c in self.counters.items()],
                [[i, e.holder, e.at, e.amounts, e.level] for i, e in self.leases.items()],
                self.slots.dump(),
                self.model.dump() if self.model.probes else None,
                self.line,
                [self.admissions, self.latest, self.paused_until, self.pause_set_at, self.refusals],
                [self.day_until, self.day_dimension, self.shortfall_from, self.shortfall],
                reading and [reading.sent, reading.received, reading.remaining, reading.admissions],
                [self.remaining, self.periods],
                [self.requests_60s.dump(), self.tokens_60s.dump()],
            ]
        )

    def load(self, text: str) -> None:
        """Take over what ``dump`` wrote, here or in another process."""
        state: list[Any] = json.loads(text)
        counters, leases, slots, model, line, main, day, reading, told, meters = state
        self.admissions, self.latest, self.paused_until, self.pause_set_at, self.refusals = main
        self.day_until, day_dimension, self.shortfall_from, self.shortfall = day
        self.day_dimension = Dimension(day_dimension)
        for meter, dumped in zip((self.requests_60s, self.tokens_60s), meters, strict=True):
            meter.load(dumped)
        for name in set(self.counters).difference(row[0] for row in counters):
            fresh = self.counters.pop(name)
            self.counter(fresh.clause).own = fresh.own
        for name, told_limit, limit, window in counters:
            counter = self.counters.get(name)
            if counter is None:
                dimension, kind, period_s = name.split(":")
                clause = Clause(Dimension(dimension), Kind(kind), int(period_s))
                counter = self.counters[name] = Counter(clause)
            counter.told = told_limit
            counter.window.limit = limit
            counter.window.load(window)
        self.leases = {
            i: Entry(holder, at, tuple(amounts), level) for i, holder, at, amounts, level in leases
        }
        self.slots.load(slots)
        self.model.load(model or [0, []])
        self.line = {n: Place(since, seen, tuple(amounts)) for n, (since, seen, amounts) in line.items()}
        self.last_reading = LastReading(*reading) if reading else None
        self.remaining, self.periods = told
