"""Which keys a store has, so that looking for one that it has not costs nothing."""

from __future__ import annotations

import threading

import sqlalchemy as sa

from toolkit.store import schema

MOST = 200_000
"""Keys held in memory (some 20 MB); a store with more is asked each time."""
_TABLES = (schema.calls, schema.episodes)


class KnownKeys:
    """The keys of calls and texts in one store: those that were there at the last refresh, and one's own.

    A key that it does not know may still have been kept by another process since; then that answer is asked
    for once more.
    """

    def __init__(self) -> None:
        self._keys: set[int] = set()
        self._read_to = dict.fromkeys((table.name for table in _TABLES), 0)
        self._too_many = False
        self._keys_lock = threading.Lock()

    def refresh(self, connection: sa.Connection) -> None:
        """Read what has come since the last time."""
        with self._keys_lock:
            for table in _TABLES:
                columns = table.c
                query = (
                    sa.select(columns.number, columns.key)
                    .where(columns.number > self._read_to[table.name], columns.key.is_not(None))
                    .order_by(columns.number)
                    .limit(MOST + 1)
                )
                for number, key in () if self._too_many else connection.execute(query):
                    self._keys.add(_short(key))
                    self._read_to[table.name] = number
                if len(self._keys) > MOST:
                    self._too_many = True
                    self._keys.clear()

    def may_have(self, key: str) -> bool:
        """Whether it is worth looking; False is certain but for what other processes have kept since."""
        return self._too_many or _short(key) in self._keys

    def add(self, key: str) -> None:
        """Take note of a key that is kept now."""
        if not self._too_many:
            with self._keys_lock:
                self._keys.add(_short(key))


def _short(key: str) -> int:
    """Return 60 bits of a digest: one that is taken for another is looked for in vain, and that is all."""
    return int(key[:15], 16)
