"""The three windows against the definition of their law."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.limits import ticks
from toolkit.limits.windows import Bucket, Kind, SlidingWindow, make_window

KINDS = list(Kind)
EPOCH = 1_700_000_000.0
START = ticks.from_seconds(EPOCH) + 12_345
GAPS = st.one_of(st.just(0), st.integers(0, 3 * ticks.PER_SECOND), st.integers(0, 90 * ticks.PER_SECOND))


@pytest.mark.parametrize("kind", KINDS)
@given(limit=st.integers(1, 500), period=st.integers(1, 60), data=st.data())
def test_never_early_and_never_in_vain(kind, limit, period, data, broken):
    """Amounts taken as early as the window says keep the law, fit at that tick, and not at the one before."""
    window, admitted, at = make_window(kind, limit, period), [], START
    for _ in range(data.draw(st.integers(1, 25))):
        at += data.draw(GAPS)
        amount = data.draw(st.integers(1, limit))
        fits = window.fits_at(at, amount)
        if fits > at:
            before = make_window(kind, limit, period)
            before.load(json.loads(json.dumps(window.dump())))
            assert before.fits_at(fits - 1, amount) == fits
        at = fits
        assert window.fits_at(at, amount) == at
        window.take(at, amount)
        admitted.append((Fraction(at, ticks.PER_SECOND), amount))
    assert broken[kind](admitted, limit, period) is None


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_refund_never_breaks_the_law(kind, data, broken):
    """With the refunded parts left out of the list, the admissions keep the law."""
    limit, period = data.draw(st.integers(1, 300)), data.draw(st.sampled_from([1, 10, 60]))
    window, admitted, now = make_window(kind, limit, period), [], EPOCH
    marks = []
    for _ in range(data.draw(st.integers(1, 25))):
        now += data.draw(st.floats(0, period))
        if marks and data.draw(st.booleans()):
            place, mark = marks.pop(data.draw(st.integers(0, len(marks) - 1)))
            time, amount = admitted[place]
            given_back = data.draw(st.integers(0, amount))
            window.refund(ticks.from_seconds(now), given_back, mark)
            admitted[place] = (time, amount - given_back)
        amount = data.draw(st.integers(1, limit))
        now = ticks.to_seconds(window.fits_at(ticks.from_seconds(now), amount))
        marks.append((len(admitted), window.take(ticks.from_seconds(now), amount)))
        admitted.append((now, amount))
    assert broken[kind](admitted, limit, period) is None


def test_a_refund_gives_back_what_has_not_drained_only():
    """100 taken, half drained, half taken anew: giving the first back leaves the second counted."""
    bucket = Bucket(100, 100 * ticks.PER_SECOND)
    first = bucket.take(0, 100)
    half = 50 * ticks.PER_SECOND
    bucket.take(half, 50)
    bucket.refund(half, 100, first)
    assert bucket.used(half) == 50


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_resize_keeps_what_is_used(kind, data, broken):
    """Across changes of the limit the admissions keep the largest one's law, and then the last one's."""
    window, admitted, now = make_window(kind, 100, 60), [], EPOCH
    limits = data.draw(st.lists(st.integers(1, 400), min_size=1, max_size=4))
    changed = 0
    for limit in limits:
        window.resize(ticks.from_seconds(now), limit)
        changed = len(admitted)
        for _ in range(data.draw(st.integers(1, 6))):
            amount = data.draw(st.integers(1, limit))
            now = ticks.to_seconds(window.fits_at(ticks.from_seconds(now), amount))
            window.take(ticks.from_seconds(now), amount)
            admitted.append((now, amount))
    assert broken[kind](admitted, max(limits), 60) is None
    assert broken[kind](admitted[changed:], limits[-1], 60) is None


@pytest.mark.parametrize("kind", KINDS)
def test_held_amounts_count_and_do_not_drain(kind):
    """What is held is in the way until it is released, however long that takes."""
    window = make_window(kind, 100, 60)
    window.held = 60
    at = ticks.from_seconds(EPOCH)
    assert window.fits_at(at, 40) == at
    assert window.fits_at(at + 10**6 * ticks.PER_SECOND, 41) == ticks.NEVER


@pytest.mark.parametrize("kind", KINDS)
def test_tighten_adds_only_what_own_amounts_cannot_explain(kind):
    """A reading that own amounts explain changes nothing; one that they do not explain counts."""
    window = make_window(kind, 1000, 60)
    start = ticks.from_seconds(EPOCH - EPOCH % 60)
    window.take(start, 300)
    assert window.tighten(start, start, 700, 1000) == 0
    assert window.tighten(start, start, 600, 1000) == 100
    assert window.used(start) == 400
    assert window.fits_at(start, 601) > start
    later = start + ticks.PER_SECOND * 6
    assert window.tighten(later, start, 800, 1000) == 0, "a looser reading never loosens"


def test_a_dense_sliding_window_stays_small_and_never_early(broken):
    """With more amounts in a window than it keeps entries, it keeps the law and loses 0.1 % at most."""
    window, admitted, now = SlidingWindow(5000, 60 * ticks.PER_SECOND, entries=64), [], EPOCH
    for step in range(12_000):
        at = ticks.from_seconds(now)
        now = ticks.to_seconds(window.fits_at(at, 1)) + (step % 7) * 0.001
        window.take(ticks.from_seconds(now), 1)
        admitted.append((now, 1))
    assert len(window.dump()[1]) <= 2 * 64 + 2
    times = [time for time, _ in admitted]
    assert all(late - early >= 60 for early, late in zip(times, times[5000:], strict=False))


@given(st.floats(0, 4e9))
def test_seconds_and_ticks(seconds):
    """A float becomes the tick not after it; ticks become the float not before them."""
    tick = ticks.from_seconds(seconds)
    assert tick / ticks.PER_SECOND <= seconds
    assert ticks.from_seconds(ticks.to_seconds(tick)) >= tick
    if seconds >= 2**22:
        assert ticks.to_seconds(tick) == seconds
