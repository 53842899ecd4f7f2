"""The blocking wrapper: order, exact instants, stopping, retuning; threads on a clock that only they move."""

from __future__ import annotations

import math
import random
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from fractions import Fraction

import pytest

from toolkit.clock import ManualClock
from toolkit.errors import Oversize
from toolkit.limits import (
    Cause,
    DayExhausted,
    Demand,
    Limiter,
    LimitSettings,
    Observation,
    Refusal,
    StopEvent,
    limiter_for,
    waiting_spans,
)
from toolkit.limits.waiting import ManualSleeper, RealSleeper
from toolkit.records import Usage

EPOCH = 1_700_000_000.0


class Frozen:
    """Waits for a wake-up only: time stands still."""

    def wait(self, woken, until, axis, stop):
        woken.wait()


class Stepping(ManualSleeper):
    """Moves the clock once the test lets it, and counts the steps."""

    def __init__(self, clock):
        self.go = threading.Event()
        self.steps = 0
        super().__init__(clock, self.go.wait)

    def wait(self, woken, until, axis, stop):
        self.steps += not math.isinf(until)
        super().wait(woken, until, axis, stop)


def line_up(limiter, pool, jobs):
    """Start each job's acquire once the one before it stands in line."""
    futures = []
    for number, (demand, order) in enumerate(jobs, limiter.waiting + 1):
        futures.append(pool.submit(limiter.acquire, demand, order))
        until(lambda number=number: limiter.waiting >= number)
    return futures


def until(happened):
    """Let other threads run until it has happened."""
    while not happened():
        time.sleep(0)


def test_two_hundred_waiters_each_at_its_instant(new_state):
    """1 to 40,000 tokens at 60,000 a minute: admitted in order, each at the computed instant, none later."""
    rng, clock = random.Random(7), ManualClock(epoch=EPOCH)
    sleeper = Stepping(clock)
    settings = LimitSettings(tokens_per_minute=60_000)
    state = new_state()
    limiter = Limiter("key", settings, state, clock, sleeper)
    limiter.settle(limiter.acquire(Demand(60_000)).lease)
    jobs = [(Demand(rng.randint(1, 40_000)), rng.randint(0, 9)) for _ in range(200)]
    with ThreadPoolExecutor(200) as pool:
        futures = line_up(limiter, pool, jobs)
        sleeper.go.set()
        admissions = [future.result() for future in futures]
    in_order = sorted(range(200), key=lambda place: (jobs[place][1], place))
    total = 0
    for place in in_order:
        total += jobs[place][0].input_tokens
        late = Fraction(admissions[place].lease.admitted_at) - (Fraction(EPOCH) + Fraction(total, 1000))
        assert 0 <= late < 1e-6
        waited = admissions[place].waited_s
        assert set(waited) == {Cause.TOKENS}
        assert waited[Cause.TOKENS] == pytest.approx(admissions[place].lease.admitted_at - EPOCH, abs=1e-6)
    if not state.holder:  # alone, each is woken for its instant once; waiters of several processes look again
        # One step more for each waiter that a later arrival with a lower order sent back from the front.
        assert sleeper.steps <= 200 + 10


def test_a_big_request_is_not_starved(new_state):
    """Small ones that come later wait behind it, though they would fit."""
    clock = ManualClock(epoch=EPOCH)
    sleeper = Stepping(clock)
    limiter = Limiter("key", LimitSettings(tokens_per_minute=1000), new_state(), clock, sleeper)
    limiter.settle(limiter.acquire(Demand(500)).lease)
    with ThreadPoolExecutor(9) as pool:
        big, *small = line_up(limiter, pool, [(Demand(1000), 0)] + [(Demand(1), 0)] * 8)
        sleeper.go.set()
        assert big.result().lease.admitted_at == pytest.approx(EPOCH + 30, abs=1e-6)
        assert all(future.result().lease.admitted_at > EPOCH + 30 for future in small)


@pytest.mark.parametrize("make_stop", [StopEvent, threading.Event])
def test_stop_ends_the_waiting_at_once(make_stop, new_state):
    """Set by its owner, a stop ends a waiter that nothing else would wake; the next in line goes on."""
    limiter = Limiter("key", LimitSettings(max_concurrent=1), new_state(), ManualClock(), Frozen())
    held = limiter.acquire(Demand()).lease
    stop = make_stop()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(limiter.acquire, Demand(), 0, stop)
        until(lambda: limiter.waiting == 1)
        (second,) = line_up(limiter, pool, [(Demand(), 1)])
        stop.set()
        if make_stop is threading.Event:
            limiter.wake()
        with pytest.raises(CancelledError):
            first.result(timeout=20)
        limiter.settle(held, Usage(1, 1))
        assert second.result(timeout=20).lease
    assert limiter.waiting == 0
    with pytest.raises(CancelledError):
        limiter.acquire(Demand(), stop=stop)


def test_retune_lets_waiters_in_or_refuses_them(new_state):
    """A higher limit admits at the same instant; a lower one refuses whom it can never admit."""
    limiter = Limiter(
        "key", LimitSettings(tokens_per_minute=100), new_state(), ManualClock(epoch=EPOCH), Frozen()
    )
    limiter.acquire(Demand(100))
    with ThreadPoolExecutor(3) as pool:
        futures = line_up(limiter, pool, [(Demand(90), 0), (Demand(60), 0), (Demand(20), 0)])
        limiter.retune(LimitSettings(tokens_per_minute=190))
        assert futures[0].result(timeout=20).lease.admitted_at == EPOCH
        limiter.retune(LimitSettings(tokens_per_minute=50))
        with pytest.raises(Oversize):
            futures[1].result(timeout=20)
        limiter.retune(LimitSettings(tokens_per_minute=1000))
        assert futures[2].result(timeout=20).lease


def test_all_waiters_hear_of_an_exhausted_day(new_state):
    """A refusal for the day ends every wait with the time at which it may go on."""
    limiter = Limiter("key", LimitSettings(max_concurrent=1), new_state(), ManualClock(epoch=EPOCH), Frozen())
    lease = limiter.acquire(Demand()).lease
    with ThreadPoolExecutor(3) as pool:
        futures = line_up(limiter, pool, [(Demand(), 0)] * 3)
        limiter.refused(lease, Observation(retry_after_s=7200), Refusal.DAY)
        for future in futures:
            with pytest.raises(DayExhausted, match="2 h 0 min") as caught:
                future.result(timeout=20)
            assert caught.value.until == EPOCH + 7200


def test_oversize_is_refused_though_others_wait(new_state):
    """It does not stand in line first."""
    limiter = Limiter(
        "key", LimitSettings(tokens_per_minute=10, max_concurrent=1), new_state(), ManualClock(), Frozen()
    )
    held = limiter.acquire(Demand(1)).lease
    with ThreadPoolExecutor(1) as pool:
        (other,) = line_up(limiter, pool, [(Demand(1), 0)])
        with pytest.raises(Oversize):
            limiter.acquire(Demand(11))
        limiter.settle(held)
        assert other.result(timeout=20)


def test_many_threads_lose_no_lease(new_state):
    """Sixteen threads on three slots: never more than three inside, all get through, nothing is left."""
    limiter = Limiter("key", LimitSettings(max_concurrent=3), new_state(), ManualClock(), Frozen())
    inside, most, ids, counts_lock = 0, 0, set(), threading.Lock()
    full = threading.Event()

    def work():
        nonlocal inside, most
        for _ in range(30):
            lease = limiter.acquire(Demand(5, 5)).lease
            with counts_lock:
                inside += 1
                most = max(most, inside)
                ids.add(lease.id)
                if inside == 3:
                    full.set()
            full.wait(30)  # Nobody leaves before all three slots were taken once.
            time.sleep(0)
            with counts_lock:
                inside -= 1
            limiter.settle(lease, Usage(5, 1))

    with ThreadPoolExecutor(16) as pool:
        for future in [pool.submit(work) for _ in range(16)]:
            future.result(timeout=60)
    assert most == 3
    assert len(ids) == 16 * 30
    last = limiter.snapshot()
    assert (last.in_flight, last.waiting) == (0, 0)
    assert max(event.in_flight for event in limiter.events()) == 3


def test_one_limiter_for_a_quota_key(new_state):
    """Instances of a provider share it; new settings reach the one that is there."""
    state = new_state()
    first = limiter_for("key", LimitSettings(max_concurrent=2), state)
    assert limiter_for("key", LimitSettings(max_concurrent=2), state) is first
    assert limiter_for("key", LimitSettings(max_concurrent=5), state) is first
    assert first.snapshot().slot_cap == 5
    assert limiter_for("other", LimitSettings(), state) is not first


def test_a_plain_stop_event_is_looked_at():
    """Without a wake-up, the real sleeper sees that it is set; with none set, it ends at the time."""
    stop, woken, readings = threading.Event(), threading.Event(), iter([4.999, 5.0])
    RealSleeper().wait(woken, 5.0, lambda: next(readings), stop)
    stop.set()
    RealSleeper().wait(woken, math.inf, lambda: 0.0, stop)
    assert not woken.is_set()


def test_waits_add_up(new_state):
    """What was waited for slots and for tokens is told apart, and is the whole wait."""
    clock = ManualClock(epoch=EPOCH)
    state = new_state()
    limiter = Limiter("key", LimitSettings(tokens_per_minute=60, max_concurrent=1), state, clock, Frozen())
    lease = limiter.acquire(Demand(60)).lease
    with ThreadPoolExecutor(1) as pool:
        (future,) = line_up(limiter, pool, [(Demand(30), 0)])
        clock.advance(10)
        limiter.settle(lease, Usage(60, 0))
        until(lambda: limiter._cause is Cause.TOKENS)
        clock.advance(21)  # Sent at 0, it has arrived at 1 and drained by 9 since.
        limiter.wake()
        waited = future.result(timeout=20).waited_s
    assert waiting_spans(limiter.events()) == [(EPOCH, pytest.approx(EPOCH + 31, abs=1e-6))]
    assert waited == {Cause.SLOTS: pytest.approx(10, abs=1e-6), Cause.TOKENS: pytest.approx(21, abs=1e-6)}
