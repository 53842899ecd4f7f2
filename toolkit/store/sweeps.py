"""``SweepBook``: what is kept of one sweep."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa

from toolkit.limits.holders import is_alive, this_process
from toolkit.store import schema
from toolkit.store.store import Store, storable

_sweeps, _cells = schema.sweeps, schema.cells
_claimed: set[tuple[str, str]] = set()
"""Sweeps that go on in this process, by store and id."""
_claimed_lock = threading.Lock()


class KeptCell(NamedTuple):
    """A cell that was begun; status, run and figures (JSON) are None if it did not come to an end."""

    status: str | None
    run_id: str | None
    started_at: float
    figures: str | None


class SweepBook:
    """What is kept of one sweep: who works on it, and what its cells brought.

    Parameters
    ----------
    store : Store
    sweep_id : str
    """

    def __init__(self, store: Store, sweep_id: str) -> None:
        self._store = store
        self._id = sweep_id
        self._claim = store.address.url, sweep_id

    def claim(self, name: str | None, record: str, started_at: float) -> str | None:
        """Take the sweep for this process; return who has it, if somebody lives who does.

        Raises
        ------
        StoreError
            Here and below, if the store cannot be read or written.
        """
        mine = this_process()
        with _claimed_lock:
            if self._claim in _claimed:
                return mine
            _claimed.add(self._claim)

        def take(connection: sa.Connection) -> str | None:
            row = {"id": self._id, "name": storable(name), "holder": mine, "started_at": started_at}
            self._store.database.insert(
                connection, _sweeps, [{**row, "record": storable(record)}], again=True
            )
            query = sa.select(_sweeps.c.holder).where(_sweeps.c.id == self._id).with_for_update()
            other: str | None = connection.execute(query).scalar_one()
            if other is not None and other != mine and is_alive(other):
                return other
            connection.execute(
                _sweeps.update().where(_sweeps.c.id == self._id).values(holder=mine, record=storable(record))
            )
            return None

        holder: str | None = mine
        try:
            holder = self._store.commit(work=take)
        finally:
            if holder is not None:
                self._forget()
        return holder

    def release(self) -> None:
        """Let others go on with the sweep."""
        try:
            end = _sweeps.update().where(_sweeps.c.id == self._id).values(holder=None)
            self._store.commit(work=lambda connection: connection.execute(end))
        finally:
            self._forget()

    def _forget(self) -> None:
        with _claimed_lock:
            _claimed.discard(self._claim)

    def cells(self) -> dict[tuple[str, int], KeptCell]:
        """Return the cells that were begun so far, by key and repeat."""
        query = sa.select(_cells).where(_cells.c.sweep_id == self._id)
        rows = self._store.commit(work=lambda connection: connection.execute(query).all())
        return {
            (row.key, row.repeat): KeptCell(row.status, row.run_id, row.started_at, row.figures)
            for row in rows
        }

    def begin(self, key: str, repeat: int, started_at: float) -> None:
        """Note that a cell begins, or goes on."""
        self._write(key, repeat, {"started_at": started_at, "status": None, "run_id": None, "figures": None})

    def end(
        self, key: str, repeat: int, status: str, run_id: str | None, figures: str, started_at: float
    ) -> None:
        """Note how a cell ended."""
        values = {"status": status, "run_id": run_id, "figures": figures, "started_at": started_at}
        self._write(key, repeat, values)

    def _write(self, key: str, repeat: int, values: Mapping[str, Any]) -> None:
        values = {name: storable(value) for name, value in values.items()}
        one = {"sweep_id": self._id, "key": key, "repeat": repeat}
        change = _cells.update().where(*(_cells.c[name] == value for name, value in one.items()))

        def write(connection: sa.Connection) -> None:
            self._store.database.insert(connection, _cells, [{**one, **values}], again=True)
            connection.execute(change.values(**values))

        self._store.commit(work=write)
