"""What many threads write at once: one transaction for all, each one's result and error his own."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from toolkit.clock import ManualClock
from toolkit.errors import StoreError
from toolkit.records import CallRecord
from toolkit.store import database as database_module
from toolkit.store import schema
from toolkit.store.store import Store, call_rows

New = Callable[..., CallRecord]
Rows = Callable[[Store, sa.Table], list[Any]]
Ids = Callable[[Store], list[str]]


class Held:
    """Keeps a store busy with one transaction, so that others come to stand in line behind it."""

    def __init__(self, store: Store, error: BaseException | None = None) -> None:
        self._began, self._go_on = threading.Event(), threading.Event()
        self.raised: BaseException | None = None

        def work(connection: sa.Connection) -> None:
            self._began.set()
            assert self._go_on.wait(20)
            if error is not None:
                raise error

        def hold() -> None:
            try:
                store.commit(work=work)
            except BaseException as caught:
                self.raised = caught

        self._thread = threading.Thread(target=hold)
        self._store = store

    def __enter__(self) -> Held:
        self._thread.start()
        assert self._began.wait(10)
        return self

    def until_in_line(self, count: int) -> None:
        while len(self._store._commits._line) < count:
            threading.Event().wait(0.001)

    def __exit__(self, *exc: object) -> None:
        self._go_on.set()
        self._thread.join(10)


def transactions(store: Store) -> list[None]:
    """Return a list that grows with each transaction that is committed."""
    counted: list[None] = []
    sa.event.listen(store.database._engine, "commit", lambda connection: counted.append(None))
    return counted


def test_threads_lose_and_double_nothing(store: Store, make_call: New, call_ids: Ids) -> None:
    """16 threads that commit 50 calls each, and look each up: all are there, once."""

    def write(thread: int) -> None:
        for number in range(50):
            call = make_call(f"{thread}-{number}", key=f"k{thread}-{number}")
            store.commit(call_rows(f"r{thread}", call, f"text {thread}-{number}"))
            found = store.find_call(call.key)
            assert found is not None
            assert found.text == f"text {thread}-{number}"

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(write, range(16)))
    assert sorted(call_ids(store)) == sorted(
        f"{thread}-{number}" for thread in range(16) for number in range(50)
    )


def test_those_in_line_share_a_transaction(store: Store, make_call: New, call_ids: Ids) -> None:
    """Ten threads that come while another writes are committed together."""
    counted = transactions(store)
    with ThreadPoolExecutor(10) as pool:
        with Held(store) as held:
            done = [pool.submit(store.commit, call_rows("r", make_call(f"c{n}"), "t")) for n in range(10)]
            held.until_in_line(10)
        for each in done:
            each.result(10)
    assert len(counted) == 2
    assert sorted(call_ids(store)) == [f"c{n}" for n in range(10)]


def test_a_result_is_for_him_who_asked(store: Store) -> None:
    """Each of many works in one transaction returns to its own caller."""
    with ThreadPoolExecutor(10) as pool:
        with Held(store) as held:
            done = [pool.submit(store.commit, None, lambda connection, n=n: n) for n in range(10)]
            held.until_in_line(10)
        assert [each.result(10) for each in done] == list(range(10))


def fail(connection: sa.Connection) -> None:
    raise KeyError("mine")


@pytest.mark.parametrize(
    ("values", "work", "error"),
    [
        ({"call_id": "there"}, None, StoreError),
        ({"total_s": None}, None, StoreError),
        ({"input_tokens": 2**63}, None, StoreError),
        ({}, fail, KeyError),
    ],
    ids=["duplicate", "null", "too large", "work"],
)
def test_an_error_is_for_him_who_made_it(
    store: Store, values: Any, work: Any, error: type[Exception], make_call: New, rows_of: Rows, call_ids: Ids
) -> None:
    """One wrong entry of a group leaves nothing; the others are kept, and the store is well."""
    store.commit(call_rows("r", make_call("there"), "first"))
    with ThreadPoolExecutor(10) as pool:
        with Held(store) as held:
            good = [pool.submit(store.commit, call_rows("r", make_call(f"c{n}"), "t")) for n in range(4)]
            wrong = pool.submit(
                store.commit, call_rows("r", make_call(**{"call_id": "c"} | values), "t"), work
            )
            good += [pool.submit(store.commit, call_rows("r", make_call(f"c{n}"), "t")) for n in range(4, 8)]
            held.until_in_line(9)
        for each in good:
            each.result(10)
        with pytest.raises(error):
            wrong.result(10)
    assert sorted(call_ids(store)) == [*(f"c{n}" for n in range(8)), "there"]
    assert store._commits.trouble is None
    assert [row.text for row in rows_of(store, schema.calls) if row.call_id == "there"] == ["first"]


def test_a_work_that_fails_takes_its_rows_back(store: Store, make_call: New, call_ids: Ids) -> None:
    """Rows and work are one transaction: none is kept without the other."""
    with pytest.raises(KeyError, match="mine"):
        store.commit(call_rows("r", make_call(), "t"), fail)
    assert call_ids(store) == []
    assert store.commit(call_rows("r", make_call(), "t"), lambda connection: 5) == 5
    assert call_ids(store) == ["c1"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_an_interrupt_of_one_stops_no_other(
    store: Store, error: BaseException, make_call: New, call_ids: Ids
) -> None:
    """Ctrl-C in the thread that writes for others is raised there alone, and the others are written."""
    with Held(store) as outer:
        leader = Held(store, error)
        leader._thread.start()
        outer.until_in_line(1)
        with ThreadPoolExecutor(5) as pool:
            done = [pool.submit(store.commit, call_rows("r", make_call(f"c{n}"), "t")) for n in range(5)]
            outer.until_in_line(6)
            outer.__exit__()
            assert leader._began.wait(10)
            leader.__exit__()
            for each in done:
                each.result(10)
    assert leader.raised is error
    assert sorted(call_ids(store)) == [f"c{n}" for n in range(5)]
    store.commit(call_rows("r", make_call("after"), "t"))


def test_an_interrupt_after_the_commit_doubles_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, make_call: New, call_ids: Ids
) -> None:
    """Ctrl-C when all is written but nobody was told yet: the others' rows are there once, and no error."""
    with Held(store) as held, ThreadPoolExecutor(5) as pool:
        interrupted = pool.submit(store.commit, call_rows("r", make_call("first"), "t"))
        held.until_in_line(1)
        done = [pool.submit(store.commit, call_rows("r", make_call(f"c{n}"), "t")) for n in range(4)]
        held.until_in_line(5)
        dialect: Any = store.database._engine.dialect
        commit = dialect.do_commit
        commits: list[None] = []

        def interrupt_second(connection: Any) -> None:
            commit(connection)
            commits.append(None)
            if len(commits) == 2:
                raise KeyboardInterrupt

        monkeypatch.setattr(dialect, "do_commit", interrupt_second)
        held.__exit__()
        with pytest.raises(KeyboardInterrupt):
            interrupted.result(10)
        for each in done:
            each.result(10)
    assert sorted(call_ids(store)) == ["c0", "c1", "c2", "c3", "first"]


class Interrupted(ManualClock):
    """A clock whose first sleep is ended by Ctrl-C, once ``ready`` says that the time has come."""

    def __init__(self, ready: Callable[[], object]) -> None:
        super().__init__()
        self._ready: Callable[[], object] | None = ready

    def sleep(self, seconds: float, wake: threading.Event | None = None) -> None:
        ready, self._ready = self._ready, None
        if ready is not None:
            ready()
            raise KeyboardInterrupt
        super().sleep(seconds, wake)


def test_an_interrupt_while_it_waits_leaves_the_lead(
    tmp_path: Path,
    sqlite_url: str,
    open_store: Callable[..., Store],
    monkeypatch: pytest.MonkeyPatch,
    make_call: New,
    call_ids: Ids,
) -> None:
    """Ctrl-C in the thread that waits for a lock to go: another waits on, and its rows are written."""
    monkeypatch.setattr(database_module, "BUSY_S", 0.005)

    def ready() -> None:
        done.append(pool.submit(store.commit, call_rows("r", make_call("b"), "t")))
        while not store._commits._line:
            threading.Event().wait(0.001)
        other.close()

    done: list[Any] = []
    store = open_store(sqlite_url, clock=Interrupted(ready))
    other = sqlite3.connect(tmp_path / "runs.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(KeyboardInterrupt):
            store.commit(call_rows("r", make_call("a"), "t"))
        done[0].result(10)
    assert call_ids(store) == ["b"]


def test_an_interrupt_before_it_writes_leaves_the_lead(
    open_store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch, make_call: New, call_ids: Ids
) -> None:
    """Ctrl-C when one has the line and has not begun: the next commit finds nobody in its way."""
    store = open_store("memory://")

    write_all = store._commits._write_all

    def interrupt(batch: object) -> None:
        monkeypatch.setattr(store._commits, "_write_all", write_all)
        raise KeyboardInterrupt

    with ThreadPoolExecutor(1) as pool:
        pool.submit(store.commit, call_rows("r", make_call("a"), "t")).result(10)
        monkeypatch.setattr(store._commits, "_write_all", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.commit(call_rows("r", make_call("b"), "t"))
        pool.submit(store.commit, call_rows("r", make_call("c"), "t")).result(10)
    assert call_ids(store) == ["a", "c"]


def test_what_is_left_for_later_goes_with_the_next(store: Store, make_call: New, call_ids: Ids) -> None:
    """Rows for later wait for a transaction, are written by it, and ``flush`` tells of those refused."""
    store.later(call_rows("r", make_call("a"), "t"))
    counted = transactions(store)
    store.commit(call_rows("r", make_call("b"), "t"))
    assert len(counted) == 1
    assert call_ids(store) == ["a", "b"]
    store.later(call_rows("r", make_call("a"), "t"))
    store.later(call_rows("r", make_call("c"), "t"))
    with pytest.raises(StoreError, match="refused"):
        store.flush()
    store.flush()
    assert call_ids(store) == ["a", "b", "c"]


def test_closing_writes_what_was_left(
    store_url: str, open_store: Callable[..., Store], make_call: New, call_ids: Ids
) -> None:
    """Rows for later are written at the latest when the store is closed."""
    if store_url == "memory://":
        pytest.skip("what is in memory ends with it")
    store = open_store(store_url)
    store.later(call_rows("r", make_call("a"), "t"))
    store.close()
    assert call_ids(open_store(store_url)) == ["a"]


def test_readers_and_writers_do_not_mix(store: Store, make_call: New, call_ids: Ids) -> None:
    """Threads that read at length beside threads that write see whole transactions of two calls each."""
    stop = threading.Event()

    def read() -> int:
        looks = 0
        while not stop.is_set():
            assert len(call_ids(store)) % 2 == 0
            looks += 1
        return looks

    def write(thread: int) -> None:
        for number in range(20):
            pair = [
                call_rows(f"r{thread}", make_call(f"{number}{part}"), "t")[schema.calls][0] for part in "ab"
            ]
            store.commit({schema.calls: pair})

    with ThreadPoolExecutor(6) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        list(pool.map(write, range(4)))
        stop.set()
        assert all(reader.result(20) for reader in readers)
    assert len(call_ids(store)) == 160
