"""``Watch``: what is seen of a run that goes on, in a space that does not grow with time.

Each look takes in what has ended since the last one. Curves have a bounded number of intervals: when the run
has outgrown them, two become one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from toolkit.errors import StoreError
from toolkit.handle import RunHandle
from toolkit.limits import LimitEvent
from toolkit.plots import look
from toolkit.progress import Snapshot
from toolkit.records import CallRecord, Episode, EpisodeRecord, Status

INTERVALS = 64
"""Of a curve: as many as can be told apart at the width that it has; twice as many before they are merged."""
FIRST_INTERVAL_S = 0.25
MOST_ROWS = 120
"""Episodes that are listed; of more, those that somebody would look for."""


class Row(NamedTuple):
    """An episode: ``state`` is ``waiting``, ``under way``, or how it ended."""

    episode_id: str
    state: str
    calls: int
    calls_planned: int | None
    seconds: float | None
    error: str | None


class Curve:
    """Amounts over time in intervals of one length, which doubles when there are too many.

    Attributes
    ----------
    width_s : float
        Of an interval.
    amounts : list of float
    """

    def __init__(self) -> None:
        self.width_s = FIRST_INTERVAL_S
        self.amounts = [0.0]

    def reach(self, until_s: float) -> None:
        """Make sure that there is an interval for a time."""
        while until_s >= 2 * INTERVALS * self.width_s:
            paired = [*self.amounts, 0.0] if len(self.amounts) % 2 else self.amounts
            self.amounts = [left + right for left, right in zip(paired[::2], paired[1::2], strict=True)]
            self.width_s *= 2
        missing = int(until_s // self.width_s) + 1 - len(self.amounts)
        self.amounts += [0.0] * missing

    def rates(self) -> list[tuple[float, float]]:
        """Return the middle of each interval and the amount a second there; the last one goes on."""
        amounts = self.amounts[:-1] or self.amounts
        return [((place + 0.5) * self.width_s, amount / self.width_s) for place, amount in enumerate(amounts)]

    def spread(self, amount: float, start_s: float, end_s: float) -> None:
        """Add an amount that came about evenly between two times."""
        start_s = max(0.0, start_s)
        end_s = max(start_s, end_s)
        self.reach(end_s)
        first, last = int(start_s // self.width_s), int(end_s // self.width_s)
        if first == last:
            self.amounts[first] += amount
            return
        rate = amount / (end_s - start_s)
        for place in range(first, last + 1):
            left = max(start_s, place * self.width_s)
            right = min(end_s, (place + 1) * self.width_s)
            self.amounts[place] += rate * (right - left)


class Level:
    """The mean of what is read now and then, in the intervals of a `Curve`."""

    def __init__(self) -> None:
        self._sums = Curve()
        self._readings = Curve()

    def read(self, value: float, at_s: float) -> None:
        """Take in a reading."""
        for curve, amount in ((self._sums, value), (self._readings, 1.0)):
            curve.spread(amount, at_s, at_s)

    def points(self) -> list[tuple[float, float]]:
        """Return the middle of each interval that was read in, and the mean there."""
        width_s = self._sums.width_s
        pairs = zip(self._sums.amounts, self._readings.amounts, strict=True)
        return [
            ((place + 0.5) * width_s, total / number) for place, (total, number) in enumerate(pairs) if number
        ]


@dataclass(frozen=True)
class View:
    """What there is to show of a run.

    Attributes
    ----------
    progress : Snapshot
    counts : dict
        How many episodes are in each state.
    rows : list of Row
    left_out : int
        Episodes that have no row.
    tokens_per_s : list of (float, float)
        Output tokens a second, by seconds since the start.
    quota : dict
        By limit: what of it was in use, as a share, by seconds since the start.
    waits_s : dict
        Seconds that calls waited in all, by cause.
    cost_usd, cost_in_the_end_usd : float or None
    reused : int
        Calls that were answered from the store.
    failed_attempts : int
    """

    progress: Snapshot
    counts: dict[str, int]
    rows: list[Row]
    left_out: int
    tokens_per_s: list[tuple[float, float]]
    quota: dict[str, list[tuple[float, float]]]
    waits_s: dict[str, float]
    cost_usd: float | None
    cost_in_the_end_usd: float | None
    reused: int
    failed_attempts: int


class Watch:
    """Looks at one run.

    Parameters
    ----------
    episodes : sequence of Episode
    calls_expected : int or None
        By the plan; None if there is none.
    began_at : float
        Epoch seconds of the run's start.
    """

    def __init__(self, episodes: Sequence[Episode], calls_expected: int | None, began_at: float) -> None:
        self._ids = [episode.id for episode in episodes]
        self._calls_expected = calls_expected
        self._began_at = began_at
        self._ended: dict[str, EpisodeRecord] = {}
        self._ended_seen = 0
        self._calls_seen = 0
        self._made = 0
        self._reused = 0
        self._cost_usd = 0.0
        self._priced = 0
        self._failed_attempts = 0
        self._tokens = Curve()
        self._quota: dict[str, Level] = {}
        self._waits = dict.fromkeys((phase.column for phase in look.WAITS), 0.0)

    def look(self, handle: RunHandle) -> View:
        """Take in what is new, and return all that is to be seen."""
        progress = handle.progress
        ended, calls = handle.ended(self._ended_seen), handle.calls(self._calls_seen)
        self._ended_seen += len(ended)
        self._calls_seen += len(calls)
        self._ended |= {record.episode_id: record for record in ended}
        for call in calls:
            self._take(call)
        with suppress(StoreError):  # locked for too long: the next look will do
            self._read_quota(handle.quota, progress.elapsed_s)
        return self._view(progress, handle.under_way)

    def _take(self, call: CallRecord) -> None:
        self._failed_attempts += sum(attempt.error_kind is not None for attempt in call.attempts)
        if call.reused:
            self._reused += 1
            return
        for phase in look.WAITS:
            self._waits[phase.column] += getattr(call, phase.column) or 0.0
        if call.status is not Status.OK:
            return
        self._made += 1
        if call.cost_usd is not None:
            self._cost_usd += call.cost_usd
            self._priced += 1
        end_s = call.started_at + call.total_s - call.overhead_s - self._began_at
        self._tokens.spread(call.output_tokens or 0, end_s - call.service_s, end_s)

    def _read_quota(self, event: LimitEvent | None, at_s: float) -> None:
        if event is None:
            return
        for name, used, limit in (
            ("requests", event.requests_60s, event.requests_limit),
            ("tokens", event.tokens_60s, event.tokens_limit),
            ("slots", event.in_flight, event.slot_cap),
        ):
            if limit:
                self._quota.setdefault(name, Level()).read(used / limit, at_s)

    def _view(self, progress: Snapshot, under_way: dict[str, tuple[int, int]]) -> View:
        rows = [self._row(episode_id, under_way) for episode_id in self._ids]
        shown = _interesting(rows)
        cost_usd = self._cost_usd if self._priced else 0.0 if not self._made else None
        return View(
            progress=progress,
            counts=dict(Counter(row.state for row in rows)),
            rows=shown,
            left_out=len(rows) - len(shown),
            tokens_per_s=self._tokens.rates(),
            quota={name: level.points() for name, level in self._quota.items()},
            waits_s={
                phase.label: self._waits[phase.column]
                for phase in look.WAITS
                if self._waits[phase.column] > 0
            },
            cost_usd=cost_usd,
            cost_in_the_end_usd=self._cost_in_the_end(progress),
            reused=self._reused,
            failed_attempts=self._failed_attempts,
        )

    def _row(self, episode_id: str, under_way: dict[str, tuple[int, int]]) -> Row:
        record = self._ended.get(episode_id)
        if record is not None:
            calls = len(record.summary.calls)
            status = record.summary.status.value
            return Row(episode_id, status, calls, calls, record.total_s, record.summary.error)
        if episode_id in under_way:
            calls, planned = under_way[episode_id]
            return Row(episode_id, "under way", calls, planned, None, None)
        return Row(episode_id, "waiting", 0, None, None, None)

    def _cost_in_the_end(self, progress: Snapshot) -> float | None:
        """Return what all will have cost, if the calls that are left cost as much as those made so far."""
        if not self._priced:
            return None
        left = max(self._calls_expected or 0, progress.calls_planned) - progress.calls
        return self._cost_usd + self._cost_usd / self._priced * max(0, left)


_ORDER = {"failed": 0, "partial": 1, "under way": 2, "cancelled": 4, "waiting": 5}


def _interesting(rows: list[Row]) -> list[Row]:
    """Return all rows, or of too many those that somebody would look for, in the episodes' order."""
    if len(rows) <= MOST_ROWS:
        return rows
    order = sorted(range(len(rows)), key=lambda place: (_ORDER.get(rows[place].state, 3), place))
    return [rows[place] for place in sorted(order[:MOST_ROWS])]


def is_flat(points: Sequence[tuple[float, float]]) -> bool:
    """Whether a curve shows nothing yet."""
    return not any(value > 0 and math.isfinite(value) for _, value in points)
