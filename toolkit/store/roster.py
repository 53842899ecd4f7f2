"""``Roster``: the processes that work on a run's episodes, what they are told, and whether they live.

All of them have the store, and most have nothing else in common: so what a driver has to tell its workers,
whatever scheduler runs them, it writes down here, and each worker reads it when it gives a sign of life.
"""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import sqlalchemy as sa

from toolkit.errors import StoreError
from toolkit.limits import LimitEvent
from toolkit.records import WorkerRecord
from toolkit.store import schema
from toolkit.store.store import Store, pack_events, unpack_events

_runs, _workers, _limits = schema.runs, schema.workers, schema.limits
DRIVER = ""
"""The name of the driver among the workers."""
SHIFT = 20
"""Bits for the number of a part of the limiter's events, below those of the worker's digest."""
_parts = itertools.count()


def digest_of(worker: str) -> int:
    """Return a number of 32 bits that stands for a worker's name."""
    return zlib.crc32(worker.encode())


class Orders(NamedTuple):
    """What a worker is told.

    Attributes
    ----------
    stop : bool
        No new call is to start.
    ended : bool
        The run is over, and with it the work.
    driver_seen_at : float or None
        When the driver gave its last sign of life, by the driver's clock; None before its first.
    chunk_parallelism : int or None
        Of episodes that start from now on; None: that of the config.
    """

    stop: bool = False
    ended: bool = False
    driver_seen_at: float | None = None
    chunk_parallelism: int | None = None


class Signed(NamedTuple):
    """The row of a worker: what it is, and in JSON what its first in line waits for."""

    record: WorkerRecord
    standing: str | None


class Roster:
    """The workers of one run.

    Parameters
    ----------
    store : Store
    run_id : str
    """

    def __init__(self, store: Store, run_id: str) -> None:
        self._store = store
        self._run_id = run_id

    def sign(
        self, record: WorkerRecord, standing: str | None = None, events: Sequence[LimitEvent] = ()
    ) -> Orders:
        """Give a sign of life, and what the limiter did since the last one; return what is to be done.

        Raises
        ------
        StoreError
            If the store cannot be written, or does not know the run: it is another one than the driver's.
        """
        part = (digest_of(record.worker) << SHIFT) + next(_parts)

        def write(connection: sa.Connection) -> Any:
            found = connection.execute(_ORDERS, {"run": self._run_id}).first()
            if found is None or found.ended_at is not None:
                return found
            self._write_row(connection, record, standing)
            if events:
                row = {"run_id": self._run_id, "part": part, "events": pack_events(events)}
                # Again, where a commit was not answered that had been done.
                self._store.database.insert(connection, _limits, [row], again=True)
            return found

        row = self._store.commit(work=write)
        if row is None:
            raise StoreError(
                f"{self._store.address.shown} on {record.host} does not know run {self._run_id}: it is not "
                "the store of the process that drives the run. Set store_url to a database of PostgreSQL "
                "that all machines reach, or to a file in a place that they share"
            )
        told = json.loads(row.orders or "{}")
        return Orders(
            stop=bool(told.get("stop")),
            ended=row.ended_at is not None,
            driver_seen_at=row.seen_at,
            chunk_parallelism=told.get("chunk_parallelism"),
        )

    def _write_row(self, connection: sa.Connection, record: WorkerRecord, standing: str | None) -> None:
        row = {"run_id": self._run_id, **asdict(record), "standing": standing}
        changed = connection.execute(
            _workers.update()
            .where(_workers.c.run_id == self._run_id, _workers.c.worker == record.worker)
            .values(**row)
        )
        if not changed.rowcount:
            self._store.database.insert(connection, _workers, [row], again=True)

    def tell(self, **orders: Any) -> None:
        """Tell all workers, from their next sign of life on; what was told before is replaced."""
        self._store.update_run(self._run_id, {"orders": json.dumps(orders)}, {})

    def look(self, driver: WorkerRecord) -> list[Signed]:
        """Give the driver's sign of life; return the rows of the workers."""

        def look(connection: sa.Connection) -> Sequence[Any]:
            self._write_row(connection, driver, None)
            return connection.execute(workers_of(self._run_id)).all()

        return [worker_of(row) for row in self._store.commit(work=look)]

    def close(self, newer: Mapping[str, WorkerRecord]) -> list[WorkerRecord]:
        """Write what is known of workers since their last signs of life; return all there were."""

        def write(connection: sa.Connection) -> Sequence[Any]:
            signed = {row.worker: row.seen_at for row in connection.execute(workers_of(self._run_id))}
            for record in newer.values():
                if record.seen_at >= signed.get(record.worker, 0.0):
                    self._write_row(connection, record, None)
            return connection.execute(workers_of(self._run_id)).all()

        return [worker_of(row).record for row in self._store.commit(work=write)]

    def take_events(self) -> dict[int, list[LimitEvent]]:
        """Take what the workers' limiters did out of the store; by `digest_of` their names."""

        def take(connection: sa.Connection) -> Sequence[Any]:
            mine = _limits.c.run_id == self._run_id
            rows = connection.execute(sa.select(_limits).where(mine).order_by(_limits.c.part)).all()
            connection.execute(_limits.delete().where(mine))
            return rows

        found: dict[int, list[LimitEvent]] = {}
        for row in self._store.commit(work=take):
            events = found.setdefault(row.part >> SHIFT, [])
            events += [LimitEvent(*values) for values in unpack_events(row.events)]
        return found


_ORDERS = (
    sa.select(_runs.c.orders, _runs.c.ended_at, _workers.c.seen_at)
    .select_from(
        _runs.outerjoin(_workers, sa.and_(_workers.c.run_id == _runs.c.id, _workers.c.worker == DRIVER))
    )
    .where(_runs.c.id == sa.bindparam("run"))
)


def workers_of(run_id: str) -> sa.Select[Any]:
    """Return the query for the rows of a run's workers."""
    mine = _workers.c.run_id == run_id, _workers.c.worker != DRIVER
    return sa.select(_workers).where(*mine).order_by(_workers.c.began_at, _workers.c.worker)


def worker_of(row: Any) -> Signed:
    """Return what a row of ``workers`` says."""
    values = row._asdict()
    del values["run_id"]
    standing = values.pop("standing")
    return Signed(WorkerRecord(**values), standing)
