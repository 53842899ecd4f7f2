"""Forgetting what replies have taught: all but what keeps a limit, and nothing while calls go on."""

from __future__ import annotations

import heapq
import itertools
import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from toolkit.clock import ManualClock
from toolkit.limits import (
    Demand,
    Exhausted,
    Lease,
    Limiter,
    LimiterCore,
    LimitSettings,
    Observation,
    Reading,
    Refusal,
    SqliteState,
    Wait,
)
from toolkit.limits.fitted import ENOUGH
from toolkit.limits.laws import DAY, MINUTE, Dimension
from toolkit.limits.state import Overtaken
from toolkit.records import Usage

EPOCH = 1_700_000_000.0
LIMIT = 6000
COMPLAINTS = [Refusal.CONCURRENCY, Refusal.SLOW_DOWN, Refusal.OVERLOAD, Refusal.RATE]


class Quota:
    """A core in its state, asked the way the limiter asks it."""

    def __init__(self, state, settings):
        self.state, self.core = state, LimiterCore("key", settings, state.holder)

    def __getattr__(self, name):
        def call(*args, **kwargs):
            try:
                with self.state.exclusive(self.core):
                    return getattr(self.core, name)(*args, **kwargs)
            except Overtaken:
                return call(*args, **kwargs)

        return call


def told(left, limit=LIMIT):
    return Observation((Reading(Dimension.TOKENS, limit, left, None, MINUTE),))


def traffic(quota, now, rng, requests, cap):
    """Send requests to a server that works on ``cap`` at a time and says what is left.

    Return the core's answers, and the moment at which the last request had ended.
    """
    numbers, flying, answers = itertools.count(), [], []
    while requests or flying:
        answer = quota.try_reserve(now, Demand(*requests[0])) if requests else None
        if isinstance(answer, Lease):
            requests = requests[1:]
            answers.append((answer.admitted_at, answer.amounts))
            refused = len(flying) >= cap
            after_s = 0.1 if refused else 0.1 + rng.random()
            heapq.heappush(flying, (now + after_s, next(numbers), answer, refused))
            continue
        if answer is not None:
            answers.append((answer.wake_at, answer.cause))
        ends = flying[0][0] if flying else float("inf")
        now = min(ends, answer.wake_at if answer is not None else ends)
        if flying and now == ends:
            _, _, lease, refused = heapq.heappop(flying)
            if refused:
                quota.refused(now, lease, Observation(), rng.choice(COMPLAINTS))
            else:
                quota.observe(now, told(LIMIT - sum(lease.amounts[2:])), lease)
                quota.settle(now, lease, Usage(lease.demand.input_tokens, 5))
    return answers, now


@pytest.mark.parametrize("law", ["openai", "azure", "anthropic", "safe"])
@pytest.mark.parametrize("charge", ["sum", "actual", "fitted"])
@effort(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_what_follows_is_as_if_it_were_the_first(law, charge, seed, new_state):
    """Rested and forgetful, a limiter answers the same traffic as one that has just been made."""
    rng = random.Random(seed)
    limits = LimitSettings(
        requests_per_minute=600, tokens_per_minute=LIMIT, max_concurrent=12, law=law, charge=charge
    )
    used = Quota(new_state(), limits)

    def demands(count):
        return [(rng.randint(1, 200), rng.choice([16, 64]), rng.randint(50, 900)) for _ in range(count)]

    _, ended = traffic(used, EPOCH, rng, demands(40), rng.randint(1, 8))
    now = used.refilled_at(ended)
    assert used.forget(now)
    assert used.snapshot(now).slot_cap == 12
    again = demands(40)
    after, _ = traffic(used, now, random.Random(seed), again, 4)
    fresh = Quota(new_state(), limits)
    first, _ = traffic(fresh, now, random.Random(seed), again, 4)
    assert after == first


@pytest.fixture
def quota(new_state):
    return lambda **numbers: Quota(new_state(), LimitSettings(**numbers))


def test_a_level_that_was_refused_is_tried_again(quota):
    """The cap is what the settings allow, and a refusal halves it as the very first one did."""
    limiter, caps = quota(max_concurrent=8), []
    for now in (EPOCH, EPOCH + 1000):
        flying = [limiter.try_reserve(now, Demand()) for _ in range(8)]
        limiter.refused(now, flying.pop(), Observation(), Refusal.CONCURRENCY)
        caps.append(limiter.snapshot(now).slot_cap)
        for lease in flying:
            limiter.settle(now, lease, Usage(1, 1))
        assert limiter.forget(now)
        caps.append(limiter.snapshot(now).slot_cap)
        assert limiter.core.history[-1].event == "forgotten"
    assert caps == [4, 8, 4, 8]


def test_nothing_is_forgotten_while_a_request_is_in_flight(quota):
    """What is in flight was admitted by what would be forgotten."""
    limiter = quota(max_concurrent=8)
    first, second = (limiter.try_reserve(EPOCH, Demand()) for _ in range(2))
    limiter.refused(EPOCH, second, Observation(), Refusal.CONCURRENCY)
    assert not limiter.forget(EPOCH)
    assert limiter.snapshot(EPOCH).slot_cap == 1
    assert limiter.core.history[-1].event != "forgotten"
    limiter.settle(EPOCH, first, Usage(1, 1))
    assert limiter.forget(EPOCH)
    assert limiter.snapshot(EPOCH).slot_cap == 8


def test_what_keeps_a_limit_is_not_forgotten(quota):
    """What is used, what the server told, a pause, and a day that is used up."""
    limiter = quota(tokens_per_minute=LIMIT, max_concurrent=8)
    lease = limiter.try_reserve(EPOCH, Demand(400))
    limiter.observe(EPOCH, told(100, limit=500), lease)
    limiter.refused(EPOCH, lease, Observation(retry_after_s=30), Refusal.RATE)
    assert limiter.forget(EPOCH)
    assert limiter.snapshot(EPOCH).tokens_limit == 500
    assert limiter.used(EPOCH)["tokens:bucket:60"] == 400
    assert limiter.try_reserve(EPOCH, Demand(1)).wake_at == EPOCH + 30
    lease = limiter.try_reserve(EPOCH + 60, Demand(1))
    gone = Observation((Reading(Dimension.REQUESTS, 1000, 0, None, DAY),), 3600)
    limiter.refused(EPOCH + 60, lease, gone, Refusal.DAY)
    assert limiter.forget(EPOCH + 60)
    assert isinstance(limiter.try_reserve(EPOCH + 61, Demand(1)), Exhausted)


def test_the_pause_begins_anew(quota):
    """How often in a row requests were refused is forgotten: the next pause without Retry-After is 1 s."""
    limiter, now = quota(), EPOCH
    for _ in range(3):
        limiter.refused(now, limiter.try_reserve(now, Demand()), Observation(), Refusal.RATE)
        now += 60
    assert limiter.forget(now)
    limiter.refused(now, limiter.try_reserve(now, Demand()), Observation(), Refusal.RATE)
    assert limiter.try_reserve(now, Demand()).wake_at == now + 1


def test_a_fitted_charge_is_fitted_anew(quota):
    """One request at a time again, each counted in full, until the charge is known."""
    limiter = quota(tokens_per_minute=LIMIT, charge="fitted")
    now, demand = EPOCH, Demand(1000, 100, 4000)

    def learn(now):
        for _ in range(ENOUGH + 1):
            now += 60
            lease = limiter.try_reserve(now, demand)
            assert lease.amounts[1] == 1100
            assert isinstance(limiter.try_reserve(now, demand), Wait)
            limiter.observe(now, told(LIMIT - 50), lease)
            limiter.settle(now, lease, Usage(1000, 5))
        now += 60
        lease = limiter.try_reserve(now, demand)
        assert lease.amounts[1] < 60
        limiter.settle(now, lease, Usage(1000, 5))
        return now

    now = learn(now)
    assert limiter.forget(now)
    learn(now)


def test_a_waiter_of_this_process_keeps_what_is_known(new_state):
    """It waits by it; once it has gone, all is forgotten."""
    clock = ManualClock(epoch=EPOCH)

    class Frozen:
        def wait(self, woken, until, axis, stop):
            woken.wait()

    limiter = Limiter("key", LimitSettings(tokens_per_minute=100), new_state(), clock, Frozen())
    limiter.settle(limiter.acquire(Demand(100)).lease)
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(limiter.acquire, Demand(100))
        while not limiter.waiting:
            time.sleep(0)
        assert not limiter.forget()
        clock.advance(60)
        limiter.wake()
        limiter.settle(waits.result(timeout=20).lease)
    assert limiter.forget()


def test_another_process_at_work_keeps_what_is_known(tmp_path):
    """In flight or waiting there, unless it sleeps. And it hears of what was forgotten."""
    states = [SqliteState(tmp_path / "limits.db", name) for name in ("a", "b")]
    limits = LimitSettings(tokens_per_minute=100, max_concurrent=4, charge="fitted")
    mine, other = (Quota(state, limits) for state in states)
    for now in range(int(EPOCH), int(EPOCH) + 60 * (ENOUGH + 1), 60):
        lease = other.try_reserve(now, Demand(10, 0, 40))
        other.observe(now, told(90, limit=100), lease)
        other.settle(now, lease, Usage(10, 5))
    now += 60
    assert other.core.book.model.ready
    first, second = (other.try_reserve(now, Demand(5, 0, 20)) for _ in range(2))
    assert not mine.forget(now), "in flight"
    other.refused(now, second, Observation(), Refusal.CONCURRENCY)
    other.settle(now, first, Usage(5, 5))
    assert isinstance(other.try_reserve(now, Demand(100, 0, 400)), Wait)
    assert not mine.forget(now), "in line"
    assert other.snapshot(now).slot_cap == 1
    assert mine.forget(now + 3), "asleep: it has lost its place"
    assert other.snapshot(now + 3).slot_cap == 4
    assert not other.core.book.model.ready
    for state in states:
        state.close()


def test_the_slots_of_a_dead_process_are_taken_back_first(tmp_path):
    """What a killed process had in flight keeps nothing from being forgotten."""
    dead, mine = SqliteState(tmp_path / "limits.db", "dead"), SqliteState(tmp_path / "limits.db")
    limits, clock = LimitSettings(max_concurrent=4), ManualClock(epoch=EPOCH)
    killed, limiter = (Limiter("key", limits, state, clock) for state in (dead, mine))
    killed.acquire(Demand())
    assert limiter.snapshot().in_flight == 1
    alive, mine.is_alive = mine.is_alive, lambda holder: holder != "dead"
    assert limiter.forget()
    mine.is_alive = alive
    assert limiter.snapshot().in_flight == 0
    for state in (dead, mine):
        state.close()
