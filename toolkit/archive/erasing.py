"""Deleting what is kept of runs, so that nothing of it is left in the file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.archive.history import running_ids

if TYPE_CHECKING:
    import sqlalchemy as sa

_TOGETHER = 500
"""Runs named in one statement; databases bound its parameters."""
_PATIENCE_S = 0.2


def older_runs(connection: sa.Connection, before: float) -> list[str]:
    """Return the ids of the runs that began before a time (epoch seconds) and do not run."""
    import sqlalchemy as sa

    from toolkit.store import schema

    running = set(running_ids(connection))
    old = connection.scalars(sa.select(schema.runs.c.id).where(schema.runs.c.started_at <= before))
    return [run_id for run_id in old if run_id not in running]


def delete_runs(connection: sa.Connection, ids: Sequence[str]) -> None:
    """Delete the rows of runs in all tables."""
    import sqlalchemy as sa

    from toolkit.store import schema

    runs, budgets, reservations = schema.runs, schema.budgets, schema.reservations
    for some in _parts(ids):
        scopes = set(connection.scalars(sa.select(runs.c.scope).where(runs.c.id.in_(some))))
        of_a_run = (
            schema.limits,
            schema.attempts,
            schema.calls,
            schema.episodes,
            schema.workers,
            schema.cells,
        )
        for table in of_a_run:
            connection.execute(table.delete().where(table.c.run_id.in_(some)))
        connection.execute(runs.delete().where(runs.c.id.in_(some)))
        # The starts of one run have a budget together, which goes with the last of them.
        scopes -= set(connection.scalars(sa.select(runs.c.scope).where(runs.c.scope.in_(scopes))))
        names = [f"run {scope}" for scope in scopes]
        connection.execute(reservations.delete().where(reservations.c.budget.in_(names)))
        connection.execute(budgets.delete().where(budgets.c.name.in_(names)))


def delete_texts(connection: sa.Connection, ids: Sequence[str]) -> int:
    """Delete the summaries and replies of runs; return how many of them had any."""
    import sqlalchemy as sa

    from toolkit.store import schema

    had: set[str] = set()
    for some in _parts(ids):
        for table in (schema.episodes, schema.calls):
            texts = sa.and_(table.c.run_id.in_(some), table.c.text.is_not(None))
            had.update(connection.scalars(sa.select(table.c.run_id).where(texts).distinct()))
            connection.execute(table.update().where(texts).values(text=None))
    return len(had)


def give_back(path: Path, *, vacuum: bool) -> None:
    """Shorten an SQLite file by what is deleted, and empty its log, which still holds it.

    While a run goes on the file is not rewritten, which would keep the run from committing.
    """
    # A lock means that somebody else uses the file: the rows are gone, and the space is used again.
    with (
        suppress(sqlite3.OperationalError),
        closing(sqlite3.connect(path, timeout=_PATIENCE_S, isolation_level=None)) as connection,
    ):
        try:
            if vacuum:
                connection.execute("VACUUM")
        finally:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _parts(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    return (ids[start : start + _TOGETHER] for start in range(0, len(ids), _TOGETHER))
