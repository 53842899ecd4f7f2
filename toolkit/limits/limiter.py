"""``Limiter``: the core with waiting around it. Threads wait their turn, fair and without polling.

Waiters stand in one line, ordered by (order, arrival); only the first may be admitted, so a big request is
never overtaken by small ones. The first sleeps until the instant that the core computed; the others sleep
until they are first. Whatever gives something back wakes the first. Where the state is shared, other
processes cannot wake this one, and its first waiter asks again after a bounded time (``turns.LOOK_AGAIN``).
"""

from __future__ import annotations

import itertools
import math
import threading
from bisect import insort
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import NamedTuple

from toolkit.clock import Clock, SystemClock
from toolkit.errors import QuotaExhausted
from toolkit.limits.axis import make_axis
from toolkit.limits.charges import Demand
from toolkit.limits.core import LimiterCore
from toolkit.limits.decisions import Cause, Exhausted, Lease, LimitEvent, Refusal, Wait
from toolkit.limits.headers import Observation
from toolkit.limits.laws import Dimension
from toolkit.limits.settings import LimitSettings
from toolkit.limits.share import quota_shares
from toolkit.limits.state import LimiterState
from toolkit.limits.waiting import Sleeper, StopEvent, YieldingLock, sleeper_for
from toolkit.records import Usage

UNQUESTIONED_S = 0.1
"""So soon after its admission a lease needs no look into the book, which may be a transaction."""


class DayExhausted(QuotaExhausted):
    """A limit per day is used up; the run should drain.

    Attributes
    ----------
    until : float
        When it may go on, in epoch seconds.
    wait_s : float
        How long that is from now.
    dimension : Dimension
    """

    def __init__(self, until: float, wait_s: float, dimension: Dimension) -> None:
        hours, minutes = divmod(math.ceil(wait_s / 60), 60)
        name = dimension.replace("_", " ")
        super().__init__(f"The limit of {name} per day is used up; it may go on in {hours} h {minutes} min.")
        self.until = until
        self.wait_s = wait_s
        self.dimension = dimension


class Admission(NamedTuple):
    """A lease, and the seconds that were waited for it by cause; together they are the whole wait.

    Each moment of waiting belongs to what the first in line was waiting for at that moment, which is the
    constraint that the core named as the last to be met.
    """

    lease: Lease
    waited_s: Mapping[Cause, float]


class Standing(NamedTuple):
    """What the first in line waits for.

    Attributes
    ----------
    cause : Cause
    until : float
        Epoch seconds at which it goes on if nothing else happens; infinity if somebody has to give back.
    waiting : int
        How many wait.
    """

    cause: Cause
    until: float
    waiting: int


class WaitCancelled(CancelledError):
    """The waiting was stopped; ``waited_s`` as in an `Admission`."""

    def __init__(self, waited_s: Mapping[Cause, float]) -> None:
        super().__init__()
        self.waited_s = waited_s


class _Waiter:
    """One thread in line."""

    def __init__(self, demand: Demand, order: float, arrival: int) -> None:
        self.demand = demand
        self.place = (order, arrival)
        self.woken = threading.Event()


class Limiter:
    """The limits of one quota key for the threads of this process.

    Parameters
    ----------
    quota_key : str
    settings : LimitSettings
    state : LimiterState
    clock : Clock, optional
    sleeper : Sleeper, optional
        What waits; by default what fits the clock.
    """

    def __init__(
        self,
        quota_key: str,
        settings: LimitSettings,
        state: LimiterState,
        clock: Clock | None = None,
        sleeper: Sleeper | None = None,
    ) -> None:
        clock = clock or SystemClock()
        self.quota_key = quota_key
        self._state = state
        self._axis = make_axis(clock, state.offset())
        self._sleeper = sleeper or sleeper_for(clock)
        self._core = LimiterCore(quota_key, settings, state.holder)
        self._line: list[_Waiter] = []
        self._arrivals = itertools.count()
        # A transaction lets others run by itself; those that only look for the lock would hold it up.
        self._line_and_core_lock = threading.RLock() if state.holder else YieldingLock()
        # Seconds that the first in line has waited so far by cause, whoever was first. What a waiter has
        # waited is the difference between its admission and its arrival.
        self._waited_s = dict.fromkeys(Cause, 0.0)
        self._cause = Cause.REQUESTS
        self._wake_at = math.inf
        self._counted_until = 0.0

    @contextmanager
    def _deciding(self) -> Iterator[float]:
        """Hold the line and the shared book, and give the time, which is read under both."""
        with self._line_and_core_lock, self._state.exclusive(self._core):
            yield self._axis()

    # Waiting

    def acquire(self, demand: Demand, order: float = 0.0, stop: threading.Event | None = None) -> Admission:
        """Wait until a request may be sent.

        Parameters
        ----------
        demand : Demand
        order : float
            Lower goes first: the number of the episode in the order in which they started.
        stop : threading.Event, optional
            Ends the waiting once it is set: at once if it is a `StopEvent` or its owner calls `wake`,
            else within ``waiting.STOP_LOOK_S``.

        Raises
        ------
        WaitCancelled
            If ``stop`` is set; a `CancelledError`.
        Oversize
            If the request is above a limit; at once.
        DayExhausted
            If a day's limit is used up.
        """
        if stop is not None and stop.is_set():
            raise WaitCancelled({})
        with self._line_and_core_lock:
            self._core.refuse_oversize(demand)
            if not self._line:
                answer = self._decide(demand)
                if isinstance(answer, Lease):
                    return Admission(answer, {})
                self._counted_until = self._axis()
            waiter = _Waiter(demand, order, next(self._arrivals))
            insort(self._line, waiter, key=lambda other: other.place)
            self._core.note_waiting(self._axis(), len(self._line))
            if self._line[0] is waiter and len(self._line) > 1:
                self._line[1].woken.set()  # it is not first any more and must not act on its time
            self._count_wait(self._axis())
            before = dict(self._waited_s)
        stop = stop or StopEvent()
        if isinstance(stop, StopEvent):
            stop.subscribe(waiter.woken.set)
        try:
            lease, waited_s = self._wait_turn(waiter, stop)
        except CancelledError:
            with self._line_and_core_lock:
                self._count_wait(self._axis())
                waited_s = dict(self._waited_s)
            self._leave(waiter)
            raise WaitCancelled(_spans(before, waited_s)) from None
        except BaseException:
            self._leave(waiter)
            raise
        finally:
            if isinstance(stop, StopEvent):
                stop.unsubscribe(waiter.woken.set)
        return Admission(lease, _spans(before, waited_s))

    def _wait_turn(self, waiter: _Waiter, stop: threading.Event) -> tuple[Lease, dict[Cause, float]]:
        while True:
            waiter.woken.clear()  # before looking, so that what happens after the look wakes us again
            if stop.is_set():
                raise CancelledError
            until = math.inf
            with self._line_and_core_lock:
                if self._line[0] is waiter:
                    answer = self._decide(waiter.demand)
                    if isinstance(answer, Lease):
                        waited_s = dict(self._waited_s)
                        self._leave(waiter)
                        return answer, waited_s
                    until = answer.look_again_at
                else:
                    self._core.refuse_oversize(waiter.demand)  # a limit may have become smaller
            self._sleeper.wait(waiter.woken, until, self._axis, stop)

    def _decide(self, demand: Demand) -> Lease | Wait:
        """Ask the core for the first in line."""
        with self._deciding() as now:
            self._count_wait(now)
            answer = self._core.try_reserve(now, demand)
            if isinstance(answer, Wait) and self._release_dead(now):
                answer = self._core.try_reserve(now, demand)
        if isinstance(answer, Exhausted):
            raise DayExhausted(answer.until, answer.until - now, answer.dimension)
        if isinstance(answer, Wait):
            self._cause, self._wake_at = answer.cause, answer.wake_at
        return answer

    def _release_dead(self, now: float) -> bool:
        if not self._core.holder:
            return False
        others = self._core.other_holders()
        dead = {holder for holder in others if not self._state.is_alive(holder)}
        dead |= self._core.abandoned_holders(now)
        if dead:
            self._core.release_dead(now, dead)
        return bool(dead)

    def _count_wait(self, now: float) -> None:
        if self._line:
            self._waited_s[self._cause] += max(0.0, now - self._counted_until)
        self._counted_until = now

    def _leave(self, waiter: _Waiter) -> None:
        with self._line_and_core_lock:
            if waiter not in self._line:  # interrupted while it left
                return
            self._line.remove(waiter)
            self._core.note_waiting(self._axis(), len(self._line))
            if self._line:
                self._line[0].woken.set()
            elif self._core.holder:
                with self._deciding():
                    self._core.leave_line()

    def _wake_first(self) -> None:
        # Under the lock that the woken one needs next: one wait for the lock less with many threads.
        if self._line:
            self._line[0].woken.set()

    def wake(self) -> None:
        """Make all waiters look again: for whoever sets a plain stop event."""
        with self._line_and_core_lock:
            for waiter in self._line:
                waiter.woken.set()

    # Giving back and learning

    def settle(
        self,
        lease: Lease,
        usage: Usage | None = None,
        observation: Observation | None = None,
        *,
        sent: bool = True,
    ) -> None:
        """End a lease, once, with the usage in the reply and what its headers say.

        ``usage=None``: a request that was sent and whose usage is not known. ``sent=False``: nothing
        reached the server; everything is given back as far as it still counts.

        Raises
        ------
        LeaseError
            If the lease is settled already or unknown.
        """
        with self._deciding() as now:
            if observation is not None:
                self._core.observe(now, observation, lease)
            self._core.settle(now, lease, usage, sent=sent)
            self._wake_first()

    def refused(self, lease: Lease, observation: Observation, kind: Refusal) -> None:
        """End a lease whose request the server refused; pauses the whole quota key."""
        with self._deciding() as now:
            self._core.refused(now, lease, observation, kind)
            self._wake_first()

    def observe(self, observation: Observation, lease: Lease | None = None) -> None:
        """Take in headers without settling, such as those of a stream that has just begun."""
        with self._deciding() as now:
            self._core.observe(now, observation, lease)
            self._wake_first()

    def still_valid(self, lease: Lease) -> bool:
        """Whether a request may still be sent under a lease; ask right before sending.

        If not, settle it with ``sent=False`` and acquire anew.
        """
        if self._axis() - lease.admitted_at < UNQUESTIONED_S:
            return True
        with self._deciding() as now:
            return self._core.still_valid(now, lease)

    def retune(self, settings: LimitSettings) -> None:
        """Change any limit while requests wait and run."""
        with self._deciding() as now:
            self._core.retune(now, settings)
        self.wake()

    # Looking

    @property
    def settings(self) -> LimitSettings:
        """The settings in force."""
        return self._core.settings

    @property
    def waiting(self) -> int:
        """Threads in line."""
        return len(self._line)

    def standing(self) -> Standing | None:
        """Return what the first in line waits for; None if nobody waits."""
        with self._line_and_core_lock:
            return Standing(self._cause, self._wake_at, len(self._line)) if self._line else None

    def now(self) -> float:
        """Return the time on the axis of leases and events: epoch seconds that never jump."""
        return self._axis()

    def largest(self) -> dict[Dimension, int]:
        """Return the largest amounts that one request may have; a dimension without limit is left out."""
        with self._deciding():
            return self._core.largest()

    def quota_shares(self, since: float = 0.0) -> dict[str, float]:
        """Return what was used of each limit since then while somebody waited; see `share.quota_shares`."""
        with self._deciding():
            rules = self._core.rules()
        return quota_shares(self.events(since), rules)

    def snapshot(self) -> LimitEvent:
        """Return the state now as a row of the ``limits`` frame."""
        with self._deciding() as now:
            return self._core.snapshot(now)

    def events(self, since: float = 0.0) -> list[LimitEvent]:
        """Return the rows of the ``limits`` frame from ``since`` on (epoch seconds of the axis)."""
        with self._line_and_core_lock:
            return [event for event in self._core.history if event.t_s >= since]


def _spans(before: Mapping[Cause, float], after: Mapping[Cause, float]) -> dict[Cause, float]:
    return {cause: after[cause] - before[cause] for cause in Cause if after[cause] > before[cause]}
