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
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from typing import Protocol, TypeVar

from toolkit.clock import Clock, SystemClock
from toolkit.errors import StoreError
from toolkit.limits.admission import Admission, DayExhausted, Standing, WaitCancelled
from toolkit.limits.ahead import AHEAD_S, Ahead
from toolkit.limits.charges import Demand
from toolkit.limits.core import LimiterCore
from toolkit.limits.decisions import Cause, Exhausted, Lease, LimitEvent, Refusal, Wait
from toolkit.limits.headers import Observation
from toolkit.limits.laws import Dimension
from toolkit.limits.settings import LimitSettings
from toolkit.limits.share import quota_shares
from toolkit.limits.state import AGAIN_S, LimiterState
from toolkit.limits.together import Together
from toolkit.limits.waiting import Sleeper, StopEvent, YieldingLock, sleeper_for
from toolkit.records import Usage

T = TypeVar("T")

UNQUESTIONED_S = 0.1
"""So soon after its admission a lease needs no look into the book, which may be a transaction."""


class Wake(Protocol):
    """What is told that a waiter is to look again; under the lock of the line."""

    def set(self) -> None:
        """Have it look, soon and not within this call."""
        ...


class Waiter:
    """One request in line; ``before`` is what the first in line had waited when it came, by cause."""

    def __init__(self, demand: Demand, order: float, arrival: int, woken: Wake) -> None:
        self.demand = demand
        self.place = (order, arrival)
        self.woken = woken
        self.before: Mapping[Cause, float] = {}


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
    ahead : bool
        Whether to take leases ahead of need, and to end them later, as `ahead` says.
    wait_s : float
        Seconds for which a state that cannot be reached is tried again; nobody is admitted meanwhile.
    """

    def __init__(
        self,
        quota_key: str,
        settings: LimitSettings,
        state: LimiterState,
        clock: Clock | None = None,
        sleeper: Sleeper | None = None,
        *,
        ahead: bool = False,
        wait_s: float = 0.0,
    ) -> None:
        clock = clock or SystemClock()
        self.quota_key = quota_key
        self._state = state
        self._axis = state.axis(clock)
        self._sleeper = sleeper or sleeper_for(clock)
        self._core = LimiterCore(quota_key, settings, state.holder)
        self._line: list[Waiter] = []
        self._arrivals = itertools.count()
        # In one process a decision is over sooner than a thread can be woken.
        self._line_and_core_lock = threading.RLock() if state.holder else YieldingLock()
        self._together = Together(self._transaction, lambda: bool(self._line)) if state.holder else None
        self._ahead = Ahead(self._core) if ahead else None
        self._flusher: threading.Timer | None = None
        self.wait_s = wait_s
        self._trouble: StoreError | None = None
        # Seconds that the first in line has waited so far by cause, whoever was first. What a waiter has
        # waited is the difference between its admission and its arrival.
        self._waited_s = dict.fromkeys(Cause, 0.0)
        self._cause = Cause.REQUESTS
        self._wake_at = math.inf
        self._counted_until = 0.0
        self._has_decided = False

    def _decide(
        self,
        work: Callable[[float], T],
        undo: Callable[[T], object] | None = None,
        stop: threading.Event | None = None,
        *,
        patient: bool = True,
    ) -> T:
        """Do what needs the line and the shared book, and tell it the time, which is read under both.

        A state that cannot be reached is tried again for ``wait_s``, unless ``stop`` is set.
        """
        self._has_decided = True
        if self._together is None:
            with self._line_and_core_lock, self._state.exclusive(self._core):
                return work(self._axis())
        until = math.inf
        while True:
            try:
                done = self._together.do(lambda: work(self._axis()), undo)
                self._trouble = None
                return done
            except StoreError as trouble:
                now = self._axis()
                until = min(until, now + self.wait_s)
                if not (patient and trouble.passing) or now >= until:
                    self._trouble = None  # Whoever still waits for it says so again.
                    raise
                self._trouble = trouble
            stop = stop or StopEvent()
            self._sleeper.wait(threading.Event(), now + AGAIN_S, self._axis, stop)
            if stop.is_set():
                raise CancelledError

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Hold the line and the shared book; an error takes back what has been done to line and history."""
        with self._line_and_core_lock:
            line, waiting, history = list(self._line), self._core.waiting, self._core.history
            last = history[-1] if history else None
            taken = self._ahead.save() if self._ahead else None
            try:
                with self._state.exclusive(self._core):
                    if self._ahead:
                        self._ahead.give_back(self._axis())
                    yield
            except BaseException:
                self._line[:] = line
                self._core.waiting = waiting
                while history and history[-1] is not last:
                    history.pop()
                if self._ahead and taken is not None:
                    self._ahead.restore(taken)
                raise

    # Taking ahead

    def _flush_soon(self) -> None:
        """Have a look in a while, unless somebody has one before that leaves nothing to do; lock held."""
        if self._flusher is None and self._ahead and not self._ahead.is_empty:
            self._flusher = threading.Timer(AHEAD_S, self._flush)
            self._flusher.daemon = True
            self._flusher.start()

    def _flush(self) -> None:
        # A state that cannot be reached is a trouble for those who need it; what is to be ended waits.
        with suppress(StoreError, CancelledError):
            self._decide(lambda now: None, patient=False)
        with self._line_and_core_lock:
            self._flusher = None
            self._flush_soon()

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
        if (held := self._take_held(demand)) is not None:
            return Admission(held, {})
        woken = threading.Event()
        waiter = Waiter(demand, order, next(self._arrivals), woken)
        try:
            arrived = self._decide(lambda now: self._arrive(now, waiter), self._give_back, stop)
        except CancelledError:
            raise WaitCancelled({}) from None
        if isinstance(arrived, Admission):
            return arrived
        stop = stop or StopEvent()
        if isinstance(stop, StopEvent):
            stop.subscribe(woken.set)
        try:
            admission = self._wait_turn(waiter, woken, stop)
        except CancelledError:
            with self._line_and_core_lock:
                self._count_wait(self._axis())
                waited_s = dict(self._waited_s)
            self._leave(waiter)
            raise WaitCancelled(_spans(arrived, waited_s)) from None
        except BaseException:
            self._leave(waiter)
            raise
        finally:
            if isinstance(stop, StopEvent):
                stop.unsubscribe(woken.set)
        return Admission(admission.lease, _spans(arrived, admission.waited_s))

    # Waiting without a thread: for those who have a loop of their own

    def enter(self, demand: Demand, order: float, woken: Wake) -> Admission | Waiter:
        """Admit a request at once, or put it in line; `acquire` says what is raised.

        Who is put in line looks at once, and again when woken or when the last look has said.
        """
        waiter = Waiter(demand, order, next(self._arrivals), woken)
        arrived = self._decide(lambda now: self._arrive(now, waiter))
        if isinstance(arrived, Admission):
            return arrived
        waiter.before = arrived
        return waiter

    def look(self, waiter: Waiter) -> Admission | float:
        """Admit a waiter whose turn it is, or return when it is to look again, on the limiter's axis.

        An error takes it out of the line.
        """
        try:
            looked = self._decide(lambda now: self._look(now, waiter))
        except BaseException:
            self._leave(waiter)
            raise
        if isinstance(looked, Admission):
            return Admission(looked.lease, _spans(waiter.before, looked.waited_s))
        return looked

    def withdraw(self, waiter: Waiter) -> WaitCancelled:
        """Take a waiter out of the line; return the error that says how long it has waited."""
        with self._line_and_core_lock:
            self._count_wait(self._axis())
            waited_s = dict(self._waited_s)
        self._leave(waiter)
        return WaitCancelled(_spans(waiter.before, waited_s))

    # The line

    def _take_held(self, demand: Demand) -> Lease | None:
        """Return a lease that was taken ahead; nobody who waits is overtaken."""
        if self._ahead is None:
            return None
        with self._line_and_core_lock:
            return None if self._line else self._ahead.give(self._axis(), demand)

    def _arrive(self, now: float, waiter: Waiter) -> Admission | Mapping[Cause, float]:
        """Admit a request, or put it in line and return what the first in line has waited until now."""
        self._core.refuse_oversize(waiter.demand)
        if not self._line:
            answer = self._ask(now, waiter.demand)
            if isinstance(answer, Lease):
                if self._ahead is not None:
                    self._ahead.take(now, self._state.sharers)
                    self._flush_soon()
                return Admission(answer, {})
            self._counted_until = now
        insort(self._line, waiter, key=lambda other: other.place)
        self._core.note_waiting(now, len(self._line))
        if self._line[0] is waiter and len(self._line) > 1:
            self._line[1].woken.set()  # it is not first any more and must not act on its time
        self._count_wait(now)
        return dict(self._waited_s)

    def _wait_turn(self, waiter: Waiter, woken: threading.Event, stop: threading.Event) -> Admission:
        while True:
            woken.clear()  # before looking, so that what happens after the look wakes us again
            if stop.is_set():
                raise CancelledError
            looked = self._decide(lambda now: self._look(now, waiter), self._give_back, stop)
            if isinstance(looked, Admission):
                return looked
            self._sleeper.wait(woken, looked, self._axis, stop)

    def _look(self, now: float, waiter: Waiter) -> Admission | float:
        """Admit a waiter whose turn it is, or return when it is to look again."""
        if self._line[0] is not waiter:
            self._core.refuse_oversize(waiter.demand)  # a limit may have become smaller
            return math.inf
        answer = self._ask(now, waiter.demand)
        if isinstance(answer, Wait):
            return answer.look_again_at
        waited_s = dict(self._waited_s)
        self._remove(waiter)
        return Admission(answer, waited_s)

    def _ask(self, now: float, demand: Demand) -> Lease | Wait:
        """Ask the core for the first in line."""
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

    def _leave(self, waiter: Waiter) -> None:
        """Take one out of the line who waits no more."""
        with self._line_and_core_lock:
            if waiter not in self._line:  # admitted while it was interrupted
                return
            self._remove(waiter)
            nobody_waits = not self._line
        if nobody_waits and self._core.holder:
            # Not waited for: whoever leaves does so for a trouble, or because nothing is to be waited for.
            with suppress(StoreError):
                self._decide(lambda now: None if self._line else self._core.leave_line(), patient=False)

    def _remove(self, waiter: Waiter) -> None:
        self._line.remove(waiter)
        self._core.note_waiting(self._axis(), len(self._line))
        self._wake_first()

    def _give_back(self, answer: object) -> None:
        """Undo an admission that nobody will use."""
        if isinstance(answer, Admission):
            self.settle(answer.lease, sent=False)

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
        wait: bool = True,
    ) -> None:
        """End a lease, once, with the usage in the reply and what its headers say.

        ``usage=None``: a request that was sent and whose usage is not known. ``sent=False``: nothing
        reached the server; everything is given back as far as it still counts. ``wait=False``: a thread
        that is at the book just now does it next, and nobody hears what is wrong with it.

        Raises
        ------
        LeaseError
            If the lease is settled already or unknown.
        """

        def end(now: float) -> None:
            if observation is not None:
                self._core.observe(now, observation, lease)
            self._core.settle(now, lease, usage, sent=sent)
            self._wake_first()

        if wait or not self._end_later(end):
            self._decide(end)

    def _end_later(self, end: Callable[[float], None]) -> bool:
        """Have a lease ended without waiting for it; False where it is to be ended now.

        Where leases are taken ahead, that is where somebody waits for what it gives back.
        """
        if self._ahead is not None:
            with self._line_and_core_lock:
                if self._line or self._core.others_wait():
                    return False
                self._ahead.end_later(end)
                self._flush_soon()
                return True
        if self._together is None:
            return False
        self._together.do_soon(lambda: end(self._axis()))
        return True

    def refused(self, lease: Lease, observation: Observation, kind: Refusal) -> None:
        """End a lease whose request the server refused; pauses the whole quota key."""

        def end(now: float) -> None:
            self._core.refused(now, lease, observation, kind)
            self._wake_first()

        self._decide(end)

    def observe(self, observation: Observation, lease: Lease | None = None) -> None:
        """Take in headers without settling, such as those of a stream that has just begun."""

        def learn(now: float) -> None:
            self._core.observe(now, observation, lease)
            self._wake_first()

        self._decide(learn)

    def forget(self) -> bool:
        """Forget what replies have taught, but for limits: what follows begins as if it were the first.

        That is the in-flight cap that refusals have left, the fitted charge, and how often in a row requests
        were refused; see `Book.forget` for what stays and why.

        Returns
        -------
        bool
            Whether that was done: nothing is while a request is in flight or waits on this quota key, in this
            process or in another that shares the state.
        """

        def end(now: float) -> bool:
            self._release_dead(now)
            return self._core.forget(now)

        return self._decide(end)

    def still_valid(self, lease: Lease) -> bool:
        """Whether a request may still be sent under a lease; ask right before sending.

        If not, settle it with ``sent=False`` and acquire anew.
        """
        unquestioned_s = UNQUESTIONED_S if self._ahead is None else max(UNQUESTIONED_S, self._ahead.kept_s)
        if self._axis() - lease.admitted_at < unquestioned_s:
            return True
        return self._decide(lambda now: self._core.still_valid(now, lease))

    def retune(self, settings: LimitSettings) -> None:
        """Change any limit while requests wait and run."""
        self._decide(lambda now: self._core.retune(now, settings))
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
            if self._trouble is not None:
                text = f"nothing is sent: {self._trouble}"
                return Standing(self._cause, math.inf, len(self._line), text)
            return Standing(self._cause, self._wake_at, len(self._line)) if self._line else None

    def now(self) -> float:
        """Return the time on the axis of leases and events: epoch seconds that never jump."""
        return self._axis()

    def largest(self) -> dict[Dimension, int]:
        """Return the largest amounts that one request may have; a dimension without limit is left out.

        As of this process's last decision: what another has learned since is met at the next admission.
        """
        if not self._has_decided:
            self._decide(lambda now: None)
        with self._line_and_core_lock:
            return self._core.largest()

    def refilled_at(self) -> float:
        """Return when the quota will be as if unused, on the axis of `now`; see `LimiterCore.refilled_at`."""
        return self._decide(self._core.refilled_at)

    def quota_shares(self, since: float = 0.0) -> dict[str, float]:
        """Return what was used of each limit since then while somebody waited; see `share.quota_shares`."""
        rules = self._decide(lambda now: self._core.rules())
        return quota_shares(self.events(since), rules)

    def snapshot(self) -> LimitEvent:
        """Return the state now as a row of the ``limits`` frame."""
        return self._decide(self._core.snapshot)

    def events(self, since: float = 0.0, *, look: bool = True) -> list[LimitEvent]:
        """Return the rows of the ``limits`` frame from ``since`` on (epoch seconds of the axis).

        ``look=False``: without what is to be written to the shared book with the next decision.
        """
        if look and self._together is not None:
            with suppress(StoreError):  # what cannot be written has not happened
                self._decide(lambda now: None)  # what is to be settled soon comes before
        with self._line_and_core_lock:
            return [event for event in self._core.history if event.t_s >= since]


def _spans(before: Mapping[Cause, float], after: Mapping[Cause, float]) -> dict[Cause, float]:
    return {cause: after[cause] - before[cause] for cause in Cause if after[cause] > before[cause]}
