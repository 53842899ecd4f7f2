r"""What the server's headers change in the book: limits, what is left, and samples of what it charges.

A reading is of some moment between the sending of its request and its reply, and nobody says which. Own
requests in flight meanwhile may be in it or not, and a part may have been refilled since. So a reading
raises what we believe to be used only to the least that it proves: own charges that could be in it are
not added to it a second time, and neither refill that may have come nor what was rounded off is denied. What
it leaves open is at most these and what is in flight, and the last reply of a burst closes it.
"""

from __future__ import annotations

from toolkit.limits import ticks
from toolkit.limits.book import Book, Counter, LastReading
from toolkit.limits.decisions import Lease
from toolkit.limits.fitted import OVERSHOOT_SHARE
from toolkit.limits.headers import Observation, Reading
from toolkit.limits.laws import APART, DAY, MINUTE, Clause, Dimension
from toolkit.limits.settings import LimitSettings
from toolkit.limits.window import Kind

SHARPNESS = 0.05
"""A drop is a sample if the refill meanwhile leaves it uncertain by no more than this share of it."""


def calibrate(
    book: Book, settings: LimitSettings, at: int, observation: Observation, lease: Lease | None
) -> list[str]:
    """Take in one reply's readings; return the events that came of it (``learned`` changes limits).

    The period of a reading that cannot tell is that of an earlier one with the same limit, or it is skipped.
    """
    since = at if lease is None else min(at, ticks.from_seconds(lease.admitted_at))
    events = ["learned"] if _forget_total(book, observation) else []
    for reading in observation.readings:
        name = f"{reading.dimension}:{reading.limit}"
        period_s = _tell_period(reading, settings) or book.periods.get(name)
        if period_s is None:
            continue
        book.periods[name] = period_s
        concerned = _concerned(book, settings, reading, period_s)
        if reading.limit is not None and _learn_limit(concerned, reading.limit, period_s):
            book.apply_limits(settings.learn)
            events.append("learned")
        if reading.remaining is None:
            continue
        if period_s == MINUTE:
            book.remaining[reading.dimension] = reading.remaining
        if period_s == MINUTE and reading.dimension is Dimension.TOKENS:
            _sample_charge(book, settings, at, since, reading, lease)
        for counter in concerned:
            limit = counter.limit(settings.learn)
            if limit is None or counter.clause.period_s != period_s:
                continue
            left = reading.remaining + reading.rounding
            added = counter.window.tighten(at, since, left, reading.limit or limit)
            if added:
                events.append("tightened")
            if added and settings.optimistic and reading.dimension is Dimension.TOKENS:
                book.shortfall += added
                if book.shortfall > OVERSHOOT_SHARE * limit:
                    events.append("overshoot")
    return events


def _forget_total(book: Book, observation: Observation) -> bool:
    """Unlearn a limit on all tokens that is not shown any more where the two kinds are shown apart.

    What is shown there is the most restrictive one; another may be in the book of a time when it was.
    """
    shown = {reading.dimension for reading in observation.readings}
    if Dimension.TOKENS in shown or shown.isdisjoint(APART):
        return False
    told = [c for c in book.counters.values() if c.clause.dimension is Dimension.TOKENS and c.told]
    for counter in told:
        counter.told = None
    book.remaining.pop(Dimension.TOKENS, None)
    return bool(told)


def _tell_period(reading: Reading, settings: LimitSettings) -> int | None:
    """Return the period of a reading; None if it cannot be told.

    Where the law is no bucket, a bucket's identity of reset and remaining tells nothing; there the reset is
    when the window ends. But a limit on requests that fits a bucket of a day may be just that, whatever the
    law (``safe`` is kept at servers of any kind), and is not taken for a minute's.
    """
    kind = settings.read_law().kind(reading.dimension, MINUTE)
    if kind is Kind.BUCKET or reading.reset_s is None or reading.remaining == reading.limit:
        return reading.period_s
    if reading.reset_s > MINUTE + 1:
        return DAY
    if reading.dimension is Dimension.REQUESTS and reading.period_s == DAY:
        return None
    return MINUTE


def _concerned(book: Book, settings: LimitSettings, reading: Reading, period_s: int) -> list[Counter]:
    """Return the law's counters for a reading; a limit that only the server knows is adopted."""
    law = settings.read_law()
    clauses = [
        clause
        for clause in law.clauses
        if clause.dimension is reading.dimension and (clause.period_s == DAY) == (period_s == DAY)
    ]
    if not any(clause.period_s == period_s for clause in clauses):
        clauses.append(Clause(reading.dimension, law.kind(reading.dimension, period_s), period_s))
    known = [book.counters[clause.name] for clause in clauses if clause.name in book.counters]
    if reading.limit is None:
        return known
    return [book.counter(clause) for clause in clauses]


def _learn_limit(counters: list[Counter], limit: int, period_s: int) -> bool:
    learned = False
    for counter in counters:
        told = limit if counter.clause.period_s == period_s else counter.clause.share(limit)
        learned |= counter.told != told
        counter.told = told
    return learned


def _sample_charge(
    book: Book, settings: LimitSettings, at: int, since: int, reading: Reading, lease: Lease | None
) -> None:
    """Learn a request's charge from the drop since the last reading, if nothing else can be in it."""
    last = book.last_reading
    remaining, limit = reading.remaining, reading.limit
    if remaining is None or limit is None or lease is None or reading.rounding:
        return
    entry = book.leases.get(lease.id)
    book.last_reading = None
    if entry is None or entry.refused or entry.level > 1 or lease.id != book.admissions:
        # What is left after a refusal says nothing of what the request would be charged; and where others
        # were under way, some may have been counted after this reading was taken.
        return
    book.last_reading = LastReading(since, at, remaining, book.admissions)
    if settings.charge != "fitted" or last is None or last.admissions != lease.id - 1:
        return
    period = MINUTE * ticks.PER_SECOND
    match settings.read_law().kind(Dimension.TOKENS, MINUTE):
        case Kind.BUCKET:
            most = min(limit, last.remaining + limit * (at - last.sent) / period)
            least = min(limit, last.remaining + limit * (since - last.received) / period)
        case Kind.FIXED:
            if last.sent // period == at // period:
                most = least = last.remaining
            elif last.received // period < since // period == at // period:
                most = least = limit
            else:
                return
        case Kind.SLIDING:
            return
    # The middle: the upper end of each sample would make the guard as wide as the widest of them.
    charged = (most + least) / 2 - remaining
    if charged > 0 and most - least <= max(1.0, SHARPNESS * charged):
        book.model.learn(lease.demand, charged)
