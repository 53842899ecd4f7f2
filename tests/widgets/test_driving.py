"""Running, stopping and sweeping in the background, and what a panel is told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from toolkit import Config, Episode
from toolkit.testing import ApiServer
from toolkit.widgets.driving import (
    Asked,
    Began,
    Changed,
    Driver,
    Ended,
    Event,
    Looked,
    Measured,
    State,
    Swept,
    Trouble,
    nobody,
)

Idle = Callable[[Any], None]


class Told:
    """Keeps the events."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.running = threading.Event()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Began):
            self.running.set()

    def all(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def driver(idle: Idle) -> Any:
    driver = Driver(Told(), look_s=0.05)
    yield driver
    driver.stop()
    idle(driver)


def hosted(server: ApiServer, **settings: Any) -> Config:
    return Config(
        provider="openai",
        openai_base_url=server.base_url,
        openai_max_concurrent_requests=2,
        openai_requests_per_minute=6000,
        openai_tokens_per_minute=10_000_000,
        chunk_tokens=300,
        limits_url="memory://",
        **{"summary_chunk_parallelism": 1, **settings},
    )


def test_a_run_from_its_start_to_its_end(
    driver: Driver, episodes: list[Episode], scripted: Config, idle: Idle
) -> None:
    """The states follow each other, and the run is there when it has ended."""
    driver.start_run(episodes, scripted)
    idle(driver)
    assert [event.state for event in driver.listener.all(Changed)] == [
        State.PREPARING,
        State.RUNNING,
        State.IDLE,
    ]
    ((_, run),) = driver.listener.all(Ended)
    assert driver.run is run
    assert driver.handle is None
    assert run.counts() == {"ok": len(episodes)}
    assert driver.listener.all(Trouble) == []


def test_no_thread_is_left(driver: Driver, episodes: list[Episode], scripted: Config, idle: Idle) -> None:
    """A panel that nobody sees any more must not keep anything going."""
    driver.start_run(episodes, scripted)
    idle(driver)
    names = {thread.name for thread in threading.enumerate()}
    assert not {name for name in names if "panel" in name or name.startswith("run ")}


def test_a_run_that_is_stopped_keeps_what_is_done_and_goes_on_from_there(
    driver: Driver, episodes: list[Episode], idle: Idle
) -> None:
    """Nothing that was paid for is asked again."""
    with ApiServer.spawn(latency=0.1, requests_per_minute=6000, tokens_per_minute=10_000_000) as server:
        config = hosted(server)
        first_call = threading.Event()

        def hear(event: Event) -> None:
            if isinstance(event, Looked) and event.handle.progress.calls >= 3:
                first_call.set()

        driver.listener = hear
        driver.start_run(episodes, config)
        assert first_call.wait(30)
        driver.stop()
        assert driver.state is State.STOPPING
        idle(driver)
        stopped = driver.run
        assert stopped is not None
        assert stopped.interrupted
        done = stopped.calls[stopped.calls["status"] == "ok"]
        assert len(done) >= 3
        driver.start_run(episodes, config)
        idle(driver)
        assert driver.run is not None
        assert driver.run.counts() == {"ok": len(episodes)}
        assert driver.run.reused.calls == len(done)


def test_stop_while_it_gets_ready(
    driver: Driver, episodes: list[Episode], scripted: Config, idle: Idle
) -> None:
    """It is remembered: a run that was called off before it began asks for nothing."""
    driver.start_run(episodes, scripted)
    driver.stop()
    idle(driver)
    if driver.run is not None:  # it may have been quicker
        assert set(driver.run.counts()) <= {"ok", "cancelled"}
    assert driver.state is State.IDLE


def test_one_thing_at_a_time(driver: Driver, episodes: list[Episode], idle: Idle) -> None:
    """Two runs at once would measure each other."""
    with ApiServer.spawn(latency=0.1, requests_per_minute=6000, tokens_per_minute=10_000_000) as server:
        driver.start_run(episodes, hosted(server))
        assert driver.listener.running.wait(30)
        driver.start_run(episodes, hosted(server, repeat=2))
        driver.start_sweep(episodes, hosted(server), [{"summary_batch_size": 2}])
        driver.stop()
        idle(driver)
    assert len(driver.listener.all(Ended)) == 1
    assert driver.listener.all(Swept) == []


def test_a_sweep_over_what_was_collected(
    driver: Driver, episodes: list[Episode], scripted: Config, idle: Idle
) -> None:
    """Each cell is told as it is measured, the study at the end."""
    driver.start_sweep(episodes, scripted, [{"summary_batch_size": 1}, {"summary_batch_size": 3}])
    idle(driver)
    ((study,),) = driver.listener.all(Swept)
    assert driver.study is study
    assert sorted(study.cells["summary_batch_size"]) == [1, 3]
    assert len(driver.listener.all(Measured)) == 2


def test_a_sweep_can_be_stopped(driver: Driver, episodes: list[Episode], idle: Idle) -> None:
    """Cells that were not reached say so, and those measured are kept."""
    with ApiServer.spawn(latency=0.05, requests_per_minute=6000, tokens_per_minute=10_000_000) as server:
        config = hosted(server)
        driver.listener = lambda event: driver.stop() if isinstance(event, Measured) else None
        cells = [{"summary_chunk_parallelism": width} for width in (1, 2, 3)]
        driver.start_sweep(episodes[:1], config, cells)
        idle(driver)
    study = driver.study
    assert study is not None
    assert study.interrupted
    assert sorted(study.cells["status"]) == ["cancelled", "cancelled", "ok"]


PAID = {"provider": "openai", "openai_api_key": "none", "openai_base_url": "https://models.example/v1"}


def test_what_costs_money_is_asked_about_first(driver: Driver, episodes: list[Episode], idle: Idle) -> None:
    """As in a sweep: without a budget nothing is sent before somebody says yes."""
    driver.start_run(episodes, Config(**PAID))
    idle(driver)
    ((ahead, again),) = driver.listener.all(Asked)
    assert ahead.names == "openai/gpt-5.6-luna"
    assert ahead.calls == len(episodes)
    assert callable(again)
    assert driver.run is None
    assert [event.state for event in driver.listener.all(Changed)] == [State.PREPARING, State.IDLE]


def test_a_sweep_that_costs_money_is_asked_about_once(
    driver: Driver, episodes: list[Episode], idle: Idle
) -> None:
    """For all of its cells together."""
    cells = [{"summary_batch_size": 1}, {"summary_batch_size": 2}]
    driver.start_sweep(episodes, Config(**PAID), cells)
    idle(driver)
    ((ahead, _),) = driver.listener.all(Asked)
    assert ahead.calls == 2 * len(episodes)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"provider": "openai"}, "needs a key"),
        ({"provider": "transformers", "model": "./no-such-folder"}, "is not available"),
        ({"provider": "nobody"}, "is unknown"),
        ({"provider": "scripted", "store_url": "sqlite:////proc/none/runs.db"}, "runs.db"),
    ],
)
def test_what_is_missing_is_one_text(
    driver: Driver, episodes: list[Episode], idle: Idle, settings: dict[str, Any], said: str
) -> None:
    """A traceback in the log would be no word to who pressed the button."""
    driver.start_run(episodes, Config(**settings))
    idle(driver)
    ((trouble,),) = driver.listener.all(Trouble)
    assert said in trouble
    assert "Traceback" not in trouble
    assert driver.state is State.IDLE


def test_a_server_that_cannot_be_reached(driver: Driver, episodes: list[Episode], idle: Idle) -> None:
    """The run ends, and says with each episode what the server's trouble was."""
    config = Config(provider="openai", openai_base_url="http://127.0.0.1:9/v1", max_attempts=1)
    driver.start_run(episodes[:1], config)
    idle(driver)
    assert driver.run is not None
    assert driver.run.counts() == {"failed": 1}
    assert "127.0.0.1:9" in str(driver.run.records[0].summary.error)


def test_what_cannot_be_shown_ends_no_run(episodes: list[Episode], scripted: Config, idle: Idle) -> None:
    """It would go on unseen, and nobody could stop it any more."""
    told: list[Event] = []

    def hear(event: Event) -> None:
        told.append(event)
        if isinstance(event, Began | Looked | Ended):
            raise ValueError("no picture")

    driver = Driver(hear)
    driver.start_run(episodes, scripted)
    idle(driver)
    assert driver.run is not None
    assert driver.run.counts() == {"ok": len(episodes)}
    assert [event.what for event in told if isinstance(event, Trouble)] == [
        "not all of it could be shown: ValueError: no picture"
    ]


def test_nobody_need_listen(episodes: list[Episode], scripted: Config, idle: Idle) -> None:
    """A run whose view is gone goes on to its end."""
    driver = Driver(nobody)
    driver.start_run(episodes, scripted)
    idle(driver)
    assert driver.run is not None
    assert driver.run.counts() == {"ok": len(episodes)}
