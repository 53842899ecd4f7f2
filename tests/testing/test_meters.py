"""The meters against checkers that keep a plain list and count it anew each time."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.testing.meters import Bucket, Calendar, FirstRequest, Meter, Resource, Sliding

START = 1_700_000_000.0
PERIOD = 60
# Quarters of a second are exact in floats, so that the edges of windows can be met exactly.
GAPS = st.integers(0, 4 * PERIOD).map(lambda quarters: quarters / 4) | st.sampled_from([0.0, 60.0, 59.75])
REQUESTS = st.lists(st.tuples(GAPS, st.integers(1, 12)), max_size=60)
KINDS: list[type[Meter]] = [Bucket, Sliding, Calendar, FirstRequest]

Log = list[tuple[float, int]]


def room_in_bucket(log: Log, now: float, limit: int) -> Fraction:
    level, at = Fraction(limit), Fraction(START)
    for time, units in log:
        level = min(Fraction(limit), level + (Fraction(time) - at) * limit / PERIOD) - units
        at = Fraction(time)
    return min(Fraction(limit), level + (Fraction(now) - at) * limit / PERIOD)


def room_in_sliding(log: Log, now: float, limit: int) -> Fraction:
    return Fraction(limit - sum(units for time, units in log if now - time < PERIOD))


def room_in_calendar(log: Log, now: float, limit: int) -> Fraction:
    return Fraction(limit - sum(units for time, units in log if time // PERIOD == now // PERIOD))


def room_in_first_request(log: Log, now: float, limit: int) -> Fraction:
    starts: list[float] = []
    for time, _ in log:
        if not starts or time >= starts[-1] + PERIOD:
            starts.append(time)
    if not starts or now >= starts[-1] + PERIOD:
        return Fraction(limit)
    return Fraction(limit - sum(units for time, units in log if time >= starts[-1]))


ROOM = {
    Bucket: room_in_bucket,
    Sliding: room_in_sliding,
    Calendar: room_in_calendar,
    FirstRequest: room_in_first_request,
}


def make(kind: type[Meter], limit: int) -> Meter:
    return kind("tokens", Resource.TOKENS, limit, float(PERIOD))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=80, deadline=None)
@given(requests=REQUESTS, limit=st.integers(5, 30))
def test_decides_as_a_plain_count_does(
    kind: type[Meter], requests: list[tuple[float, int]], limit: int
) -> None:
    """Lets in what fits and refuses what does not; fails if one window, edge or refill is off."""
    meter, log, now = make(kind, limit), list[tuple[float, int]](), START
    for gap, units in requests:
        now += gap
        room = ROOM[kind](log, now, limit)
        assert meter.remaining(now) == pytest.approx(float(room), abs=1e-5)
        fits = meter.wait_s(now, units) == 0
        if abs(room - units) > 1e-5:
            assert fits == (units <= room)
        if fits:
            meter.take(now, units)
            log.append((now, units))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(requests=REQUESTS, limit=st.integers(5, 30))
def test_a_wait_is_enough_and_not_too_long(
    kind: type[Meter], requests: list[tuple[float, int]], limit: int
) -> None:
    """After the wait that it asks for a request fits, a moment before it does not."""
    meter, now = make(kind, limit), START
    for gap, units in requests:
        now += gap
        wait = meter.wait_s(now, units)
        if math.isinf(wait):
            assert units > limit
        elif wait == 0:
            meter.take(now, units)
        else:
            assert meter.wait_s(now + wait - 0.01, units) > 0 or wait < 0.01
            now += wait + 1e-5
            assert meter.wait_s(now, units) == 0


@settings(max_examples=80, deadline=None)
@given(requests=REQUESTS, limit=st.integers(5, 30))
def test_a_bucket_never_passes_its_line(requests: list[tuple[float, int]], limit: int) -> None:
    """At most limit + limit x w / 60 in any w seconds."""
    meter, log, now = make(Bucket, limit), list[tuple[float, int]](), START
    for gap, units in requests:
        now += gap
        if meter.wait_s(now, units) == 0:
            meter.take(now, units)
            log.append((now, units))
    for i, (began, _) in enumerate(log):
        total = 0
        for time, units in log[i:]:
            total += units
            assert total <= limit + limit * (time - began) / PERIOD + 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_reset_tells_when_it_is_full(kind: type[Meter]) -> None:
    """After the reset time all of the limit is there, and not before."""
    meter = make(kind, 10)
    assert meter.reset_s(START) == 0
    meter.take(START + 1, 10)
    reset = meter.reset_s(START + 1)
    assert meter.remaining(START + 1 + reset - 0.5) < 10
    assert meter.remaining(START + 1 + reset + 1e-6) == pytest.approx(10)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_given_back_may_be_used_again(kind: type[Meter]) -> None:
    """A refund makes room, and never more than the limit."""
    meter = make(kind, 10)
    mark = meter.take(START, 10)
    meter.return_unused(START, 4, mark)
    assert meter.remaining(START) == 4
    later = START + 3 * PERIOD
    meter.return_unused(later, 4, mark)
    assert meter.remaining(later) == 10


@pytest.mark.parametrize("kind", KINDS)
def test_share_of_a_client_that_uses_all(kind: type[Meter]) -> None:
    """A client that takes each unit at once has a share of 1, one that takes half has a half."""
    for part in (1.0, 0.5):
        meter = make(kind, 60)
        now = START - START % PERIOD
        last = now
        for _ in range(4 * 600):
            if meter.wait_s(now, 1 / part) == 0:
                meter.take(now, 1)
                if part == 0.5:
                    meter.take(now, 1)
                    meter._used -= 1
                last = now
            now += 0.125
        assert meter.share(last) == pytest.approx(part, rel=0.03)


def test_a_penalty_takes_no_more_than_there_is() -> None:
    """Refused requests count, but never make a debt."""
    for kind in KINDS:
        meter = make(kind, 3)
        for _ in range(5):
            meter.penalize(START)
        assert meter.remaining(START) == 0
