"""What workers and drivers tell each other, without a process."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from toolkit.clock import ManualClock
from toolkit.config import Config
from toolkit.errors import ConfigError, StoreError
from toolkit.limits import Demand, LimitEvent, LimitSettings, MemoryState
from toolkit.limits.limiter import Limiter, Waiter
from toolkit.records import WorkerRecord
from toolkit.store.address import read_address
from toolkit.store.opened import store_at
from toolkit.store.roster import Roster
from toolkit.workers.travel import RunSpec
from toolkit.workers.watching import merge_events
from toolkit.workers.worker import DRIVER_LOST_S, SignsOfLife, _check_limits_are_shared

WORKER = WorkerRecord("far:1", "far", 1, 2, 8000.0, 10.0, 11.0)


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
    assert not life.have_ended(7.0, 100.0 + DRIVER_LOST_S)
    assert life.have_ended(7.0, 100.1 + DRIVER_LOST_S)
    assert not life.have_ended(3.0, 101.0 + DRIVER_LOST_S)


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
