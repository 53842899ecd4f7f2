"""One ``Store`` for each address in a process, shared by all runs."""

from __future__ import annotations

import os
import threading
from contextlib import suppress

from toolkit.store.address import Address
from toolkit.store.database import BUSY_S
from toolkit.store.store import Store

_opened: dict[Address, Store] = {}
_opened_lock = threading.RLock()


def store_at(address: Address) -> Store:
    """Return the store at an address, opened at the first call.

    Raises
    ------
    StoreError
        If it cannot be opened.
    """
    with _opened_lock:
        store = _opened.get(address)
        if store is not None and store.lost():
            store.database.close()  # those who still use it are told at their next commit
            store = None
        if store is None:
            store = _opened[address] = Store(address)
        return store


def close_stores() -> None:
    """Close all stores; what is in memory is gone then."""
    with _opened_lock:
        for store in _opened.values():
            store.close()
        _opened.clear()


def _before_fork() -> None:
    # A child that inherits a connection to an SQLite file believes in locks that it does not have, and the
    # parent could clear the log away under it (sqlite.org/howtocorrupt.html, 2.6).
    _opened_lock.acquire(timeout=BUSY_S)
    for store in _opened.values():
        store.database.before_fork()


def _in_parent() -> None:
    for store in _opened.values():
        store.database.after_fork()
    with suppress(RuntimeError):  # it was not taken
        _opened_lock.release()


def _in_child() -> None:
    global _opened_lock
    _opened_lock = threading.RLock()
    for store in _opened.values():
        store.forget()


if hasattr(os, "register_at_fork"):  # Windows does not fork.
    os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
