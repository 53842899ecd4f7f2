"""``PostgresState``: one database that the processes of several machines share.

A decision is one transaction in two round trips: the first locks the quota key's row and reads its book if
somebody else has written it, the second writes it and commits. Time is the server's: each machine estimates
how far its own clock is from it, by the quickest of some replies.

Whoever uses the state shows now and then that it lives, since a process of another machine cannot be looked
for. One that was cut off for `STALE_S` counts as dead: its slots are given to others, what it was charged
stays.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from toolkit.clock import Clock
from toolkit.errors import MissingDependency, StoreError
from toolkit.limits import holders
from toolkit.limits.axis import Axis, make_axis, sleepless_seconds
from toolkit.limits.core import LimiterCore
from toolkit.limits.state import AGAIN_S, Overtaken
from toolkit.postgresql import detail_of, trouble_of

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

Row = tuple[Any, ...]

BEAT_S, STALE_S = 2.0, 8.0
"""How often a process shows that it lives, and after how long without that it counts as dead."""
FORGOTTEN_S = 86_400.0
"""How long the sign of life of a process is kept."""
UNCLEAR_S = 30.0
"""How long a commit whose end is not known is asked after; nothing is decided meanwhile."""
CLOCK_S = 60.0
"""How long an estimate of the server's clock holds: clocks drift apart by some milliseconds in that."""
CLOCK_LOOKS = 3
_ANSWERS = {"connect_timeout": 5, "keepalives_idle": 5, "keepalives_interval": 2, "tcp_user_timeout": 8000}
"""A server that went silent is a trouble within s, s, s and ms; libpq would wait for minutes."""
_OPTIONS = "-c lock_timeout=5s -c idle_in_transaction_session_timeout=5s"
"""Of each session: whoever falls silent in the middle of a decision holds nobody up for longer."""
_SETUP_LOCK = 4_206_141_002
"""Any number: processes that make the tables take turns on it."""
# The number in the table's name is that of the book's form: another release keeps to its own table.
_SETUP = f"""
BEGIN;
SELECT pg_advisory_xact_lock({_SETUP_LOCK});
CREATE SCHEMA IF NOT EXISTS toolkit_limits;
CREATE TABLE IF NOT EXISTS toolkit_limits.book_1
    (quota_key TEXT PRIMARY KEY, version BIGINT NOT NULL, state TEXT NOT NULL) WITH (fillfactor = 50);
CREATE TABLE IF NOT EXISTS toolkit_limits.holders
    (holder TEXT PRIMARY KEY, seen TIMESTAMPTZ NOT NULL) WITH (fillfactor = 50);
DELETE FROM toolkit_limits.holders WHERE seen < clock_timestamp() - {FORGOTTEN_S} * INTERVAL '1 s';
COMMIT
"""
_LOCK = """
BEGIN;
SELECT version, CASE WHEN version <> %s THEN state END, pg_current_xact_id()::text
FROM toolkit_limits.book_1 WHERE quota_key = %s FOR UPDATE
"""
_MAKE = """
INSERT INTO toolkit_limits.book_1 VALUES (%s, 0, %s) ON CONFLICT DO NOTHING;
SELECT version, state, pg_current_xact_id()::text
FROM toolkit_limits.book_1 WHERE quota_key = %s FOR UPDATE
"""
_WRITE = "UPDATE toolkit_limits.book_1 SET version = %s, state = %s WHERE quota_key = %s; COMMIT"
_BEAT = """
INSERT INTO toolkit_limits.holders VALUES (%s, clock_timestamp())
ON CONFLICT (holder) DO UPDATE SET seen = excluded.seen;
SELECT count(*) FROM toolkit_limits.holders WHERE seen > clock_timestamp() - %s * INTERVAL '1 s'
"""
_SEEN = """
SELECT coalesce((SELECT seen > clock_timestamp() - %s * INTERVAL '1 s'
                 FROM toolkit_limits.holders WHERE holder = %s), false)
"""


class PostgresState:
    """Books in a database; PostgreSQL 13 or newer.

    Parameters
    ----------
    url : str
        ``postgresql+psycopg://USER@HOST:PORT/DATABASE``, without a password.
    password : str, optional
    holder : str, optional
        Name of this process; by default its id, start time, boot, and machine.

    Raises
    ------
    MissingDependency
        If psycopg is not installed.
    StoreError
        If the database cannot be reached, or does not let the user make tables.
    """

    is_distant = True

    def __init__(self, url: str, password: str | None = None, holder: str | None = None) -> None:
        self.shown = url
        self._given_holder = holder
        self._place = _place(url, password)
        self._connection_lock = threading.RLock()
        self._connection: Connection | None = None
        # Of each core's book: version and text as last written.
        self._versions: dict[LimiterCore, tuple[int, str]] = {}
        self._offset = 0.0
        self._clock_at = self._beat_at = float("-inf")
        self._sharers = 1
        self._pid = os.getpid()
        self._closed = threading.Event()
        self._beating: threading.Thread | None = None
        with self._explained():
            _send(self._connected(), _SETUP)
            self._read_clock()

    @property
    def holder(self) -> str:
        """See `LimiterState`."""
        return self._given_holder or holders.this_process()

    @property
    def sharers(self) -> int:
        """See `LimiterState`: who lived when this process last showed that it does."""
        return self._sharers

    def axis(self, clock: Clock) -> Axis:
        """See `LimiterState`: the server's time, as it is estimated at each look."""
        return make_axis(clock, lambda: self._offset)

    def is_alive(self, holder: str) -> bool:
        """See `LimiterState`."""
        if not holders.is_alive(holder):  # It was of this machine, and is gone.
            return False
        with self._connection_lock, self._explained():
            ((lately,),) = _send(self._connected(), _SEEN, (STALE_S, holder))
            return bool(lately)

    @contextmanager
    def exclusive(self, core: LimiterCore) -> Iterator[None]:
        """See `LimiterState`.

        Raises
        ------
        Overtaken
            If the connection was lost at the commit, and nothing of the decision was written.
        StoreError
            If the database cannot be used; nothing was decided then.
        """
        with self._connection_lock:
            if os.getpid() != self._pid:
                self._begin_anew()
            # Not known any more, if this ends in an error.
            version, text = self._versions.pop(core, (-1, ""))
            unwritten = None
            try:
                connection, found = self._begin(core, version)
                with self._explained():
                    if not found:
                        unwritten = core.dump()
                        key = core.quota_key
                        found = _send(connection, _MAKE, (key, unwritten, key))
                    ((found_version, newer, transaction),) = found
                    if newer is not None:
                        core.load(newer)
                        version, text = found_version, newer
                yield
                changed = core.dump()
                if changed == text:
                    with suppress(StoreError), self._explained():  # Nothing is to be kept.
                        _send(connection, "COMMIT")
                else:
                    version += 1
                    self._commit(connection, transaction, (version, changed, core.quota_key))
            except BaseException:
                self._roll_back()
                if unwritten is not None:  # nothing is there that the next one could read
                    core.load(unwritten)
                raise
            self._versions[core] = (version, changed)

    def _begin(self, core: LimiterCore, version: int) -> tuple[Connection, list[Row]]:
        """Begin a transaction; once more on a new connection, as the old one may have broken in a pause."""
        for is_last in (self._connection is None, True):
            try:
                with self._explained():
                    self._show_life()
                    connection = self._connected()
                    return connection, _send(connection, _LOCK, (version, core.quota_key))
            except StoreError as lost:
                if is_last or not lost.passing:
                    raise
        raise AssertionError("the last try returns or raises")

    def _commit(self, connection: Connection, transaction: str, values: Row) -> None:
        """Write a book, on the connection that has it locked and on no other, which nobody holds back."""
        try:
            with self._explained():
                _send(connection, _WRITE, values)
        except StoreError as lost:
            if not lost.passing:
                raise
            if not self._was_committed(transaction, lost):
                raise Overtaken from lost

    def _was_committed(self, transaction: str, lost: StoreError) -> bool:
        """Ask what has become of a transaction whose commit was not answered.

        Where that cannot be found out it is an error: what was written then counts and is nobody's.
        """
        until = time.monotonic() + UNCLEAR_S
        while True:
            try:
                with self._explained():
                    ((status,),) = _send(self._connected(), "SELECT pg_xact_status(%s::xid8)", (transaction,))
                if status != "in progress":  # which it is until the server has noticed as well
                    return bool(status == "committed")
            except StoreError as still:
                if not still.passing:
                    raise still from lost
            if time.monotonic() > until:
                raise lost
            self._closed.wait(AGAIN_S)

    def _roll_back(self) -> None:
        if self._connection is not None:
            try:
                self._connection.execute("ROLLBACK")
            except Exception:  # Whatever is wrong with it, the next transaction begins on another.
                self._drop()

    # Showing that this process lives

    def _show_life(self) -> None:
        if self._beating is None and not self._closed.is_set():
            self._beating = threading.Thread(target=self._beat, name="limits", daemon=True)
            self._beating.start()
        if time.monotonic() - self._beat_at > BEAT_S:
            ((self._sharers,),) = _send(self._connected(), _BEAT, (self.holder, STALE_S))
            self._beat_at = time.monotonic()
        if time.monotonic() - self._clock_at > CLOCK_S:
            self._read_clock()

    def _beat(self) -> None:
        pid = os.getpid()
        while not self._closed.wait(BEAT_S) and os.getpid() == pid:
            # A server that cannot be reached is a trouble for those who need it, and they meet it too.
            with self._connection_lock, suppress(StoreError), self._explained():
                self._show_life()

    def _read_clock(self) -> None:
        """Estimate how far the server's clock is from this machine's: by half of what the answer took."""
        looks = []
        for _ in range(CLOCK_LOOKS):
            sent = sleepless_seconds()
            ((now,),) = _send(self._connected(), "SELECT extract(epoch FROM clock_timestamp())::float8")
            answered = sleepless_seconds()
            looks.append((answered - sent, now - (sent + answered) / 2))
        _, self._offset = min(looks)
        self._clock_at = time.monotonic()

    # The connection

    def _connected(self) -> Connection:
        import psycopg

        if self._connection is None:
            self._connection = psycopg.connect(
                **self._place, autocommit=True, cursor_factory=psycopg.ClientCursor
            )
        return self._connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        import psycopg

        try:
            yield
        except psycopg.Error as error:
            self._drop()
            known, detail = trouble_of(error, "limits_url"), detail_of(error)
            # Not chained: the frames of drivers hold passwords, which some tracebacks show.
            if known is None:
                raise StoreError(
                    f"the limits in {self.shown} cannot be used ({detail}); set limits_url to another "
                    "database, or to memory:// for this process alone"
                ) from None
            raise StoreError(
                f"the limits in {self.shown} {known.what} ({detail}); {known.advice}", passing=known.passing
            ) from None

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):  # it is broken already
                connection.close()

    def _begin_anew(self) -> None:
        """Leave the connection to the process that this is a fork of: to close it would end its session."""
        _left_to_parent.append(self._connection)
        self._connection, self._beating, self._pid = None, None, os.getpid()
        self._beat_at = float("-inf")
        self._versions.clear()

    def close(self) -> None:
        """Close the connection; books stay."""
        self._closed.set()
        if self._beating is not None and self._pid == os.getpid():
            self._beating.join()
        with self._connection_lock:
            self._drop()


_left_to_parent: list[Any] = []


def _send(connection: Connection, statements: str, values: Row = ()) -> list[Row]:
    """Send statements in one round trip; return the rows of the last one that has some."""
    cursor = connection.cursor()
    cursor.execute(statements, values)  # type: ignore[arg-type, unused-ignore]
    rows: list[Row] = []
    while True:
        if cursor.description is not None:
            rows = cursor.fetchall()
        if not cursor.nextset():
            return rows


def _place(url: str, password: str | None) -> dict[str, Any]:
    """Return the parameters of a connection."""
    try:
        import psycopg  # noqa: F401
        import sqlalchemy as sa
    except ImportError:
        raise MissingDependency("limits in PostgreSQL", "psycopg", "postgres") from None
    address = sa.make_url(url)
    if password:
        address = address.set(password=password)
    _, place = address.get_dialect()().create_connect_args(address)
    return {**_ANSWERS, **place, "options": f"{_OPTIONS} {place.get('options', '')}".strip()}
