"""Predictions: the latest wish only, in two steps, of a sample where there are many calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from toolkit import Config, Episode, LatencyModel, plan, simulate
from toolkit.widgets.latencies import Latencies
from toolkit.widgets.predicting import MOST_CALLS, Prediction, Predictor, scaled

SECOND = LatencyModel(base_s=1.0, output_tokens=20)


class Bench:
    """A predictor whose work is done when the test says so."""

    def __init__(self, episodes: list[Episode], latency: LatencyModel | None = SECOND) -> None:
        self.told: list[Prediction] = []
        self.waiting: list[Callable[[], None]] = []
        self.latencies = Latencies(latency, lambda config: [])
        self.on_told: Callable[[Prediction], None] = lambda found: None
        self.predictor = Predictor(episodes, self.latencies, self._tell, begin=self.waiting.append)

    def _tell(self, found: Prediction) -> None:
        self.told.append(found)
        self.on_told(found)

    def work(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


def test_two_answers_the_plan_and_then_the_simulation(episodes: list[Episode], scripted: Config) -> None:
    """What is there in milliseconds does not wait for what takes longer."""
    bench = Bench(episodes)
    bench.predictor.want(scripted)
    bench.work()
    first, second = bench.told
    assert first.plan is not None
    assert first.plan.bound_s == plan(episodes, scripted, SECOND).bound_s
    assert first.played is None
    assert second.plan is first.plan
    assert second.played is not None
    assert not second.played.is_sample
    assert second.played.seconds == simulate(episodes, scripted, latency=SECOND).makespan_s


def test_wishes_that_were_overtaken_are_dropped(episodes: list[Episode], scripted: Config) -> None:
    """Of all that one drags past, only the last is worked out: a queue would lag behind the hand."""
    bench = Bench(episodes)
    for width in range(1, 40):
        bench.predictor.want(scripted.replace(summary_batch_size=width))
    assert len(bench.waiting) == 1
    bench.work()
    assert [found.config.summary_batch_size for found in bench.told] == [39, 39]


def test_an_overtaken_wish_is_not_simulated(episodes: list[Episode], scripted: Config) -> None:
    """Its plan is shown, its simulation would only make the next plan late."""
    bench = Bench(episodes)
    later = scripted.replace(summary_batch_size=5)

    def drag_on(found: Prediction) -> None:
        bench.on_told = lambda found: None
        bench.predictor.want(later)

    bench.on_told = drag_on
    bench.predictor.want(scripted)
    bench.work()
    shown = [(found.config.summary_batch_size, found.played is not None) for found in bench.told]
    assert shown == [(2, False), (5, False), (5, True)]


def test_nothing_is_left_running(episodes: list[Episode], scripted: Config) -> None:
    """A predictor that has answered has no thread, and begins anew at the next wish."""
    bench = Bench(episodes)
    for _ in range(2):
        bench.predictor.want(scripted)
        assert not bench.predictor.idle.is_set()
        bench.work()
        assert bench.predictor.idle.is_set()
    assert len(bench.told) == 4


def test_in_a_thread_of_its_own(
    episodes: list[Episode], scripted: Config, idle: Callable[[Predictor], None]
) -> None:
    """As a panel does it."""
    told: list[Prediction] = []
    predictor = Predictor(episodes, Latencies(SECOND), told.append)
    predictor.want(scripted)
    idle(predictor)
    assert told[-1].played is not None


def test_many_calls_are_a_sample_scaled_up(talk: Callable[..., Episode], scripted: Config) -> None:
    """Beyond 300 calls a part of the episodes is simulated; what all take is known nearly as well by that."""
    many = [talk(number, 60 + number % 80) for number in range(200)]
    bench = Bench(many)
    bench.predictor.want(scripted)
    bench.work()
    played = bench.told[-1].played
    assert played is not None
    assert played.is_sample
    assert MOST_CALLS / 2 < len(played.run.calls) <= 1.1 * MOST_CALLS
    assert played.seconds == pytest.approx(simulate(many, scripted, latency=SECOND).makespan_s, rel=0.05)


def test_a_limit_that_binds_only_all_is_in_what_all_take(talk: Callable[..., Episode]) -> None:
    """A sample goes through a full quota at once; the whole waits for it."""
    many = [talk(number) for number in range(500)]
    config = Config(
        provider="openai",
        openai_api_key="none",
        summary_batch_size=64,
        openai_max_concurrent_requests=64,
        openai_requests_per_minute=300,
        openai_tokens_per_minute=10_000_000,
    )
    bench = Bench(many)
    bench.predictor.want(config)
    bench.work()
    found = bench.told[-1]
    assert found.plan is not None
    assert found.played is not None
    assert found.plan.bottleneck == "requests"
    assert found.played.is_sample
    assert found.played.run.makespan_s < 0.5 * found.played.seconds
    whole = simulate(many, config, latency=SECOND).makespan_s
    assert found.played.seconds == pytest.approx(whole, rel=0.1)


def test_scaling_without_a_bound_goes_by_the_episodes() -> None:
    """Where a plan knows no least time there is nothing better."""
    assert scaled(3.0, None, 10.0, 0.25) == 12.0
    assert scaled(3.0, 2.0, 10.0, 0.25) == 15.0


def test_each_text_is_counted_once(episodes: list[Episode], monkeypatch: pytest.MonkeyPatch) -> None:
    """A vocabulary reads some megabytes a second: widths and limits change nothing of it."""
    from toolkit.tokens import EncodingCounter

    read: list[str] = []
    count = EncodingCounter.count

    def counting(self: Any, text: str) -> int:
        read.append(text)
        return count(self, text)

    monkeypatch.setattr(EncodingCounter, "count", counting)
    bench = Bench(episodes)
    config = Config(provider="openai", openai_api_key="none")
    bench.predictor.want(config)
    bench.work()
    assert read
    long = [text for text in read if len(text) > 2000]
    read.clear()
    for width in (2, 3):
        bench.predictor.want(config.replace(summary_batch_size=width))
        bench.work()
    assert [text for text in read if len(text) > 2000] == []
    assert len(long) <= 3 * len(episodes)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"provider": "nobody"}, "provider 'nobody' is unknown"),
        (
            {"provider": "openai", "openai_base_url": "http://a.example/v1", "azure_endpoint": "http://b"},
            "not both",
        ),
    ],
)
def test_what_goes_wrong_is_an_answer(episodes: list[Episode], settings: dict[str, Any], said: str) -> None:
    """An exception in a thread would be a traceback in the log, and no word in the panel."""
    bench = Bench(episodes)
    bench.predictor.want(Config(**settings))
    bench.work()
    (found,) = bench.told
    assert found.plan is None
    assert said in str(found.error)


def test_prompts_without_room_are_a_conflict(episodes: list[Episode], scripted: Config) -> None:
    """There is a plan, which says so, and nothing to simulate."""
    bench = Bench(episodes)
    bench.predictor.want(scripted.replace(summary_max_tokens=9000))
    bench.work()
    (found,) = bench.told
    assert found.plan is not None
    assert [conflict.kind for conflict in found.plan.conflicts] == ["oversize"]


def test_a_run_changes_what_the_next_answer_goes_by(episodes: list[Episode], scripted: Config) -> None:
    """After a run the times are those that were measured, and the answer says so."""
    from toolkit import run

    bench = Bench(episodes, None)
    bench.predictor.want(scripted)
    bench.work()
    assert bench.told[-1].latency is not None
    assert bench.told[-1].latency.is_guess
    bench.latencies.learn(run(episodes, scripted))
    bench.predictor.want(scripted)
    bench.work()
    assert bench.told[-1].latency is not None
    assert not bench.told[-1].latency.is_guess
    assert "fitted to" in bench.told[-1].latency.source
