"""Many threads' decisions in one transaction: each has its own answer, and what fails is taken back."""

from __future__ import annotations

import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from toolkit.errors import StoreError
from toolkit.limits import Demand, LeaseError, Limiter, LimitSettings, SqliteState, together
from toolkit.limits.state import Overtaken
from toolkit.limits.together import Together
from toolkit.records import Usage


class Book:
    """A list that keeps what was done in a transaction and undoes it on an error; entered once it is open."""

    def __init__(self):
        self.rows, self.sizes, self.open, self.entered = [], [], threading.Event(), threading.Event()
        self.fails = []
        self.open.set()

    @contextmanager
    def transaction(self):
        self.entered.set()
        assert self.open.wait(20)
        before = list(self.rows)
        try:
            yield
            if self.fails:
                raise self.fails.pop()
        except BaseException:
            self.rows[:] = before
            raise
        self.sizes.append(len(self.rows) - len(before))

    def write(self, row):
        self.rows.append(row)
        return row


class FailingCommits:
    """A connection whose commits fail as long as it says so."""

    def __init__(self, connection):
        self._connection, self.fails = connection, True

    def __getattr__(self, name):
        return getattr(self._connection, name)

    def execute(self, sql, *values):
        if sql.startswith(("COMMIT", "UPDATE")) and self.fails:
            raise sqlite3.OperationalError("database or disk is full")
        return self._connection.execute(sql, *values)


def until(happened):
    """Let other threads run until it has happened."""
    while not happened():
        time.sleep(0)


def crowd(book, desk, pool, works):
    """Have the first work begin a transaction, and let it go on once all others stand in the queue."""
    book.open.clear()
    book.entered.clear()
    futures = [pool.submit(desk.do, works[0])]
    assert book.entered.wait(20)
    for number, work in enumerate(works[1:], 1):
        futures.append(pool.submit(desk.do, work))
        until(lambda number=number: len(desk._queue) == number)
    book.open.set()
    return futures


def test_a_crowd_shares_a_transaction():
    """Ten who ask during one transaction have the next one together, in their order, each with its answer."""
    book = Book()
    desk = Together(book.transaction)
    assert desk.do(lambda: book.write("alone")) == "alone"
    with ThreadPoolExecutor(11) as pool:
        futures = crowd(book, desk, pool, [lambda row=row: book.write(row) for row in range(11)])
        assert [future.result(timeout=20) for future in futures] == list(range(11))
    assert book.rows == ["alone", *range(11)]
    assert book.sizes == [1, 1, 10]


def test_an_error_that_is_an_answer_is_one_threads_alone():
    """What was done beside it stays done."""
    book = Book()
    desk = Together(book.transaction)

    def refuse():
        book.write("asked")
        raise LeaseError("settled already")

    with ThreadPoolExecutor(3) as pool:
        first, refused, other = crowd(
            book, desk, pool, [lambda: book.write(0), refuse, lambda: book.write(1)]
        )
        with pytest.raises(LeaseError):
            refused.result(timeout=20)
        assert (first.result(timeout=20), other.result(timeout=20)) == (0, 1)
    assert book.rows == [0, "asked", 1]


@pytest.mark.parametrize("wrong", [ValueError("a bug"), KeyboardInterrupt()])
def test_what_breaks_a_transaction_is_undone_and_the_others_are_done(wrong):
    """A bug or Ctrl-C in one work costs the others nothing, whoever led; nothing of it stays."""
    book = Book()
    desk = Together(book.transaction)

    def fail():
        book.write("half")
        raise wrong

    with ThreadPoolExecutor(4) as pool:
        futures = crowd(book, desk, pool, [lambda: book.write(0), fail, *[lambda: book.write(1)] * 2])
        with pytest.raises(type(wrong)):
            futures.pop(1).result(timeout=20)
        assert [future.result(timeout=20) for future in futures] == [0, 1, 1]
    assert book.rows == [0, 1, 1]
    assert desk.do(lambda: 2) == 2


def test_all_hear_of_a_store_that_cannot_be_written():
    """Nothing was decided for anybody; the next one may find it well."""
    book = Book()
    desk = Together(book.transaction)
    with ThreadPoolExecutor(3) as pool:
        book.fails = [StoreError("full"), StoreError("full")]
        futures = crowd(book, desk, pool, [lambda: book.write(0)] * 3)
        for future in futures:
            with pytest.raises(StoreError):
                future.result(timeout=20)
    assert book.rows == []
    assert desk.do(lambda: book.write(1)) == 1


@pytest.mark.parametrize("begun", [False, True])
def test_one_who_is_interrupted_leaves_nothing_behind(begun, monkeypatch):
    """Ctrl-C while another leads: out of the queue, or, if it was done already, told to be undone."""
    book, undone = Book(), []
    desk = Together(book.transaction)

    class Interrupted(together._Entry):
        def __init__(self, work, **kind):
            self._asked = 0
            super().__init__(work, **kind)

        def sleep(self):
            self._asked += 1
            if self._asked != 2:  # the first time it only gets ready to
                return super().sleep()
            book.open.set()
            until(lambda: not begun or self.done)
            raise KeyboardInterrupt

    with ThreadPoolExecutor(2) as pool:
        book.open.clear()
        first = pool.submit(desk.do, lambda: book.write(0))
        assert book.entered.wait(20)
        if begun:
            follower = pool.submit(desk.do, lambda: book.write(1))  # leads the next one, with the interrupted
            until(lambda: len(desk._queue) == 1)
        monkeypatch.setattr(together, "_Entry", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            desk.do(lambda: book.write("interrupted"), undone.append)
        monkeypatch.undo()
        assert first.result(timeout=20) == 0
        if begun:
            assert follower.result(timeout=20) == 1
    assert undone == (["interrupted"] if begun else [])
    assert book.rows == ([0, 1, "interrupted"] if begun else [0])
    assert desk.do(lambda: 2) == 2


def test_what_nobody_waits_for_is_done_by_whoever_is_there():
    """By the next who waits, in the order of asking; by the one who leads if nobody does; else at once."""
    book = Book()
    desk = Together(book.transaction)
    desk.do_soon(lambda: book.write("alone"))
    assert book.rows == ["alone"]
    with ThreadPoolExecutor(2) as pool:
        book.open.clear()
        book.entered.clear()
        leader = pool.submit(desk.do, lambda: book.write(0))
        assert book.entered.wait(20)
        desk.do_soon(lambda: book.write(1))  # and does not wait for the leader
        follower = pool.submit(desk.do, lambda: book.write(2))
        until(lambda: len(desk._queue) == 2)
        desk.do_soon(lambda: book.write(3))
        book.open.set()
        assert (leader.result(timeout=20), follower.result(timeout=20)) == (0, 2)
        assert book.rows == ["alone", 0, 1, 2, 3]
        book.open.clear()
        book.entered.clear()
        leader = pool.submit(desk.do, lambda: book.write(4))
        assert book.entered.wait(20)
        desk.do_soon(lambda: book.write(5))
        book.open.set()
        leader.result(timeout=20)
    assert book.rows == ["alone", 0, 1, 2, 3, 4, 5]
    assert book.sizes == [1, 1, 3, 1, 1]
    assert desk.do(lambda: 6) == 6


def test_what_nobody_waits_for_breaks_nothing():
    """Its error is nobody's; what an interrupted leader leaves is done with the next."""
    book = Book()
    desk = Together(book.transaction)

    def fail():
        raise LeaseError("settled already")

    for raised in (None, KeyboardInterrupt()):
        with ThreadPoolExecutor(2) as pool:
            book.open.clear()
            book.entered.clear()
            leader = pool.submit(desk.do, lambda: book.write("led"))
            assert book.entered.wait(20)
            desk.do_soon(fail)
            desk.do_soon(lambda: book.write("soon"))
            if raised is not None:
                book.fails.append(raised)
            book.open.set()
            if raised is None:
                assert leader.result(timeout=20) == "led"
            else:
                with pytest.raises(KeyboardInterrupt):
                    leader.result(timeout=20)
        assert desk.do(lambda: book.write("next")) == "next"
        assert book.rows[-2:] == ["soon", "next"]


def test_an_overtaken_decision_is_made_again():
    """All of a transaction, and each has the answer of the second time."""
    book, asked = Book(), []
    desk = Together(book.transaction)
    book.fails.append(Overtaken())
    assert desk.do(lambda: asked.append(len(asked)) or book.write(len(asked))) == 2
    assert (book.rows, asked) == ([2], [0, 1])


def test_a_lease_is_settled_without_waiting(tmp_path):
    """While another thread is at the book, and it is counted before the events are looked at."""
    state = SqliteState(tmp_path / "limits.db")
    limiter = Limiter("key", LimitSettings(max_concurrent=2), state)
    leases = [limiter.acquire(Demand(5)).lease for _ in range(2)]
    entered, go_on = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(limiter._decide, lambda now: entered.set() or go_on.wait(20))
        assert entered.wait(20)
        limiter.settle(leases[0], Usage(1, 1), wait=False)
        assert not busy.done()
        go_on.set()
        busy.result(timeout=20)
    assert [event.event for event in limiter.events()].count("settled") == 1
    limiter.settle(leases[1], Usage(1, 1), wait=False)
    assert limiter.snapshot().in_flight == 0
    state.close()


def test_a_commit_that_fails_takes_everything_back(tmp_path):
    """The book, even if none was written before; line and history too; leases are ended once it works."""
    state = SqliteState(tmp_path / "limits.db")
    limiter = Limiter("key", LimitSettings(requests_per_minute=60, max_concurrent=1), state)
    state._file = broken = FailingCommits(state._file)
    with pytest.raises(StoreError, match="full"):
        limiter.acquire(Demand())
    assert limiter.events() == []
    broken.fails = False
    lease = limiter.acquire(Demand()).lease
    assert limiter.snapshot().requests_60s == 1
    events = len(limiter.events())
    broken.fails = True
    with pytest.raises(StoreError):  # it has to wait, and cannot even do that
        limiter.acquire(Demand())
    with pytest.raises(StoreError):
        limiter.settle(lease, Usage(1, 1))
    assert limiter.waiting == 0
    assert len(limiter.events()) == events
    broken.fails = False
    limiter.settle(lease, Usage(1, 1))
    with pytest.raises(LeaseError):
        limiter.settle(lease, Usage(1, 1))
    assert limiter.snapshot().in_flight == 0
    state.close()
