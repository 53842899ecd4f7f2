"""Leases taken ahead of those who will want them, where each look into the shared book is a round trip.

A worker takes some with each look, as many as it gave out in the last `AHEAD_S`, and what is over goes back
with the next. Ends of leases wait for the next look as well. So looks grow with workers and with time, not
with calls. Nothing is taken ahead where that could be missing to others: near a limit each call is a look.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress

from toolkit.limits.charges import Demand
from toolkit.limits.core import LimiterCore
from toolkit.limits.decisions import Lease, LeaseError

AHEAD_S = 0.25
"""Seconds for which leases are taken ahead, and for which ends of leases wait."""
KEPT_S = 0.5
"""Most seconds between the taking of a lease and its use, or half of what a request has to arrive."""
MOST = 200
"""Leases taken ahead at most; 800 calls a second."""
_SEEN = 8
"""Requests of late, of which the largest says what one that is taken ahead has to cover."""

End = Callable[[float], None]
Saved = tuple[deque[Lease], list[End]]


class Ahead:
    """What one worker has taken ahead of one quota key, and what it has still to give back.

    All is done under the lock of the limiter's line.

    Parameters
    ----------
    core : LimiterCore
    """

    def __init__(self, core: LimiterCore) -> None:
        self._core = core
        self._leases: deque[Lease] = deque()
        self._ends: list[End] = []
        self._given: deque[float] = deque(maxlen=MOST)
        self._demands: deque[Demand] = deque(maxlen=_SEEN)

    @property
    def kept_s(self) -> float:
        """Seconds after which a lease is too old to be given out."""
        return min(KEPT_S, self._core.settings.transit_s / 2)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to give back."""
        return not self._leases and not self._ends

    def give(self, now: float, demand: Demand) -> Lease | None:
        """Give out a lease for a demand, if there is one that covers it."""
        self._note(now, demand)
        if self._core.is_paused(now):
            return None
        for place, lease in enumerate(self._leases):
            if now - lease.admitted_at < self.kept_s and _covers(lease.demand, demand):
                del self._leases[place]
                return lease._replace(demand=demand)
        return None

    def _note(self, now: float, demand: Demand) -> None:
        self._given.append(now)
        self._demands.append(demand)

    def end_later(self, end: End) -> None:
        """Have a lease ended with the next look."""
        self._ends.append(end)

    def give_back(self, now: float) -> None:
        """At a look: end what is to be ended, and give back what is too old."""
        ends, self._ends = self._ends, []
        for end in ends:
            with suppress(LeaseError):  # It was taken for a dead worker's, and is ended.
                end(now)
        for lease in [lease for lease in self._leases if now - lease.admitted_at >= self.kept_s]:
            self._leases.remove(lease)
            with suppress(LeaseError):
                self._core.settle(now, lease, sent=False)

    def take(self, now: float, sharers: int) -> None:
        """At a look at which a request was admitted: take as many as will be wanted."""
        # But for the one that was admitted just now.
        wanted = sum(now - at < AHEAD_S for at in self._given) - 1 - len(self._leases)
        if wanted <= 0:
            return
        demand = Demand(*(max(amounts) for amounts in zip(*self._demands, strict=True)))
        for _ in range(self._core.spare(now, demand, wanted, sharers)):
            lease = self._core.try_reserve(now, demand)
            if not isinstance(lease, Lease):
                self._core.leave_line()
                return
            self._leases.append(lease)

    def save(self) -> Saved:
        """Return what `restore` takes, should what comes next not be written."""
        return deque(self._leases), list(self._ends)

    def restore(self, saved: Saved) -> None:
        """Be again what was saved."""
        self._leases, self._ends = saved


def _covers(held: Demand, wanted: Demand) -> bool:
    return all(ours >= theirs for ours, theirs in zip(held, wanted, strict=True))
