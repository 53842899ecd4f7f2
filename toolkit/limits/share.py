"""``quota_share``: how much of what the law allowed was used while somebody wanted more."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence

from toolkit.limits.decisions import LimitEvent
from toolkit.limits.laws import DAY, Clause
from toolkit.limits.window import Kind


def quota_share(
    admissions: Sequence[tuple[float, int]],
    waits: Iterable[tuple[float, float]],
    *,
    kind: Kind,
    limit: int,
    period_s: float = 60.0,
) -> float | None:
    r"""Return admitted / allowed from first to last admission, over the spans in which somebody waited.

    Allowed in a stretch of T seconds is

    * bucket: :math:`limit + limit \cdot T / period`,
    * sliding: :math:`limit \cdot (\lfloor T / period \rfloor + 1)`,
    * calendar: the limit for each calendar window that the stretch touches.

    A stretch is a span of waiting with what was admitted less than a period before it: that is what used
    up the quota and made it wait. Stretches that touch are one.

    Parameters
    ----------
    admissions : sequence of (time, amount)
        In order of time, seconds.
    waits : iterable of (start, end)
        Spans in which somebody waited.
    kind, limit, period_s
        The window.

    Returns
    -------
    float or None
        None if nobody waited between the first admission and the last.
    """
    if not admissions:
        return None
    times = [time for time, _ in admissions]
    first, last = times[0], times[-1]
    stretches: list[list[float]] = []
    for start, end in sorted(waits):
        start, end = max(start, first), min(end, last)
        if start >= end:
            continue
        start = min(start, times[bisect_right(times, start - period_s)])
        if stretches and start <= stretches[-1][1]:
            stretches[-1][1] = max(stretches[-1][1], end)
        else:
            stretches.append([start, end])
    if not stretches:
        return None
    admitted, allowed = 0, 0.0
    for start, end in stretches:
        inside = admissions[bisect_left(times, start) : bisect_right(times, end)]
        admitted += sum(amount for _, amount in inside)
        match kind:
            case Kind.BUCKET:
                allowed += limit + limit * (end - start) / period_s
            case Kind.SLIDING:
                allowed += limit * (math.floor((end - start) / period_s) + 1)
            case Kind.FIXED:
                allowed += limit * (math.floor(end / period_s) - math.floor(start / period_s) + 1)
    return admitted / allowed


def waiting_spans(events: Iterable[LimitEvent]) -> list[tuple[float, float]]:
    """Return the spans in which somebody waited, from rows of the ``limits`` frame in order of time."""
    spans: list[tuple[float, float]] = []
    since: float | None = None
    end = 0.0
    for event in events:
        end = event.t_s
        if event.waiting and since is None:
            since = end
        elif not event.waiting and since is not None:
            spans.append((since, end))
            since = None
    if since is not None:
        spans.append((since, end))
    return spans


def quota_shares(events: Sequence[LimitEvent], rules: Mapping[Clause, int]) -> dict[str, float]:
    """Return the `quota_share` of each limit of a law, by the clause's name; that which bound is the largest.

    Limits of a day are left out: no run is long enough to say how much of one it used. So are all if nobody
    waited. What other processes used on the same key is not in the events.

    Parameters
    ----------
    events : sequence of LimitEvent
        In order of time.
    rules : mapping
        Clauses and the limits in force.
    """
    waits = waiting_spans(events)
    admitted_at = {event.lease_id: event.t_s for event in events if event.event == "admitted"}
    shares = {}
    for clause, limit in rules.items():
        if clause.period_s == DAY:
            continue
        charged = dict.fromkeys(admitted_at, 0)
        for event in events:
            if event.lease_id in charged:
                charged[event.lease_id] += getattr(event, clause.dimension)
        taken = [(admitted_at[lease], amount) for lease, amount in charged.items()]
        share = quota_share(taken, waits, kind=clause.kind, limit=limit, period_s=clause.period_s)
        if share is not None:
            shares[clause.name] = share
    return shares


def merge_events(by_worker: Sequence[Sequence[LimitEvent]]) -> list[LimitEvent]:
    """Return the events of several workers' limiters in order of time, as if one limiter had written them.

    Who waits is added up: each worker knows of its own line alone.
    """
    waiting = [0] * len(by_worker)
    merged = []
    numbered = ((event, place) for place, events in enumerate(by_worker) for event in events)
    for event, place in sorted(numbered, key=lambda pair: pair[0].t_s):
        waiting[place] = event.waiting
        merged.append(event._replace(waiting=sum(waiting)))
    return merged
