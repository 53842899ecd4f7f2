"""The three windows against the definition of their law."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.limits import ticks
from toolkit.limits.window import Kind
from toolkit.limits.windows import Bucket, SlidingWindow, make_window

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
@given(limit=st.integers(1, 500), period=st.sampled_from([1, 10, 60]), data=st.data())
def test_whenever_the_server_counts(kind, limit, period, data, broken):
    """A request counts at the server at any moment between sending and due or reply: the law is kept.

    And the window is still not early by a tick and not late by one.
    """
    window, counted, at, flying = make_window(kind, limit, period), [], START, []
    transit = data.draw(st.integers(0, period * ticks.PER_SECOND // 20))
    for key in range(data.draw(st.integers(1, 25))):
        at += data.draw(GAPS)
        while flying and data.draw(st.booleans()):
            sent, reserved, other = flying.pop(data.draw(st.integers(0, len(flying) - 1)))
            final = data.draw(st.integers(0, reserved))
            window.settle(at, other, reserved, final)
            counted.append((data.draw(st.integers(sent, min(at, sent + transit))), final))
        amount = data.draw(st.integers(1, limit))
        fits = window.fits_at(at, amount)
        if fits > at:
            before = make_window(kind, limit, period)
            before.load(json.loads(json.dumps(window.dump())))
            assert before.fits_at(fits - 1, amount) == fits
        at = fits
        assert window.fits_at(at, amount) == at
        window.send(at, key, amount, at + transit)
        flying.append((at, amount, key))
    counted += [(data.draw(st.integers(sent, sent + transit)), amount) for sent, amount, _ in flying]
    on_axis = sorted((Fraction(time, ticks.PER_SECOND), amount) for time, amount in counted)
    assert broken[kind](on_axis, limit, period) is None


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_refund_never_breaks_the_law(kind, data, broken):
    """With the refunded parts left out of the list, the admissions keep the law."""
    limit, period = data.draw(st.integers(1, 300)), data.draw(st.sampled_from([1, 10, 60]))
    window, admitted, now = make_window(kind, limit, period), [], EPOCH
    places = []
    for _ in range(data.draw(st.integers(1, 25))):
        now += data.draw(st.floats(0, period))
        if places and data.draw(st.booleans()):
            place = places.pop(data.draw(st.integers(0, len(places) - 1)))
            time, amount = admitted[place]
            final = data.draw(st.integers(0, amount))
            window.settle(ticks.from_seconds(now), place, amount, final)
            admitted[place] = (time, final)
        amount = data.draw(st.integers(1, limit))
        now = ticks.to_seconds(window.fits_at(ticks.from_seconds(now), amount))
        places.append(len(admitted))
        at = ticks.from_seconds(now)
        window.send(at, places[-1], amount, at)
        admitted.append((now, amount))
    assert broken[kind](admitted, limit, period) is None


def test_a_refund_moves_what_came_later_nearer_to_the_outflow():
    """Given back from beneath, the first leaves the second where it drains first."""
    bucket = Bucket(100, 100 * ticks.PER_SECOND)
    bucket.send(0, 1, 50, 0)
    bucket.send(0, 2, 50, 0)
    bucket.settle(0, 1, 50, 0)
    half = 50 * ticks.PER_SECOND
    bucket.take(half, 30)
    bucket.settle(half, 2, 50, 0)
    assert bucket.used(half) == 30, "the second has drained and gives nothing back"


def test_a_refund_gives_back_what_has_not_drained_only():
    """100 taken, half drained, half taken anew: giving the first back leaves the second counted."""
    bucket = Bucket(100, 100 * ticks.PER_SECOND)
    bucket.send(0, 1, 100, 0)
    half = 50 * ticks.PER_SECOND
    bucket.take(half, 50)
    bucket.settle(half, 1, 100, 0)
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
    at = ticks.from_seconds(EPOCH)
    window.send(at, 1, 60, ticks.NEVER)
    assert window.fits_at(at, 40) == at
    later = at + 10**6 * ticks.PER_SECOND
    assert window.fits_at(later, 41) == ticks.NEVER
    window.settle(later, 1, 60, 30)
    assert window.fits_at(later, 70) == later
    assert later < window.fits_at(later, 71) < ticks.NEVER


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
    assert len(window.dump()[-1][0]) <= 2 * 64 + 2
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
