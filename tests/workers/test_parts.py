"""What workers and drivers tell each other, without a process."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from other_processes import episodes_of

from toolkit.clock import ManualClock
from toolkit.config import Config
from toolkit.errors import ConfigError, StoreError
from toolkit.gate import EpisodeGate
from toolkit.limits import Demand, LimitEvent, LimitSettings, MemoryState
from toolkit.limits.limiter import Limiter, Waiter
from toolkit.limits.share import merge_events
from toolkit.progress import Progress
from toolkit.records import Spending, Summary, WorkerRecord
from toolkit.store.address import read_address
from toolkit.store.budget import Budget, Ceiling
from toolkit.store.opened import store_at
from toolkit.store.roster import Roster
from toolkit.work import cancelled, record_of
from toolkit.workers.driving import DistributedWork
from toolkit.workers.travel import Report, RunSpec
from toolkit.workers.watching import LOST_S, SignsOfLife, Watch
from toolkit.workers.worker import _check_limits_are_shared

WORKER = WorkerRecord("far:1", "far", 1, 2, 8000.0, "1/2/boot/far", 10.0, 11.0)


def test_store_that_does_not_know_the_run(tmp_path: Path) -> None:
    """It is another one than the driver's: said with its place, the machine and what to do."""
    store = store_at(read_address(f"sqlite:///{tmp_path}/other.db"))
    with pytest.raises(StoreError, match=r"other\.db on far does not know run r1.*Set store_url"):
        Roster(store, "r1").sign(WORKER)


def test_limits_of_another_machine_are_refused() -> None:
    """A file there is another file here, and the server would count both together."""
    config = Config(provider="openai", limits_url="sqlite:////tmp/limits.db")
    spec = RunSpec("r1", config, "", False, "driver", "another boot", 1)
    with pytest.raises(ConfigError, match="each would count for itself"):
        _check_limits_are_shared(spec)
    shared = config.replace(limits_url="postgresql+psycopg://lab@db.example/limits")
    _check_limits_are_shared(spec._replace(config=shared))


def test_driver_without_signs_of_life() -> None:
    """It is lost after a while without a change, however wrong its clock is."""
    life = SignsOfLife(now=100.0)
    assert not life.have_ended(7.0, 100.0)
    assert not life.have_ended(7.0, 100.0 + LOST_S)
    assert life.have_ended(7.0, 100.1 + LOST_S)
    assert not life.have_ended(3.0, 101.0 + LOST_S)


def test_no_worker_is_left(tmp_path: Path) -> None:
    """After a while without a sign of life from any the progress says so, until one comes."""
    store = store_at(read_address(f"sqlite:///{tmp_path}/runs.db"))
    clock, lost = ManualClock(), list[str]()
    watch = Watch(store, "r1", threading.Event(), clock, lost.append)
    roster = Roster(store, "r1")

    def look(seen_at: float, after: float) -> str:
        clock.advance(after)
        roster.look(replace(WORKER, seen_at=seen_at))
        watch.look()
        return str(getattr(watch.standing(), "trouble", ""))

    assert look(11.0, 40.0) == ""
    assert look(12.0, 40.0) == ""
    assert look(12.0, LOST_S) == ""
    assert look(12.0, 1.0) == "no worker has given a sign of life for over 60 s: are there workers left?"
    assert lost == [WORKER.holder]
    assert look(13.0, 1.0) == ""


def test_no_worker_has_come(tmp_path: Path) -> None:
    """It is said of a cluster too that has none from the beginning."""
    store = store_at(read_address(f"sqlite:///{tmp_path}/runs.db"))
    clock = ManualClock()
    watch = Watch(store, "r1", threading.Event(), clock, on_lost=lambda holder: None)
    clock.advance(LOST_S)
    watch.look()
    assert watch.standing() is None
    clock.advance(1.0)
    assert "no worker has given a sign of life" in str(watch.standing())


def events_of_a_limiter(*, behind: float) -> list[LimitEvent]:
    """Have two requests admitted and a third wait, some seconds after the clock's beginning."""
    clock = ManualClock()
    clock.sleep(behind)
    limiter = Limiter("key", LimitSettings(max_concurrent=2), MemoryState(), clock)
    first, second = (limiter.acquire(Demand(10, 10)).lease for _ in range(2))
    waiter = limiter.enter(Demand(10, 10), 0.0, threading.Event())
    clock.sleep(10.0)
    limiter.settle(first)
    limiter.settle(second)
    assert isinstance(waiter, Waiter)
    limiter.withdraw(waiter)
    return limiter.events()


def test_events_of_workers_become_one_history() -> None:
    """In order of time, and with all that wait on any of them."""
    early, late = events_of_a_limiter(behind=0.0), events_of_a_limiter(behind=5.0)
    merged = merge_events([late, early])
    assert [event.t_s for event in merged] == sorted(event.t_s for event in early + late)
    assert max(event.waiting for event in merged) == 2
    assert merged[-1].waiting == 0
    assert merge_events([early]) == early
    assert merge_events([]) == []


def test_what_a_lost_worker_held_counts_as_spent(tmp_path: Path) -> None:
    """On another machine nobody can look for it, so its driver says that it is gone."""
    store = store_at(read_address(f"sqlite:///{tmp_path}/runs.db"))
    theirs, ours = (Budget(store, "b", Ceiling(calls=2)) for _ in range(2))
    theirs._holder = "1/2/boot/far"
    theirs.reserve(Spending(calls=1), threading.Event())
    ours.reserve(Spending(calls=1), threading.Event())
    ours.bury("1/2/boot/far")
    assert ours.spent() == Spending(calls=1)


class Once:
    """A backend whose worker takes its driver for lost, and returns an episode undone, the first time."""

    name = "once"

    def __init__(self) -> None:
        self.undone = {"e1"}

    def run(self, tasks: Iterable[tuple[Any, ...]], at_once: int) -> Iterator[Report]:
        for _, _, told in tasks:
            is_undone = told.id in self.undone
            self.undone.discard(told.id)
            summary = cancelled(None) if is_undone else Summary("Done.")
            yield Report(told.number, record_of(told, summary, started_at=0.0, worker="far:1"))


def test_episode_that_a_worker_gave_back_is_given_out_again() -> None:
    """Nobody stopped the run, so it is not cancelled."""
    spec = RunSpec("r1", Config(provider="lead"), "", False, "driver", "boot", 1)
    stop = threading.Event()
    progress = Progress(3, shown=False, clock=ManualClock())
    keeper: Any = SimpleNamespace(keep_episode=lambda number, record: None)
    work = DistributedWork(
        cast(Any, Once()),
        spec,
        cast(Any, None),
        keeper,
        progress,
        EpisodeGate(2),
        stop,
        ManualClock(),
        lambda record: None,
    )
    episodes = episodes_of(3)
    work.do(episodes, 2)
    assert [record.summary.text for record in work.records(episodes)] == ["Done."] * 3
    assert work.failure is None
