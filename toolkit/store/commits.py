"""``Commits``: what many threads write at once goes into one transaction.

A thread puts what it has to write in line and takes its turn; whoever has the turn commits all that stands in
line, so that those behind find theirs done. A lone thread pays for nothing but its own transaction, and under
load a transaction costs a fraction of itself for each.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from toolkit.clock import Clock
from toolkit.errors import StoreError
from toolkit.store.database import Database

Rows = Mapping[sa.Table, Sequence[Mapping[str, Any]]]
Work = Callable[[sa.Connection], Any]

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 2.0
"""Between tries to write into a store that cannot be written."""


class _Entry:
    __slots__ = ("done", "error", "result", "rows", "work")

    def __init__(self, rows: Rows, work: Work | None) -> None:
        self.rows = rows
        self.work = work
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        self.error = error
        self.done = True


class Commits:
    """Writes into one database.

    Parameters
    ----------
    database : Database
    wait_s : float
        Seconds for which a database that cannot be written is tried again, from the first failure on.
    clock : Clock
    """

    def __init__(self, database: Database, wait_s: float, clock: Clock) -> None:
        self._database = database
        self.wait_s = wait_s
        self._clock = clock
        self._line: deque[_Entry] = deque()
        self._turn = threading.Lock()
        self._failing_since: float | None = None
        self._gave_up_at: float | None = None
        self.trouble: StoreError | None = None

    def commit(self, rows: Rows | None = None, work: Work | None = None) -> Any:
        """Write rows, and do ``work`` in the same transaction; return what it returns.

        Raises
        ------
        StoreError
            If it could not be written for ``wait_s``, or never can be.
        """
        entry = _Entry(rows or {}, work)
        self._line.append(entry)
        with self._turn:
            if not entry.done:
                self._commit_line()
        if entry.error is not None:
            raise entry.error
        return entry.result

    def wait_until_well(self) -> None:
        """Return at once if the last transaction went well, else once one does.

        Raises
        ------
        StoreError
            If none does for ``wait_s``.
        """
        if self.trouble is not None:
            self.commit(work=lambda connection: None)

    def _commit_line(self) -> None:
        pause = FIRST_PAUSE_S
        batch: list[_Entry] = []
        while True:
            while self._line:
                batch.append(self._line.popleft())
            if self.trouble is not None and self._gave_up_lately():
                # Each of many who come too late would else wait for the lock in its turn.
                for entry in batch:
                    entry.fail(self.trouble)
                return
            try:
                self._write(batch)
            except StoreError as error:
                if error.passing and self._wait(error, pause):
                    pause = min(2 * pause, LONGEST_PAUSE_S)
                    continue
                self.trouble, self._gave_up_at = error, self._clock.now()
                for entry in batch:
                    entry.fail(error)
            except BaseException as error:
                if len(batch) == 1 or not isinstance(error, Exception):
                    for entry in batch:
                        entry.fail(error)
                    if not isinstance(error, Exception):
                        raise
                else:
                    # One of them is wrong in itself, and the others must not suffer for it.
                    for entry in batch:
                        self._write_alone(entry)
            return

    def _write_alone(self, entry: _Entry) -> None:
        try:
            self._write([entry])
        except Exception as error:
            entry.fail(error)

    def _write(self, batch: list[_Entry]) -> None:
        rows: dict[sa.Table, list[Mapping[str, Any]]] = {}
        for entry in batch:
            for table, given in entry.rows.items():
                rows.setdefault(table, []).extend(given)
        with self._database.writing() as connection:
            for table, together in rows.items():
                connection.execute(table.insert(), together)
            for entry in batch:
                if entry.work is not None:
                    entry.result = entry.work(connection)
        self.trouble = self._failing_since = self._gave_up_at = None
        for entry in batch:
            entry.done = True

    def _gave_up_lately(self) -> bool:
        return self._gave_up_at is not None and self._clock.now() - self._gave_up_at < LONGEST_PAUSE_S

    def _wait(self, error: StoreError, pause: float) -> bool:
        """Wait for the next try; False if there has been trouble for too long."""
        now = self._clock.now()
        if self._failing_since is None:
            self._failing_since = now
        if now + pause - self._failing_since > self.wait_s:
            return False
        self.trouble = error
        self._clock.sleep(pause)
        return True
