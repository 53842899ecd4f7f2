"""``LimiterCore``: decides who may send and when. No I/O, no threads, no clock.

Every method is told ``now`` in epoch seconds, on an axis that all sharers of the state have in common
(`axis`). The core never admits by halves: requests, tokens and slot are taken together or not at all.

Time that runs back a little (two readers in a race) counts as standing still. A clock set back by more
takes the whole book with it: what was counted counts as just counted, so that nothing is admitted twice
and nobody waits for a time that was a mistake.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from toolkit.errors import Oversize
from toolkit.limits import charges, ticks, turns
from toolkit.limits.book import Book, Counter, Entry
from toolkit.limits.calibration import calibrate
from toolkit.limits.charges import Amounts, Demand
from toolkit.limits.decisions import (
    CUTTING,
    Cause,
    Exhausted,
    Lease,
    LeaseError,
    LimitEvent,
    Refusal,
    Wait,
)
from toolkit.limits.fitted import OVERSHOOT_SHARE
from toolkit.limits.headers import Observation
from toolkit.limits.laws import DAY, DIMENSIONS, MINUTE, Clause, Dimension
from toolkit.limits.settings import LimitSettings
from toolkit.records import Usage

SECOND = ticks.PER_SECOND
SET_BACK = SECOND
"""A clock that is behind by more than this was set back."""
PATIENCE = 60 * SECOND
"""Longer waits for a day's limit drain the run; no minute's limit makes anybody wait longer than this, so it
is what a run has to live with anyway. A day's bucket that refills faster is simply waited for."""
FIRST_PAUSE, LONGEST_PAUSE = SECOND, 60 * SECOND
"""Cool-down after a refusal without Retry-After; doubles with each incident until a request gets through."""
SEND_WITHIN = SECOND
"""A lease older than this counts as slept over: the server would count it now, we counted it then. Not longer
than what a request has to arrive (``LimitSettings.transit_s``)."""
ABANDONED = 2 * 3600 * SECOND
"""A lease older than this is nobody's any more: twice the longest time-out that a request may have."""
HISTORY = 100_000
"""Events kept; the oldest go."""


class LimiterCore:
    """The limits of one quota key.

    Parameters
    ----------
    quota_key : str
        The pool that the calls draw from.
    settings : LimitSettings
    holder : str
        Name of this process where several share the state; empty where none does.
    """

    def __init__(self, quota_key: str, settings: LimitSettings, holder: str = "") -> None:
        self.quota_key = quota_key
        self.settings = settings
        self.holder = holder
        self.book = Book()
        self.waiting = 0
        self.history: deque[LimitEvent] = deque(maxlen=HISTORY)
        self._configure()

    def _configure(self) -> None:
        self.book.configure(self.settings)
        self._charge = self.settings.charge_in_force()
        self._refuses = self.settings.oversize == "refuse"
        self._held = charges.held_dimensions(self.settings)
        self._transit = ticks.from_seconds(self.settings.transit_s)
        self._bind()

    def _bind(self) -> None:
        """Work out what binds; to be called whenever a limit may have changed."""
        self._binding = self.book.apply_limits(self.settings.learn)
        self._requests_limit = self.limit(Dimension.REQUESTS)
        self._tokens_limit = self.limit(Dimension.TOKENS)

    # Asking

    def try_reserve(self, now: float, demand: Demand) -> Lease | Wait | Exhausted:
        """Take requests, tokens and a slot, all or none.

        Raises
        ------
        Oversize
            If the demand is above a limit and the settings do not let it wait for a full window.
        """
        at = self._tick(now)
        book = self.book
        amounts = self._amounts(at, demand)
        if book.day_until > at:
            return Exhausted(ticks.to_seconds(book.day_until), book.day_dimension)
        others = turns.ahead(book.line, self.holder, at) if book.line else []
        fits_at, last = at, None
        for counter in self._binding:
            amount, limit = amounts[counter.place], counter.window.limit
            if amount:
                if amount > limit and self._refuses:
                    raise _oversize(counter, amount)
                fits = counter.window.fits_at(at, amount)
                if others:
                    all_of_us = amount + sum(theirs[counter.place] for theirs in others)
                    fits = counter.window.fits_at(at, all_of_us) if all_of_us <= limit else ticks.NEVER
                if fits > fits_at:
                    fits_at, last = fits, counter
        cause = None
        if last is not None:
            if last.clause.period_s == DAY and ticks.NEVER > fits_at > at + PATIENCE:
                self._record(at, "exhausted")
                return Exhausted(ticks.to_seconds(fits_at), last.clause.dimension)
            cause = Cause.REQUESTS if last.place == 0 else Cause.TOKENS
        if book.paused_until > fits_at:
            fits_at, cause = book.paused_until, Cause.COOLDOWN
        if not book.slots.free(len(others)) or (book.slots.in_flight and self._one_at_a_time()):
            fits_at, cause = ticks.NEVER, Cause.SLOTS
        if cause is not None and self.holder:
            return turns.stand(book.line, self.holder, at, amounts, fits_at, cause, first=not others)
        if cause is not None:
            wake_at = ticks.to_seconds(fits_at)
            return Wait(wake_at, cause, wake_at)
        book.line.pop(self.holder, None)
        return self._admit(at, now, demand, amounts)

    def spare(self, now: float, demand: Demand, most: int, sharers: int) -> int:
        """Return how many requests, up to ``most``, may be taken before they are needed.

        Each of the ``sharers`` may take so many, and as much again is left. None where somebody waits, or
        where each request shows what the next one may.
        """
        at = self._tick(now)
        book, count = self.book, most
        if book.line or self.is_paused(now) or self._charge == "fitted" or self._one_at_a_time():
            return 0
        if (cap := book.slots.cap) is not None:
            count = min(count, (cap - book.slots.in_flight) // (2 * sharers))
        amounts = self._amounts(at, demand)
        for counter in self._binding:
            amount, limit = 2 * sharers * amounts[counter.place], counter.window.limit
            while count > 0 and (count * amount > limit or counter.window.fits_at(at, count * amount) > at):
                count //= 2
        return max(0, count)

    def is_paused(self, now: float) -> bool:
        """Whether nobody may send, after a refusal or for the rest of a day."""
        return max(self.book.paused_until, self.book.day_until) > ticks.from_seconds(now)

    def refuse_oversize(self, demand: Demand) -> None:
        """Raise Oversize for a demand that `try_reserve` would never admit; changes nothing."""
        if self._refuses:
            amounts = self._amounts(self.book.latest, demand)
            for counter in self._binding:
                if amounts[counter.place] > counter.window.limit:
                    raise _oversize(counter, amounts[counter.place])

    def _one_at_a_time(self) -> bool:
        """Whether to feel one's way: no number is known yet, or the charge is being fitted."""
        return (self.settings.learn == "auto" and not self._binding) or (
            self._charge == "fitted" and self.book.model.probing
        )

    def _amounts(self, at: int, demand: Demand) -> Amounts:
        fitted = None
        if self._charge == "fitted":
            book = self.book
            if at - book.shortfall_from > 60 * SECOND:
                book.shortfall_from, book.shortfall = at, 0
            limit = self._tokens_limit or 0
            trusted = self.settings.optimistic and book.shortfall <= OVERSHOOT_SHARE * limit
            fitted = book.model.estimate(demand, guarded=not trusted)
        return charges.reserve(self._charge, demand, fitted)

    def leave_line(self) -> None:
        """Give up this process's place among the processes: its waiter does not wait any more."""
        self.book.line.pop(self.holder, None)

    def _admit(self, at: int, now: float, demand: Demand, amounts: Amounts) -> Lease:
        book = self.book
        lease_id = book.admissions + 1
        for counter in book.counters.values():
            amount = amounts[counter.place]
            due = ticks.NEVER if self._held[counter.place] else at + counter.clause.transit(self._transit)
            if amount:
                counter.window.send(at, lease_id, amount, due)
        for meter, amount in ((book.requests_60s, 1), (book.tokens_60s, amounts[1])):
            meter.send(at, lease_id, amount, at)
        level = book.slots.take()
        book.admissions = lease_id
        if self._charge == "fitted" and not book.model.ready:
            book.model.probes += 1
        book.leases[lease_id] = Entry(self.holder, at, amounts, level)
        self._record(at, "admitted", lease_id, amounts)
        return Lease(lease_id, self.quota_key, now, amounts, demand)

    # Giving back

    def settle(self, now: float, lease: Lease, usage: Usage | None = None, *, sent: bool = True) -> None:
        """End a lease, once: its slot is free again, its charge becomes what it has come to.

        ``sent=False`` says that nothing reached the server: everything is given back as far as it counts.

        Raises
        ------
        LeaseError
            If the lease is settled already or is none of this quota key's.
        """
        at = self._tick(now)
        entry = self._entry(lease)
        slots = self.book.slots
        if usage is not None:
            self.book.refusals = 0
            if slots.answered(at, entry.at, entry.level):
                self._record(at, "grown")
        reserved = entry.amounts
        final = charges.settled(self._charge, lease.demand, reserved, usage) if sent else charges.NOTHING
        self._record(at, "settled" if sent else "unsent", lease.id, self._close(at, lease.id, final))

    def _entry(self, lease: Lease) -> Entry:
        entry = self.book.leases.get(lease.id)
        if entry is None or lease.quota_key != self.quota_key:
            raise LeaseError(f"lease {lease.id} of {lease.quota_key!r} is settled already or was never given")
        return entry

    def _close(self, at: int, lease_id: int, final: Amounts) -> Amounts:
        """End a lease and return what that adds to its charge."""
        entry = self.book.leases.pop(lease_id)
        for counter in self.book.counters.values():
            place = counter.place
            counter.window.settle(at, lease_id, entry.amounts[place], final[place])
        self.book.requests_60s.settle(at, lease_id, entry.amounts[0], final[0])
        self.book.tokens_60s.settle(at, lease_id, entry.amounts[1], final[1])
        self.book.slots.give_back()
        requests, *tokens = (after - before for after, before in zip(final, entry.amounts, strict=True))
        return (requests, tokens[0], tokens[1], tokens[2])

    def release_dead(self, now: float, dead: Collection[str]) -> int:
        """Take back the slots of holders that are dead; what they were charged stays. Return how many."""
        at = self._tick(now)
        gone = [i for i, entry in self.book.leases.items() if entry.holder in dead]
        for i in gone:
            self._close(at, i, self.book.leases[i].amounts)
            self._record(at, "reclaimed")
        for holder in dead:
            self.book.line.pop(holder, None)
        return len(gone)

    def other_holders(self) -> set[str]:
        """Return the other processes that have leases or wait in line."""
        return ({entry.holder for entry in self.book.leases.values()} | set(self.book.line)) - {self.holder}

    def others_wait(self) -> bool:
        """Whether another process stood in line when this one last looked."""
        return bool(self.book.line.keys() - {self.holder})

    def abandoned_holders(self, now: float) -> set[str]:
        """Return the other processes whose leases are too old for any request, living or not."""
        at = self._tick(now)
        old = {entry.holder for entry in self.book.leases.values() if at - entry.at > ABANDONED}
        return old - {self.holder}

    def still_valid(self, now: float, lease: Lease) -> bool:
        """Whether a request may still be sent under a lease; ask right before sending.

        If not (the machine slept, or the lease was taken for a dead holder's), settle it with
        ``sent=False`` where it still is one, and ask anew.
        """
        at = self._tick(now)
        entry = self.book.leases.get(lease.id)
        return entry is not None and entry.holder == self.holder and at - entry.at <= SEND_WITHIN

    # Learning

    def observe(self, now: float, observation: Observation, lease: Lease | None = None) -> None:
        """Take in a reply's headers; ``lease`` is that of the request, before or after its settlement."""
        at = self._tick(now)
        changed = calibrate(self.book, self.settings, at, observation, lease)
        if "learned" in changed:
            self._bind()
        for event in changed:
            self._record(at, event)

    def refused(self, now: float, lease: Lease, observation: Observation, kind: Refusal) -> None:
        """End a lease whose request the server refused, and pause the quota key.

        The request stays counted, as servers count refused ones; tokens that are held go free, since
        nothing was read or written. Retry-After is a floor.
        """
        at = self._tick(now)
        entry = self._entry(lease)
        entry.refused = True
        self.observe(now, self._with_periods(observation, entry.amounts), lease)
        book = self.book
        if kind in CUTTING and book.slots.cut(at, entry.at, entry.level):
            self._record(at, "cut")
        final = charges.refused(entry.amounts, self._held)
        self._record(at, "refused", lease.id, self._close(at, lease.id, final))
        if entry.at > book.pause_set_at:  # else it was on its way when the pause began: the same incident
            book.refusals += 1
            book.pause_set_at = at
            if observation.retry_after_s is None and kind is not Refusal.DAY:
                pause = min(LONGEST_PAUSE, FIRST_PAUSE << min(book.refusals - 1, 6))
                book.paused_until = max(book.paused_until, at + pause)
        days = [r for r in observation.readings if r.period_s == DAY and r.remaining == 0]
        wait = -ticks.from_seconds(-(observation.retry_after_s or 0.0))
        if kind is Refusal.DAY or (days and wait > PATIENCE):
            if not wait:  # the first place of a day's bucket, else a day's end is the server's secret
                wait = min((DAY * SECOND // r.limit for r in days if r.limit), default=60 * PATIENCE)
            book.day_until = max(book.day_until, at + wait)
            book.day_dimension = days[0].dimension if days else Dimension.REQUESTS
            self._record(at, "exhausted")
        elif wait:
            book.paused_until = max(book.paused_until, at + wait)
        self._record(at, "cooldown")

    def forget(self, now: float) -> bool:
        """Forget what replies have taught, but for limits; see `Book.forget`.

        Returns whether that was done: not while anything is in flight or waits, here or in another process.
        """
        at = self._tick(now)
        turns.leave_sleepers(self.book.line, at)
        if self.book.leases or self.book.line or self.waiting:
            return False
        self.book.forget()
        self._record(at, "forgotten")
        return True

    def _with_periods(self, observation: Observation, refused: Amounts) -> Observation:
        """Take a limit that is unused, of an unknown period, and below what it refused, for a minute's.

        Whatever its period, the request never fits, and is to be refused here from now on.
        """
        readings = tuple(
            reading._replace(period_s=MINUTE)
            if reading.period_s is None
            and f"{reading.dimension}:{reading.limit}" not in self.book.periods
            and reading.limit is not None
            and reading.remaining == reading.limit < refused[DIMENSIONS.index(reading.dimension)]
            else reading
            for reading in observation.readings
        )
        return observation._replace(readings=readings)

    def retune(self, now: float, settings: LimitSettings) -> None:
        """Change any limit while requests wait and run; what is counted stays counted."""
        at = self._tick(now)
        self.settings = settings
        self._configure()
        self._record(at, "retuned")

    # Looking

    def limit(self, dimension: Dimension, period_s: int = MINUTE) -> int | None:
        """Return the limit in force for a minute or a day; None if there is none."""
        return min(
            (
                counter.window.limit
                for counter in self._binding
                if counter.clause.dimension is dimension and counter.clause.period_s == period_s
            ),
            default=None,
        )

    def largest(self) -> dict[Dimension, int]:
        """Return the largest amounts that one request may have; a dimension without limit is left out."""
        found: dict[Dimension, int] = {}
        for counter in self._binding:
            dimension = counter.clause.dimension
            found[dimension] = min(found.get(dimension, counter.window.limit), counter.window.limit)
        return found

    def refilled_at(self, now: float) -> float:
        """Return when all that was admitted will count no more; infinity: nobody knows.

        A request that began then would find the limits, but for those of a day, as if they were unused.
        """
        at = self._tick(now)
        full = (
            counter.window.fits_at(at, counter.window.limit)
            for counter in self._binding
            if counter.clause.period_s != DAY
        )
        return ticks.to_seconds(max(at, self.book.paused_until, *full))

    def rules(self) -> dict[Clause, int]:
        """Return the law's clauses that bind, with the limits in force."""
        return {counter.clause: counter.window.limit for counter in self._binding}

    def used(self, now: float) -> dict[str, float]:
        """Return what counts now in each window that binds, by the clause's name."""
        at = self._tick(now)
        return {counter.clause.name: counter.window.used(at) for counter in self._binding}

    def snapshot(self, now: float) -> LimitEvent:
        """Return the state as a row of the ``limits`` frame."""
        return self._row(self._tick(now), "snapshot")

    def note_waiting(self, now: float, waiting: int) -> None:
        """Take note of how many wait in this process, for the history."""
        began_or_ended = (waiting > 0) != (self.waiting > 0)
        self.waiting = waiting
        if began_or_ended:
            self._record(max(self.book.latest, ticks.from_seconds(now)), "waiting" if waiting else "idle")

    def _record(
        self, at: int, event: str, lease_id: int | None = None, added: Amounts = charges.NOTHING
    ) -> None:
        self.history.append(self._row(at, event, lease_id, added))

    def _row(
        self, at: int, event: str, lease_id: int | None = None, added: Amounts = charges.NOTHING
    ) -> LimitEvent:
        book = self.book
        return LimitEvent(
            at / SECOND,
            self.quota_key,
            event,
            int(book.requests_60s.used(at)),
            int(book.tokens_60s.used(at)),
            book.slots.in_flight,
            book.slots.cap,
            self.waiting,
            self._requests_limit,
            self._tokens_limit,
            book.remaining.get(Dimension.REQUESTS),
            book.remaining.get(Dimension.TOKENS),
            lease_id,
            *added,
        )

    # Time and state

    def _tick(self, now: float) -> int:
        at = ticks.from_seconds(now)
        latest = self.book.latest
        if at >= latest:
            self.book.latest = at
            return at
        if latest - at > SET_BACK:
            self.book.set_back(at)
            return at
        return latest

    def load(self, state: str) -> None:
        """Take over the book that another process wrote."""
        self.book.load(state)
        self._bind()

    def dump(self) -> str:
        """Return the book for the other processes."""
        return self.book.dump()


def _oversize(counter: Counter, amount: int) -> Oversize:
    clause = counter.clause
    period = (
        "day" if clause.period_s == DAY else "minute" if clause.period_s == MINUTE else f"{clause.period_s} s"
    )
    return Oversize(
        f"The request counts {amount} {clause.dimension.replace('_', ' ')}, but the limit is "
        f"{counter.window.limit} per {period}; it could never be admitted. Cut the text into smaller chunks "
        "(chunk_tokens), lower the cap on the reply (summary_max_tokens), or raise the limit in the config "
        "if the account has more."
    )
