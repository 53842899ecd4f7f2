"""``Store``: writes what runs do, and finds answers."""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields
from typing import Any, NamedTuple

import sqlalchemy as sa

from toolkit.clock import Clock, SystemClock
from toolkit.errors import StoreError
from toolkit.harmless import whole_characters
from toolkit.records import AttemptRecord, CallRecord, EpisodeRecord, Stage, Status, StopReason
from toolkit.store import schema
from toolkit.store.address import MEMORY, Address
from toolkit.store.commits import Commits, Rows, Work
from toolkit.store.database import Database
from toolkit.store.known import KnownKeys

_CALL_FIELDS = tuple(field.name for field in fields(CallRecord) if field.name != "attempts")
_ATTEMPT_FIELDS = tuple(field.name for field in fields(AttemptRecord))


class KeptCall(NamedTuple):
    """A call that ended well, and its reply's text."""

    run_id: str
    record: CallRecord
    text: str


class KeptEpisode(NamedTuple):
    """A summary that was finished, and the calls that it came from."""

    text: str
    chunks: int
    calls: tuple[KeptCall, ...]


class Store:
    """The runs in one database, for all threads of this process.

    Parameters
    ----------
    address : Address
    wait_s : float
        Seconds for which a database that cannot be written is tried again.
    clock : Clock, optional

    Raises
    ------
    StoreError
        If it cannot be opened.
    """

    def __init__(self, address: Address, *, wait_s: float = 60.0, clock: Clock | None = None) -> None:
        self.address = address
        self._clock = clock or SystemClock()
        self.database = Database(address)
        self._commits = Commits(self.database, wait_s, self._clock)
        self.known = KnownKeys()
        self.asking: dict[str, threading.Event] = {}
        """Keys of the calls under way in this process, each with the event of its end."""
        self.asking_lock = threading.Lock()

    # Writing

    def commit(self, rows: Rows | None = None, work: Work | None = None) -> Any:
        """Write rows and do ``work`` in one transaction; see `Commits.commit`."""
        return self._commits.commit(rows, work)

    def later(self, rows: Rows) -> None:
        """Write rows with the next transaction; see `Commits.later`."""
        self._commits.later(rows)

    def flush(self) -> None:
        """Write what was left for later; see `Commits.flush`."""
        self._commits.flush()

    def wait_until_well(self, wait_s: float) -> None:
        """Wait while the store cannot be written; see `Commits.wait_until_well`."""
        self._commits.wait_s = wait_s
        self._commits.wait_until_well()

    @property
    def trouble(self) -> StoreError | None:
        """Why it cannot be written just now; None if the last transaction went well."""
        return self._commits.trouble

    def update_run(self, run_id: str, values: Mapping[str, Any], rows: Rows) -> None:
        """Write values into the row of a run, and other rows with it."""
        change = schema.runs.update().where(schema.runs.c.id == run_id).values(**values)
        self.commit(rows, lambda connection: connection.execute(change))

    # Finding

    def earlier_starts(self, scope: str) -> list[str]:
        """Return the starts of a run since it last came to its end, newest first."""
        runs = schema.runs.c
        query = sa.select(runs.id, runs.complete).where(runs.scope == scope).order_by(runs.number.desc())
        rows = self.commit(work=lambda connection: connection.execute(query).all())
        found = []
        for row in rows:
            if row.complete:
                break
            found.append(row.id)
        return found

    def find_call(self, key: str, run_ids: Sequence[str] | None = None) -> KeptCall | None:
        """Return the first call that answered a key, of all runs or of some."""
        query = _CALL_BY_KEY if run_ids is None else _CALL_BY_KEY.where(schema.calls.c.run_id.in_(run_ids))
        row = self.commit(work=lambda connection: connection.execute(query, {"key": key}).first())
        return None if row is None else KeptCall(row.run_id, call_record(row), row.text)

    def find_episode(self, key: str, run_ids: Sequence[str] | None = None) -> KeptEpisode | None:
        """Return the first summary of a key that was finished, with its calls."""
        query = _EPISODE_BY_KEY
        if run_ids is not None:
            query = query.where(schema.episodes.c.run_id.in_(run_ids))

        def look(connection: sa.Connection) -> KeptEpisode | None:
            row = connection.execute(query, {"key": key}).first()
            if row is None:
                return None
            made_by = {"run_id": row.run_id, "episode_id": row.episode_id}
            calls = connection.execute(_CALLS_OF_EPISODE, made_by).all()
            return KeptEpisode(
                row.text,
                row.chunks,
                tuple(KeptCall(call.run_id, call_record(call), call.text or "") for call in calls),
            )

        found: KeptEpisode | None = self.commit(work=look)
        return found

    def calls_of(self, run_id: str, episode_id: str) -> list[KeptCall]:
        """Return the calls of one episode of one run, with their attempts."""
        made_by = {"run_id": run_id, "episode_id": episode_id}

        def look(connection: sa.Connection) -> list[KeptCall]:
            calls = connection.execute(_CALLS_OF_EPISODE, made_by).all()
            tries: dict[str, list[AttemptRecord]] = {}
            if calls:
                for row in connection.execute(_ATTEMPTS_OF_EPISODE, made_by):
                    tries.setdefault(row.call_id, []).append(attempt_record(row))
            return [
                KeptCall(call.run_id, call_record(call, tries.get(call.call_id, ())), call.text or "")
                for call in calls
            ]

        found: list[KeptCall] = self.commit(work=look)
        return found

    def reading(self) -> AbstractContextManager[sa.Connection]:
        """Read at length, beside those who write."""
        if self.address.url == MEMORY:
            return self.database.writing()  # there is one connection
        return self.database.reading()

    def lost(self) -> bool:
        """Whether the file that was opened is not there any more."""
        return self.database.lost()

    def forget(self) -> None:
        """Begin anew in a forked process: connections and locks are the parent's."""
        self.database.forget()
        self._commits = Commits(self.database, self._commits.wait_s, self._clock)
        self.asking = {}
        self.asking_lock = threading.Lock()

    def close(self) -> None:
        """Close the database."""
        self._commits.close()


_CALL_BY_KEY = (
    sa.select(schema.calls)
    .where(
        schema.calls.c.key == sa.bindparam("key"),
        schema.calls.c.status == Status.OK.value,
        schema.calls.c.text.is_not(None),
    )
    .order_by(schema.calls.c.number)
    .limit(1)
)
_EPISODE_BY_KEY = (
    sa.select(schema.episodes)
    .where(
        schema.episodes.c.key == sa.bindparam("key"),
        schema.episodes.c.status == Status.OK.value,
        schema.episodes.c.text.is_not(None),
    )
    .order_by(schema.episodes.c.number)
    .limit(1)
)
_CALLS_OF_EPISODE = (
    sa.select(schema.calls)
    .where(
        schema.calls.c.run_id == sa.bindparam("run_id"),
        schema.calls.c.episode_id == sa.bindparam("episode_id"),
    )
    .order_by(schema.calls.c.number)
)
_ATTEMPTS_OF_EPISODE = (
    sa.select(schema.attempts)
    .join(
        schema.calls,
        sa.and_(
            schema.calls.c.run_id == schema.attempts.c.run_id,
            schema.calls.c.call_id == schema.attempts.c.call_id,
        ),
    )
    .where(
        schema.calls.c.run_id == sa.bindparam("run_id"),
        schema.calls.c.episode_id == sa.bindparam("episode_id"),
    )
    .order_by(schema.attempts.c.call_id, schema.attempts.c.attempt)
)


# Rows and records


def call_rows(run_id: str, record: CallRecord, text: str | None) -> Rows:
    """Return the rows of a call and of its attempts."""
    row = {name: storable(getattr(record, name)) for name in _CALL_FIELDS}
    row["run_id"] = run_id
    row["stage"] = record.stage.value
    row["status"] = record.status.value
    row["stop_reason"] = record.stop_reason.value if record.stop_reason else None
    row["text"] = storable(text)
    attempts = [
        {"run_id": run_id, **{name: storable(getattr(attempt, name)) for name in _ATTEMPT_FIELDS}}
        for attempt in record.attempts
    ]
    return {schema.calls: [row], schema.attempts: attempts} if attempts else {schema.calls: [row]}


def call_record(row: Any, attempts: Iterable[AttemptRecord] = ()) -> CallRecord:
    """Return the record of a row of ``calls``."""
    values = {name: getattr(row, name) for name in _CALL_FIELDS}
    values["stage"] = Stage(row.stage)
    values["status"] = Status(row.status)
    values["stop_reason"] = StopReason(row.stop_reason) if row.stop_reason else None
    return CallRecord(**values, attempts=tuple(attempts))


def attempt_record(row: Any) -> AttemptRecord:
    """Return the record of a row of ``attempts``."""
    return AttemptRecord(**{name: getattr(row, name) for name in _ATTEMPT_FIELDS})


def episode_row(run_id: str, position: int, record: EpisodeRecord, *, with_text: bool) -> dict[str, Any]:
    """Return the row of an episode, without its calls, which have their own."""
    summary = record.summary
    row = {
        "run_id": run_id,
        "position": position,
        "episode_id": record.episode_id,
        "title": record.title,
        "words": record.words,
        "started_at": record.started_at,
        "total_s": record.total_s,
        "status": summary.status.value,
        "error": summary.error,
        "chunks": summary.chunks,
        "key": summary.key or None,
        "text": summary.text if with_text and summary.text else None,
        "worker": record.worker or None,
    }
    return {name: storable(value) for name, value in row.items()}


def storable(value: Any) -> Any:
    """Return a value that every database takes: no half of a character and no zero in a text."""
    if not isinstance(value, str) or (value.isascii() and "\0" not in value):
        return value
    return whole_characters(value).replace("\0", "\ufffd")


def pack_events(events: Iterable[Any]) -> bytes:
    """Return events of the limiter (named tuples) as they are kept."""
    return zlib.compress(json.dumps([list(event) for event in events]).encode(), level=1)


def unpack_events(packed: bytes) -> list[list[Any]]:
    """Return the values that ``pack_events`` was given."""
    found: list[list[Any]] = json.loads(zlib.decompress(packed))
    return found
