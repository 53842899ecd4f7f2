"""``Commits``: what many threads write at once goes into one transaction.

A thread puts what it has to write in line. The first one leads: it commits all that stands in line, wakes
those whose it was, and lets the first of those who came meanwhile lead the next transaction. A lone thread
pays for nothing but its own transaction, and under load a transaction costs a fraction of itself for each.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import sqlalchemy as sa

from toolkit.clock import Clock
from toolkit.errors import StoreError
from toolkit.store import schema
from toolkit.store.database import Database
from toolkit.store.troubles import Refused

Rows = Mapping[sa.Table, Sequence[Mapping[str, Any]]]
Work = Callable[[sa.Connection], Any]

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 2.0
"""Between tries to write into a store that cannot be written."""
PROBE_B = 64 * 1024
"""Bytes that must find room before a store counts as well again: more than one call takes."""


class _Entry:
    """What one thread wants written, and the lock on which it sleeps until it is or until it shall lead."""

    __slots__ = ("done", "error", "leads", "result", "rows", "tried", "woken", "work")

    def __init__(self, rows: Rows, work: Work | None, woken: threading.Lock | None) -> None:
        self.rows = rows
        self.work = work
        self.woken = woken
        self.done = self.leads = self.tried = False
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
        self._line_lock = threading.Lock()
        self._led = False
        self._failing_since: float | None = None
        self._gave_up_at: float | None = None
        self._late_error: BaseException | None = None
        self.trouble: StoreError | None = None

    def commit(self, rows: Rows | None = None, work: Work | None = None) -> Any:
        """Write rows, and do ``work`` in the same transaction; return what it returns.

        Raises
        ------
        StoreError
            If it could not be written for ``wait_s``, or never can be.
        """
        woken = threading.Lock()
        woken.acquire()
        entry = _Entry(rows or {}, work, woken)
        with self._line_lock:
            self._line.append(entry)
            entry.leads, self._led = not self._led, True
        if not entry.leads:
            try:
                woken.acquire()  # until a leader releases it
            except BaseException:  # Ctrl-C
                self._leave(entry)
                raise
        if not entry.done:
            try:
                self._commit_line(entry)
            finally:
                self._hand_over()
        if entry.error is not None:
            raise entry.error
        return entry.result

    def later(self, rows: Rows) -> None:
        """Write rows with the next transaction, whoever makes it: for what may be lost with the process."""
        with self._line_lock:
            self._line.append(_Entry(rows, None, None))

    def flush(self) -> None:
        """Write what was left for later.

        Raises
        ------
        StoreError
            If some of it, now or before, could not be written.
        """
        self.commit()
        error, self._late_error = self._late_error, None
        if error is not None:
            raise error

    def _hand_over(self) -> None:
        """Let the first who waits lead, if anybody does."""
        with self._line_lock:
            for entry in self._line:
                if entry.woken is not None:
                    entry.leads = True
                    entry.woken.release()
                    return
            self._led = False

    def _leave(self, entry: _Entry) -> None:
        """Take one out of the line who does not wait any more; what has been begun with it goes on."""
        with self._line_lock:
            if entry in self._line:
                self._line.remove(entry)
            was_done, entry.done = entry.done, True
        if entry.leads and not was_done:
            self._hand_over()

    def wait_until_well(self) -> None:
        """Return at once if the last transaction went well, else once one does.

        Raises
        ------
        StoreError
            If none does for ``wait_s``.
        """
        if self.trouble is not None:
            # A transaction that writes nothing goes well on a full disk too.
            name = uuid.uuid4().hex
            self.commit({schema.limits: [{"run_id": name, "part": 0, "events": os.urandom(PROBE_B)}]})
            drop = schema.limits.delete().where(schema.limits.c.run_id == name)
            self.commit(work=lambda connection: connection.execute(drop))

    def close(self) -> None:
        """Close the database, once nobody is writing and all is written that can be."""
        if self._line:
            with suppress(StoreError):  # whoever had to know of it has been told
                self.commit()
        self._database.close()

    def _commit_line(self, own: _Entry) -> None:
        batch: list[_Entry] = []
        try:
            with self._line_lock:
                batch += self._line
                self._line.clear()
            self._write_all(batch)
        finally:
            # What Ctrl-C ends here is this thread's alone: another leads the others.
            with self._line_lock:
                left = [entry for entry in batch if not entry.done]
                self._line.extendleft(reversed(left))
                if own in self._line:
                    self._line.remove(own)
            for entry in left:
                entry.tried = True
            for entry in batch:
                if entry.done and entry.woken is not None:
                    entry.woken.release()

    def _write_all(self, batch: list[_Entry]) -> None:
        """Write entries, or give each the error for which it is not written."""
        pause = FIRST_PAUSE_S
        while True:
            if self.trouble is not None and self._gave_up_lately():
                # Each of many who come too late would else wait for the lock in its turn.
                return self._fail(batch, self.trouble)
            try:
                return self._write(batch)
            except Refused as error:
                wrong: Exception = error
            except StoreError as error:
                if error.passing and self._wait(error, pause):
                    pause = min(2 * pause, LONGEST_PAUSE_S)
                    for entry in batch:
                        entry.tried = True
                    continue
                self.trouble, self._gave_up_at = error, self._clock.now()
                return self._fail(batch, error)
            except Exception as error:
                wrong = error
            if len(batch) == 1:
                return self._fail(batch, wrong)
            # One of them is wrong in itself, and the others must not suffer for it.
            for entry in batch:
                self._write_all([entry])
            return None

    def _fail(self, batch: list[_Entry], error: BaseException) -> None:
        for entry in batch:
            entry.fail(error)
            if entry.woken is None:
                self._late_error = error

    def _write(self, batch: list[_Entry]) -> None:
        rows: dict[tuple[sa.Table, bool], list[Mapping[str, Any]]] = {}
        for entry in batch:
            for table, given in entry.rows.items():
                rows.setdefault((table, entry.tried), []).extend(given)
        with self._database.writing() as connection:
            for (table, tried), together in rows.items():
                # Ctrl-C, or a server that was lost, in the moment of the commit: it may have been done.
                self._database.insert(connection, table, together, again=tried)
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
