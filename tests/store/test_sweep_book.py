"""What is kept of a sweep, in each kind of store."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from toolkit.limits.holders import this_process
from toolkit.store import sweeps
from toolkit.store.store import Store
from toolkit.store.sweeps import KeptCell, SweepBook

Open = Callable[..., Store]


def test_cells_are_kept_as_they_began_and_ended(store: Store) -> None:
    """By key and repeat; one that goes on again is as if it had just begun."""
    book = SweepBook(store, "s")
    book.begin("a", 1, 10.0)
    book.begin("a", 2, 11.0)
    book.end("a", 1, "ok", "run1", '{"x": 1}', 10.0)
    SweepBook(store, "other").begin("a", 1, 99.0)
    assert book.cells() == {
        ("a", 1): KeptCell("ok", "run1", 10.0, '{"x": 1}'),
        ("a", 2): KeptCell(None, None, 11.0, None),
    }
    book.begin("a", 1, 12.0)
    assert book.cells()["a", 1] == KeptCell(None, None, 12.0, None)


def test_an_end_without_a_beginning_is_kept_too(store: Store) -> None:
    """The run was deleted meanwhile, and its cell with it."""
    book = SweepBook(store, "s")
    book.end("a", 1, "failed", None, "{}", 10.0)
    assert book.cells()["a", 1].status == "failed"


def test_texts_that_a_database_does_not_take_are_made_fit(store: Store) -> None:
    """An error may hold half a character, and a name a zero."""
    book = SweepBook(store, "s")
    assert book.claim("a\0b", "{}", 1.0) is None
    book.end("a", 1, "failed", None, '{"error": "\ud800"}', 10.0)
    assert book.cells()["a", 1].figures == '{"error": "\ufffd"}'
    book.release()


def test_one_at_a_time_has_a_sweep(store: Store) -> None:
    """A second claim is told who has it; after the release it may be had again."""
    one, two = SweepBook(store, "s"), SweepBook(store, "s")
    assert one.claim(None, "{}", 1.0) is None
    assert two.claim(None, "{}", 2.0) == this_process()
    assert SweepBook(store, "other").claim(None, "{}", 2.0) is None
    one.release()
    assert two.claim(None, "{}", 3.0) is None
    two.release()
    SweepBook(store, "other").release()


def test_of_many_who_claim_at_once_one_has_it(store: Store) -> None:
    """Whatever the order in which their transactions come."""
    got: list[Any] = []
    barrier = threading.Barrier(8)

    def claim() -> None:
        book = SweepBook(store, "s")
        barrier.wait()
        got.append(book.claim(None, "{}", 1.0))

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got.count(None) == 1
    SweepBook(store, "s").release()


@pytest.mark.parametrize("store_url", ["sqlite", "postgresql"], indirect=True)
def test_who_lives_elsewhere_has_it_and_who_died_has_not(
    store_url: str, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of the process is in the store."""
    monkeypatch.setattr(sweeps, "this_process", lambda: "77/elsewhere")
    there = SweepBook(open_store(store_url), "s")
    assert there.claim("n", "{}", 1.0) is None
    there._forget()  # as another process would not know of it
    monkeypatch.undo()
    here = SweepBook(open_store(store_url), "s")
    monkeypatch.setattr(sweeps, "is_alive", lambda holder: True)
    assert here.claim("n", "{}", 2.0) == "77/elsewhere"
    monkeypatch.setattr(sweeps, "is_alive", lambda holder: False)
    assert here.claim("n", "{}", 3.0) is None
    here.release()
