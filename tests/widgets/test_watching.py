"""What is seen of a run that goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from toolkit import Config, Episode, start
from toolkit.providers.scripted import ScriptedSummarizationProvider
from toolkit.records import Request
from toolkit.testing import ApiServer
from toolkit.widgets.watching import INTERVALS, MOST_ROWS, Curve, Level, Watch


def test_a_curve_does_not_grow() -> None:
    """A run of days has as many points as one of minutes, and nothing of its amounts is lost."""
    curve = Curve()
    for second in range(100_000):
        curve.spread(2.0, second, second + 1.0)
    assert len(curve.amounts) <= 2 * INTERVALS
    assert sum(curve.amounts) == pytest.approx(200_000)
    assert all(rate == pytest.approx(2.0) for _, rate in curve.rates())


def test_an_amount_is_spread_over_its_time() -> None:
    """The tokens of a call were written while it was served, not at its end."""
    curve = Curve()
    curve.spread(8.0, 1.0, 3.0)
    curve.spread(0.0, 3.0, 4.0)
    per_s = dict(curve.rates())
    assert per_s[0.125] == 0
    assert per_s[1.125] == pytest.approx(4.0)
    assert per_s[2.875] == pytest.approx(4.0)
    assert per_s[3.125] == pytest.approx(0.0)


def test_what_began_before_the_watch_counts_from_its_start() -> None:
    """No interval has a negative number."""
    curve = Curve()
    curve.spread(3.0, -5.0, -1.0)
    assert sum(curve.amounts) == 3.0


def test_a_level_is_the_mean_of_its_readings() -> None:
    """Merged intervals keep the mean and not the sum."""
    level = Level()
    for second in range(1000):
        level.read(0.5, second)
    assert len(level.points()) <= 2 * INTERVALS
    assert all(value == pytest.approx(0.5) for _, value in level.points())


class Gate:
    """Holds all calls of a scripted provider but the first few."""

    def __init__(self, free: int) -> None:
        self.opened = threading.Event()
        self.held = threading.Semaphore(0)
        self._free = threading.Semaphore(free)

    def reply(self, request: Request) -> str:
        if not self._free.acquire(blocking=False):
            self.held.release()
            assert self.opened.wait(30)
        return "It is so."


def test_episodes_have_their_state(episodes: list[Episode], scripted: Config) -> None:
    """Waiting, under way with its calls, or as it ended."""
    gate = Gate(free=4)
    provider = ScriptedSummarizationProvider(scripted, replies=gate.reply)
    handle = start(episodes, scripted, provider=provider)
    watch = Watch(episodes, None, 0.0)
    try:
        for _ in range(2):
            assert gate.held.acquire(timeout=30)
        view = watch.look(handle)
        assert view.counts["waiting"] >= 3
        under_way = [row for row in view.rows if row.state == "under way"]
        assert under_way
        assert all(row.calls_planned for row in under_way)
        assert [row.episode_id for row in view.rows] == [episode.id for episode in episodes]
    finally:
        gate.opened.set()
        run = handle.wait()
    view = watch.look(handle)
    assert view.counts == {"ok": len(episodes)}
    assert view.progress.state == "done"
    assert [row.calls for row in view.rows] == list(run.episodes["calls"])
    assert view.left_out == 0


def test_of_many_episodes_those_in_trouble_are_listed(talk: Callable[..., Episode], scripted: Config) -> None:
    """A list of thousands would hide them, and take longer to send than to read."""
    many = [talk(number, 5) for number in range(300)]
    faults: Any = lambda request, attempt: ValueError("no") if request.episode_id == "talk-299" else None  # noqa: E731
    provider = ScriptedSummarizationProvider(scripted, faults=faults)
    handle = start(many, scripted, provider=provider)
    handle.wait()
    view = Watch(many, None, 0.0).look(handle)
    assert len(view.rows) == MOST_ROWS
    assert view.left_out == 300 - MOST_ROWS
    (failed,) = [row for row in view.rows if row.state == "failed"]
    assert failed.episode_id == "talk-299"
    assert "ValueError: no" in str(failed.error)


def test_limits_waits_and_cost_of_a_hosted_run(episodes: list[Episode]) -> None:
    """What was used of each limit, what calls waited for, and what they cost so far and in the end."""
    with ApiServer.spawn(latency=0.05, requests_per_minute=6000, tokens_per_minute=10_000_000) as server:
        config = Config(
            provider="openai",
            openai_base_url=server.base_url,
            summary_batch_size=4,
            summary_chunk_parallelism=4,
            openai_max_concurrent_requests=2,
            openai_requests_per_minute=6000,
            openai_tokens_per_minute=10_000_000,
            chunk_tokens=300,
            limits_url="memory://",
        )
        handle = start(episodes, config)
        watch = Watch(episodes, 100, 0.0)
        run = handle.wait()
        view = watch.look(handle)
    assert set(view.quota) == {"requests", "tokens", "slots"}
    assert set(view.waits_s) == {"wait: slots"}
    assert view.waits_s["wait: slots"] == pytest.approx(run.calls["wait_slots_s"].sum())
    assert view.cost_usd == pytest.approx(run.totals()["cost_usd"])
    calls = len(run.calls)
    assert view.cost_in_the_end_usd == pytest.approx(view.cost_usd * 100 / calls, rel=1e-6)
    assert view.failed_attempts == 0


def test_looking_twice_counts_nothing_twice(episodes: list[Episode], scripted: Config) -> None:
    """Each look takes in what is new."""
    handle = start(episodes, scripted)
    handle.wait()
    watch = Watch(episodes, None, 0.0)
    first, second = watch.look(handle), watch.look(handle)
    assert first == second
    again = start(episodes, scripted)
    again.wait()
    assert Watch(episodes, None, 0.0).look(again).reused == again.progress.calls > 0
