"""Leases taken ahead: few looks into a shared book, and no limit or cap is broken by what is held."""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from toolkit.clock import ManualClock
from toolkit.limits import Admission, Demand, Limiter, LimitSettings, Observation, Refusal, Wait
from toolkit.limits.ahead import AHEAD_S
from toolkit.limits.core import LimiterCore
from toolkit.records import Usage

WIDE = LimitSettings(requests_per_minute=1_000_000, tokens_per_minute=1_000_000_000)


class Idle:
    """Never has a look by itself: tests say when."""

    daemon = False

    def __init__(self, seconds: float, work: Callable[[], None]) -> None:
        pass

    def start(self) -> None:
        pass


@pytest.fixture(autouse=True)
def _no_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit.limits.limiter.threading.Timer", Idle)


def counted(state: Any) -> list[int]:
    """Count the looks into a shared state."""
    looks, exclusive = [0], state.exclusive

    @contextmanager
    def count(core: LimiterCore) -> Iterator[None]:
        looks[0] += 1
        with exclusive(core):
            yield

    state.exclusive = count
    return looks


def test_looks_grow_with_time_and_not_with_calls(sharing: Any) -> None:
    """500 calls a second for 4 seconds: some 4 looks a second, and all is counted."""
    state, clock = sharing.state("a"), ManualClock()
    limiter = Limiter("key", WIDE, state, clock, ahead=True)
    looks = counted(state)
    for _ in range(2000):
        lease = limiter.acquire(Demand(10, 5)).lease
        limiter.settle(lease, Usage(10, 5), wait=False)
        clock.advance(0.002)
    assert looks[0] <= 40
    clock.advance(2)
    now = limiter.snapshot()
    assert now.in_flight == 0
    assert now.tokens_60s == 2000 * 15
    assert now.requests_60s == 2000


def test_a_first_call_takes_nothing_ahead(sharing: Any) -> None:
    """Nor do calls that come now and then."""
    limiter = Limiter("key", WIDE, sharing.state("a"), clock := ManualClock(), ahead=True)
    for number in range(5):
        limiter.acquire(Demand(1))
        assert limiter.snapshot().in_flight == number + 1
        clock.advance(2 * AHEAD_S)


def test_a_larger_request_than_what_is_held(sharing: Any) -> None:
    """It is asked for by itself, and reserves what it needs."""
    limiter = Limiter("key", WIDE, sharing.state("a"), ManualClock(), ahead=True)
    for _ in range(20):
        limiter.acquire(Demand(10))
    big = limiter.acquire(Demand(500)).lease
    assert big.amounts[1] >= 500


def test_what_is_held_goes_back(sharing: Any) -> None:
    """A worker that has nothing to do any more keeps nothing from others."""
    state, clock = sharing.state("a"), ManualClock()
    limiter = Limiter("key", WIDE, state, clock, ahead=True)
    leases = [limiter.acquire(Demand(10)).lease for _ in range(50)]
    assert limiter.snapshot().in_flight > 50
    for lease in leases:
        limiter.settle(lease, Usage(10, 0), wait=False)
    clock.advance(1)
    limiter._flush()
    other = Limiter("key", WIDE, sharing.state("b"), clock)
    assert other.snapshot().in_flight == 0
    assert other.snapshot().tokens_60s == 500


def test_near_a_limit_nothing_is_held(sharing: Any) -> None:
    """Another worker finds all that is left."""
    clock = ManualClock()
    tight = LimitSettings(tokens_per_minute=1000, max_concurrent=20, law="safe")
    one = Limiter("key", tight, sharing.state("a"), clock, ahead=True)
    for _ in range(9):
        one.acquire(Demand(100))
    two = LimiterCore("key", tight, "b")
    with sharing.state("b").exclusive(two):
        assert not isinstance(two.try_reserve(clock.epoch(), Demand(100)), Wait)


def test_after_a_refusal_nothing_is_given_out(sharing: Any) -> None:
    """The pause holds for what was taken before it as well."""
    limiter = Limiter("key", WIDE, sharing.state("a"), clock := ManualClock(), ahead=True)
    leases = [limiter.acquire(Demand(10)).lease for _ in range(20)]
    assert limiter._take_held(Demand(10)) is not None
    limiter.refused(leases[0], Observation(retry_after_s=0.3), Refusal.RATE)
    assert limiter._take_held(Demand(10)) is None
    clock.advance(0.31)
    assert limiter._take_held(Demand(10)) is not None


def test_where_somebody_waits_ends_are_told_at_once(sharing: Any) -> None:
    """A slot that is free again is not kept back for a quarter of a second."""
    clock = ManualClock()
    one_slot = LimitSettings(max_concurrent=1)
    one = Limiter("key", one_slot, sharing.state("a"), clock, ahead=True)
    lease = one.acquire(Demand()).lease
    state, core = sharing.state("b"), LimiterCore("key", one_slot, "b")
    with state.exclusive(core):
        assert isinstance(core.try_reserve(clock.epoch(), Demand()), Wait)
    one.snapshot()
    one.settle(lease, Usage(1, 1), wait=False)
    with state.exclusive(core):
        assert not isinstance(core.try_reserve(clock.epoch(), Demand()), Wait)


@pytest.mark.slow
@pytest.mark.parametrize(("law", "kind"), [("openai", "bucket"), ("azure", "fixed"), ("safe", "sliding")])
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_workers_that_take_ahead_keep_the_law(
    law: str, kind: str, seed: int, sharing: Any, broken: Any
) -> None:
    """Two at all paces, each request sent as late as it may be: together they keep law and cap."""
    rng, key, clock = random.Random(seed), uuid.uuid4().hex, ManualClock()
    limits = LimitSettings(requests_per_minute=600, tokens_per_minute=30_000, max_concurrent=12, law=law)
    workers = [Limiter(key, limits, sharing.state(name), clock, ahead=True) for name in ("a", "b")]
    flying: list[list[Any]] = [[], []]
    sent: list[tuple[float, int]] = []
    held = 0
    for _ in range(400):
        clock.advance(rng.choice([0.0, 0.002, 0.02, rng.uniform(0, 1)]))
        who = rng.randrange(2)
        if flying[who] and rng.random() < 0.5:
            lease = flying[who].pop(rng.randrange(len(flying[who])))
            workers[who].settle(lease, Usage(lease.demand.input_tokens, 1), wait=rng.random() < 0.3)
        taken = workers[who]._take_held(demand := Demand(rng.randint(1, 60)))
        held += taken is not None
        if taken is None:
            answer = workers[who].enter(demand, 0.0, threading.Event())
            if isinstance(answer, Admission):
                taken = answer.lease
            else:
                workers[who].withdraw(answer)
        if taken is not None:
            flying[who].append(taken)
            sent.append((clock.epoch(), taken.demand.input_tokens))
        assert sum(map(len, flying)) <= 12
    assume(held)
    # The law is kept by when requests were sent, though they were counted up to half a second before.
    assert broken[kind]([(time, 1) for time, _ in sent], 600, 60) is None
    assert broken[kind](sent, 30_000, 60) is None
