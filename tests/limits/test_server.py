"""The limits in a database that machines share: its clock, who lives, and what is lost on the way to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from postgresql_server import Server

from toolkit.clock import ManualClock, SystemClock
from toolkit.errors import StoreError
from toolkit.limits import (
    Demand,
    Lease,
    Limiter,
    LimitSettings,
    PostgresState,
    Wait,
    WaitCancelled,
    server,
)
from toolkit.limits.core import LimiterCore
from toolkit.limits.state import Overtaken
from toolkit.limits.waiting import StopEvent
from toolkit.records import Usage

ELSEWHERE = "1/1/boot/pid:[1]@elsewhere"
ONE_SLOT = LimitSettings(tokens_per_minute=1000, max_concurrent=1)


class Shared:
    """A database for limits on a server."""

    def __init__(self, postgresql: Server) -> None:
        self.server = postgresql
        self.name = postgresql.database("template1")
        self.url = postgresql.url(self.name)
        self.made: list[PostgresState] = []

    def state(self, holder: str | None = None) -> PostgresState:
        self.made.append(PostgresState(self.url, holder=holder))
        return self.made[-1]

    def run(self, statement: str) -> list[Any]:
        return self.server.run(statement, self.name)

    def break_connections(self) -> None:
        """End the sessions of everybody else."""
        self.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE datname = '{self.name}' AND pid <> pg_backend_pid()"
        )


@pytest.fixture
def shared(postgresql: Server) -> Iterator[Shared]:
    made = Shared(postgresql)
    yield made
    for state in made.made:
        state.close()


def until(happened: Callable[[], object]) -> None:
    """Let other threads run until it has happened."""
    ends = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < ends
        time.sleep(0)


def test_time_is_the_servers(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    """However wrong the clock of this machine is."""
    monkeypatch.setattr(time, "time", lambda: 1e9)
    axis = shared.state().axis(SystemClock())
    before = float(shared.run("SELECT extract(epoch FROM clock_timestamp())")[0][0])
    ours = axis()
    after = float(shared.run("SELECT extract(epoch FROM clock_timestamp())")[0][0])
    assert before - 0.05 < ours < after + 0.05


def test_a_clock_of_ones_own_stays_that(shared: Shared) -> None:
    """As a test's."""
    clock = ManualClock()
    assert shared.state().axis(clock)() == clock.epoch()


def test_a_worker_of_another_machine_that_falls_silent(shared: Shared) -> None:
    """Its slot goes to another, what it was charged stays, and its late settlement harms nobody."""
    far, near = shared.state(ELSEWHERE), shared.state()
    theirs = Limiter("key", ONE_SLOT, far)
    lease = theirs.acquire(Demand(100)).lease
    assert near.is_alive(ELSEWHERE)
    mine = Limiter("key", ONE_SLOT, near)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(mine.acquire, Demand(10))
        until(lambda: mine.waiting)
        assert mine.snapshot().in_flight == 1
        far.close()
        shared.run(
            f"UPDATE toolkit_limits.holders SET seen = seen - interval '{server.STALE_S + 1} s' "
            f"WHERE holder = '{ELSEWHERE}'"
        )
        assert waiting.result(timeout=30)
    assert mine.snapshot().in_flight == 1
    assert mine.snapshot().tokens_60s == 110
    assert not theirs.still_valid(lease._replace(admitted_at=lease.admitted_at - 1))


def test_one_that_never_showed_itself_is_not_alive(shared: Shared) -> None:
    """Whoever decides shows itself first."""
    assert not shared.state().is_alive(ELSEWHERE)


def test_a_connection_that_broke_in_a_pause(shared: Shared) -> None:
    """Nothing was going on, and nobody notices."""
    limiter = Limiter("key", ONE_SLOT, shared.state())
    limiter.settle(limiter.acquire(Demand(10)).lease)
    shared.break_connections()
    limiter.settle(limiter.acquire(Demand(10)).lease)
    assert limiter.snapshot().tokens_60s == 20


@pytest.mark.parametrize("is_done", [True, False])
def test_a_commit_that_nobody_answered(
    is_done: bool, shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether or not it came to be, the request is counted once."""
    state = shared.state()
    limiter = Limiter("key", LimitSettings(tokens_per_minute=100), state)
    limiter.settle(limiter.acquire(Demand(1)).lease)
    send, lost = server._send, []

    def lose(connection: Any, statements: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        if statements != server._WRITE or lost:
            return send(connection, statements, values)
        lost.append(values)
        if is_done:
            send(connection, statements, values)
        raise psycopg.OperationalError("the server closed the connection unexpectedly")

    monkeypatch.setattr(server, "_send", lose)
    lease = limiter.acquire(Demand(50)).lease
    assert len(lost) == 1
    assert limiter.snapshot().in_flight == 1
    assert limiter.snapshot().tokens_60s == 51
    limiter.settle(lease, Usage(50, 0))
    other = Limiter("key", LimitSettings(tokens_per_minute=100), shared.state("other"))
    assert other.snapshot().tokens_60s == 51
    assert other.snapshot().in_flight == 0


def test_a_connection_that_breaks_in_a_decision(shared: Shared) -> None:
    """What was decided is not written on another connection, over what others have written since."""
    limits = LimitSettings(tokens_per_minute=100)
    one, two = shared.state("a"), shared.state("b")
    cores = [LimiterCore("key", limits, state.holder) for state in (one, two)]
    now = ManualClock().epoch()

    def decide_and_lose() -> None:
        with one.exclusive(cores[0]):
            assert isinstance(cores[0].try_reserve(now, Demand(60)), Lease)
            one._drop()
            with two.exclusive(cores[1]):
                assert isinstance(cores[1].try_reserve(now, Demand(60)), Lease)
            assert one.is_alive("b")  # which connects anew

    with pytest.raises(Overtaken):
        decide_and_lose()
    with one.exclusive(cores[0]):
        assert isinstance(cores[0].try_reserve(now, Demand(60)), Wait)


def test_a_server_that_is_stopped_for_a_while(shared: Shared) -> None:
    """Nobody is admitted, the wait is told, and it goes on by itself; nothing that was counted is lost."""
    limiter = Limiter("key", LimitSettings(tokens_per_minute=1000), shared.state(), wait_s=60)
    first = limiter.acquire(Demand(100)).lease
    shared.server.stop()
    try:
        with ThreadPoolExecutor(2) as pool:
            asked = pool.submit(limiter.acquire, Demand(10))
            settled = pool.submit(limiter.settle, first, Usage(90, 0))
            until(lambda: limiter.standing() is not None)
            standing = limiter.standing()
            assert standing is None or "nothing is sent: the limits in" in standing.trouble
            assert not asked.done()
            shared.server.start()
            assert asked.result(timeout=60)
            settled.result(timeout=60)
    finally:
        shared.server.start()
    assert limiter.snapshot().in_flight == 1
    assert limiter.snapshot().tokens_60s == 100
    assert limiter.standing() is None


def test_a_server_that_stays_away(shared: Shared) -> None:
    """It is an error after the time that was given, and one that whoever stops does not wait for."""
    state = shared.state()
    limiter = Limiter("key", ONE_SLOT, state)
    patient = Limiter("other", ONE_SLOT, state, wait_s=1e6)
    stop = StopEvent()
    shared.server.stop()
    try:
        with pytest.raises(StoreError, match=r"the limits in .* cannot be reached") as caught:
            limiter.acquire(Demand())
        assert caught.value.passing
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(patient.acquire, Demand(), 0.0, stop)
            until(patient.standing)
            stop.set()
            with pytest.raises(WaitCancelled):
                asked.result(timeout=60)
    finally:
        shared.server.start()


def test_no_password_is_shown(shared: Shared) -> None:
    """Neither a right one nor a wrong one."""
    url = shared.server.url("nowhere", user=Server.role)
    for password in (Server.password, "ebb-6120"):
        with pytest.raises(StoreError) as caught:
            PostgresState(url, password)
        assert password not in str(caught.value)
        assert caught.value.__cause__ is None
        assert not caught.value.passing
    PostgresState(shared.server.url(shared.name, user=Server.role), Server.password).close()


def test_options_of_the_address_hold_as_well(shared: Shared) -> None:
    """Beside those that keep a silent session from holding up the others."""
    state = PostgresState(f"{shared.url}&options=-c%20work_mem%3D123kB")
    shown = [server._send(state._connected(), f"SHOW {name}") for name in ("work_mem", "lock_timeout")]
    state.close()
    assert shown == [[("123kB",)], [("5s",)]]


def test_a_fork_has_a_connection_of_its_own(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it does is its own, and the parent's session goes on."""
    state = shared.state()
    limiter = Limiter("key", ONE_SLOT, state)
    limiter.settle(limiter.acquire(Demand(1)).lease)
    parents = state._connection
    monkeypatch.setattr(server.os, "getpid", lambda: -1)
    core = LimiterCore("key", ONE_SLOT, "child")
    with state.exclusive(core):
        assert core.used(limiter.now())
    assert state._connection is not parents
    assert parents is not None
    assert parents.execute("SELECT 1").fetchone() == (1,)
    parents.close()


def test_workers_that_wait_are_told_apart_by_thread(shared: Shared) -> None:
    """Many threads of one process share one connection."""
    limiter = Limiter("key", LimitSettings(max_concurrent=3), shared.state())
    most, lock = [0, 0], threading.Lock()

    def call(number: int) -> None:
        lease = limiter.acquire(Demand(1)).lease
        with lock:
            most[0] += 1
            most[1] = max(most)
        with lock:
            most[0] -= 1
        limiter.settle(lease)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(call, range(100)))
    assert most[1] <= 3
    assert limiter.snapshot().in_flight == 0
