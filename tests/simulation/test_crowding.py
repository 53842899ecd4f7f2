"""How many requests a server works on at once: found in who was refused beside whom, never made up."""

from __future__ import annotations

import heapq
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.archive import open_store
from toolkit.config import Config
from toolkit.crowding import leases_of, max_concurrent_of
from toolkit.errors import ConfigError
from toolkit.latency import LatencyModel
from toolkit.limits.decisions import LimitEvent
from toolkit.records import Episode
from toolkit.runs import Run
from toolkit.simulation import Faults, simulate
from toolkit.testing import ApiServer
from toolkit.workflow import run

SECOND = LatencyModel(base_s=1.0, spread=0.3, output_tokens=40, overhead_s=0.002)


def hosted(slots: int, batch: int = 12, chunks: int = 4, **more: Any) -> Config:
    return Config(
        provider="openai",
        model="gpt-4o-mini",
        **{
            "openai_requests_per_minute": 10**6,
            "openai_tokens_per_minute": 10**9,
            "openai_max_concurrent_requests": slots,
            "summary_batch_size": batch,
            "summary_chunk_parallelism": chunks,
            "chunk_tokens": 200,
            **more,
        },
    )


def at_server_with(bound: int, slots: int, seed: int = 0, faults: Faults | None = None, **more: Any) -> Run:
    """Simulate twelve episodes at a server that works on so many at once."""
    latency = SECOND.replace(max_concurrent=bound)
    return simulate([500] * 12, hosted(slots, **more), latency=latency, seed=seed, faults=faults)


def run_of(events: list[LimitEvent]) -> Run:
    return Run(
        id="r",
        config=Config(provider="scripted"),
        provider="p",
        model="m",
        records=[],
        makespan_s=1.0,
        limit_events=events,
    )


def event(t_s: float, name: str, lease: int | None, in_flight: int) -> LimitEvent:
    return LimitEvent(t_s, "key", name, 0, 0, in_flight, None, 0, None, None, None, None, lease)


def jittery(bound: int, width: int, calls: int, jitter_s: float, seed: int) -> Run:
    """Play a client with so many lanes, at a server with a bound, over a line that is late by chance.

    A lane that is refused tries again after a second.
    """
    luck = random.Random(seed)
    agenda: list[tuple[float, int, str, int]] = []
    events: list[LimitEvent] = []
    numbers = iter(range(10**9))
    served = in_flight = lease = 0
    left = calls

    def later(time: float, what: str, which: int = 0) -> None:
        heapq.heappush(agenda, (time, next(numbers), what, which))

    for lane in range(width):
        later(lane * 1e-4, "send")
    while agenda:
        now, _, what, which = heapq.heappop(agenda)
        trip_s = luck.uniform(0.1, 1) * jitter_s
        if what == "send" and left > 0:
            left -= 1
            lease += 1
            in_flight += 1
            events.append(event(now, "admitted", lease, in_flight))
            later(now + trip_s, "arrive", lease)
        elif what == "arrive" and served >= bound:
            later(now + trip_s, "refused", which)
        elif what == "arrive":
            served += 1
            later(now + luck.uniform(0.5, 1.5), "serve", which)
        elif what == "serve":
            served -= 1
            later(now + trip_s, "settled", which)
        elif what in ("refused", "settled"):
            if what == "refused":
                left += 1
                events.append(event(now, "cut", None, in_flight))
            in_flight -= 1
            events.append(event(now, what, which, in_flight))
            later(now + (what == "refused"), "send")
    return run_of(events)


# -- what is found -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "overload", ["slow_down", pytest.param("server_is_overloaded", marks=pytest.mark.slow)]
)
def test_it_is_learned_from_a_server(tmp_path: Path, overload: Any) -> None:
    """A real run shows it, whichever way the server refuses; also when it comes back from the store."""
    texts = [Episode.from_text(f"e{n}", f"Hill {n} dries in the year {n}.") for n in range(24)]
    with ApiServer(max_concurrent=4, overload=overload, latency=0.25, reply_words=4) as server:
        config = hosted(
            10,
            openai_base_url=server.base_url,
            limits_url="memory://",
            store_url=f"sqlite:///{tmp_path / 'runs.db'}",
        )
        real = run(texts, config, progress=False)
    assert LatencyModel.fit(real).max_concurrent == 4
    assert LatencyModel.fit(real.calls).max_concurrent is None
    assert LatencyModel.fit(open_store(config.store_url).run(real.id)).max_concurrent == 4


@pytest.mark.parametrize(("bound", "slots"), [(1, 4), (3, 6), (6, 12), (10, 20)])
def test_a_simulation_shows_what_it_was_told(bound: int, slots: int) -> None:
    """Fitted to a simulation, a model gives its bound back."""
    assert LatencyModel.fit(at_server_with(bound, slots)).max_concurrent == bound


@given(
    bound=st.integers(1, 12),
    above=st.integers(1, 12),
    calls=st.integers(5, 150),
    jitter_s=st.sampled_from([0.001, 0.01, 0.05]),
    seeds=st.lists(st.integers(0, 10**6), min_size=1, max_size=3),
)
@settings(deadline=None, max_examples=150)
def test_never_another_number(bound: int, above: int, calls: int, jitter_s: float, seeds: list[int]) -> None:
    """However late news come, and in whatever order: the bound is found, or nothing is claimed."""
    runs = [jittery(bound, bound + above, calls, jitter_s, seed) for seed in seeds]
    assert max_concurrent_of(runs) in (bound, None)


def test_late_news_do_not_hide_it() -> None:
    """With trips of up to 50 ms, and services of half a second and more, it is found nearly every time."""
    found = [max_concurrent_of([jittery(6, 10, 150, 0.05, seed)]) for seed in range(20)]
    assert found.count(6) >= 18


def test_odd_refusals_of_another_kind_do_not_hide_it() -> None:
    """One in thirty is refused for the rate, which does not count, and one in a hundred by chance."""
    faults = Faults(rate_limited=0.03, overloaded=0.01)
    found = [max_concurrent_of([at_server_with(5, 16, seed, faults)]) for seed in range(20)]
    assert found.count(5) >= 15
    assert set(found) <= {5, None}


def test_runs_add_up() -> None:
    """Of one slot too many a single refusal tells, which may be chance; two runs agree on it."""
    first, second = (at_server_with(7, 8, seed) for seed in (1, 2))
    assert max_concurrent_of([first]) is None
    assert max_concurrent_of([first, second]) == 7


# -- what is not claimed -------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.02, 0.05])
@pytest.mark.parametrize("slots", [4, 8, 16])
def test_refusals_by_chance_are_no_bound(rate: float, slots: int) -> None:
    """A server that is overloaded now and then, at whatever level, is not taken for one with a bound."""
    runs = [
        simulate([500] * 12, hosted(slots), latency=SECOND, seed=seed, faults=Faults(overloaded=rate))
        for seed in range(20)
    ]
    assert sum("refused" in set(run.limits["event"]) for run in runs) > 10
    assert [max_concurrent_of([run]) for run in runs] == [None] * 20
    assert max_concurrent_of(runs) is None


def test_limits_of_a_minute_are_no_bound() -> None:
    """A refusal for the rate says nothing of how many are in flight."""
    faults = Faults(rate_limited=0.2)
    played = simulate([500] * 12, hosted(4), latency=SECOND, faults=faults)
    assert "refused" in set(played.limits["event"])
    assert max_concurrent_of([played]) is None


def test_what_was_never_refused_shows_no_bound() -> None:
    """All slots were in use all the time, and the server may work on more."""
    assert max_concurrent_of([at_server_with(6, 6)]) is None
    assert max_concurrent_of([]) is None


def test_a_run_with_more_at_once_refutes_it() -> None:
    """What one run shows is not claimed if another had more served at once without being refused."""
    narrow, wide = at_server_with(4, 12), simulate([500] * 12, hosted(8), latency=SECOND)
    assert max_concurrent_of([narrow]) == 4
    assert max_concurrent_of([narrow, wide]) is None


def test_a_run_beside_others_says_nothing() -> None:
    """Who shares a quota key does not know how many requests the others had in flight."""
    played = at_server_with(4, 12)
    shared = [
        seen._replace(in_flight=seen.in_flight + 2) if seen.event == "admitted" else seen
        for seen in played.limit_events
    ]
    assert leases_of(run_of(shared)) is None
    assert max_concurrent_of([run_of(shared)]) is None


# -- stated --------------------------------------------------------------------------------------------


def test_it_is_stated_shown_and_kept(tmp_path: Path) -> None:
    """By hand, in words, and in a file."""
    model = LatencyModel(base_s=1.0, max_concurrent=6)
    assert repr(model) == "LatencyModel(1 s, at most 6 requests at once)"
    assert LatencyModel.load(model.save(tmp_path / "m.json")) == model
    assert LatencyModel.load(model.save(tmp_path / "m.json")).max_concurrent == 6


@pytest.mark.parametrize("wrong", [0, -1, 2.5, True, "6"])
def test_a_wrong_bound_is_refused(wrong: Any) -> None:
    """At least one, and whole."""
    with pytest.raises(ConfigError, match=r"max_concurrent=.* must be a whole number from 1 on, or None"):
        LatencyModel(max_concurrent=wrong)


# -- simulated -----------------------------------------------------------------------------------------


def test_what_comes_above_it_is_refused() -> None:
    """At once, without taking a place, until the cap on requests in flight is not above the server's."""
    played = at_server_with(6, 12)
    calls, attempts, limits = played.calls, played.attempts, played.limits
    refused = attempts[attempts["error_kind"].notna()]
    assert set(refused["status_code"]) == {429}
    assert set(refused["limit_hit"]) == {"concurrency"}
    assert refused["retry_after_s"].isna().all()
    assert set(refused["service_s"].round(6)) == {Faults().refused_after_s}
    assert (refused.groupby("call_id").size() <= 2).all()
    assert len(refused) >= 6
    assert set(calls["status"]) == {"ok"}
    cuts = limits[limits["event"] == "cut"]
    assert 1 <= len(cuts) <= 3
    assert limits["slot_cap"].iloc[-1] in (5, 6)
    leases = leases_of(played)
    assert leases is not None
    times = leases.served[:, 0]
    assert max(((leases.served[:, 0] <= t) & (leases.served[:, 1] > t)).sum() for t in times) == 6


def test_those_are_served_that_arrive_first() -> None:
    """Which of a burst are refused is luck, and with it what the limiter learns, and how long it takes."""
    played = [at_server_with(6, 12, seed) for seed in range(12)]
    first = [
        {event.lease_id for event in run.limit_events[:30] if event.event == "refused"} for run in played
    ]
    assert len(set(map(frozenset, first))) > 6
    cuts = [sum(event.event == "cut" for event in run.limit_events) for run in played]
    assert len(set(cuts)) > 1


def test_a_refusal_by_chance_takes_no_place() -> None:
    """At a server of one at a time, everything is done, however many were refused on the way."""
    faults = Faults(rate_limited=0.3, retry_after_s=None)
    played = at_server_with(1, 1, faults=faults, chunks=1)
    assert set(played.attempts["limit_hit"].dropna()) == {"requests"}
    assert set(played.calls["status"]) == {"ok"}


def test_a_wide_bound_changes_nothing() -> None:
    """Above what the slots let through, the simulation is the same."""
    free = simulate([500] * 12, hosted(6), latency=SECOND)
    assert at_server_with(6, 6).makespan_s == free.makespan_s


def test_local_models_have_none() -> None:
    """What comes above a batch waits for the next."""
    config = Config(summary_batch_size=8, summary_chunk_parallelism=1)
    free, bound = (
        simulate([500] * 8, config, latency=LatencyModel(base_s=1.0, output_tokens=40, max_concurrent=most))
        for most in (None, 1)
    )
    assert bound.makespan_s == free.makespan_s
    assert bound.attempts["error_kind"].isna().all()
