"""Which keys a store has, so that looking for one that it has not costs nothing."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import sqlalchemy as sa

from toolkit.store import schema

BITS = 1 << 26
"""Of the filter: 8 MiB, in which one of 90,000 looks is in vain with a million keys, one of 25 with ten."""
_TABLES = (schema.calls, schema.episodes)


class KnownKeys:
    """The keys of calls and texts in one store: those that were there at the last refresh, and one's own.

    A Bloom filter: a key that it has been told is always known, and a few others are looked for in vain.
    A key that it does not know may still have been kept by another process since; then that answer is asked
    for once more.
    """

    def __init__(self) -> None:
        self._filter = bytearray(BITS // 8)
        self._read_to = dict.fromkeys((table.name for table in _TABLES), 0)
        self._filter_lock = threading.Lock()

    def refresh(self, connection: sa.Connection) -> None:
        """Read what has come since the last time."""
        for table in _TABLES:
            columns = table.c
            query = (
                sa.select(columns.number, columns.key)
                .where(columns.number > self._read_to[table.name], columns.key.is_not(None))
                .order_by(columns.number)
                .execution_options(yield_per=10_000)
            )
            for rows in connection.execute(query).partitions():
                self._add_all([row.key for row in rows])
                self._read_to[table.name] = rows[-1].number

    def may_have(self, key: str) -> bool:
        """Whether it is worth looking; False is certain but for what other processes have kept since."""
        return all(self._filter[place >> 3] & 1 << (place & 7) for place in _places(key))

    def add(self, key: str) -> None:
        """Take note of a key that is kept now."""
        self._add_all([key])

    def _add_all(self, keys: Sequence[str]) -> None:
        with self._filter_lock:
            for key in keys:
                for place in _places(key):
                    self._filter[place >> 3] |= 1 << (place & 7)


def _places(key: str) -> tuple[int, int, int, int]:
    """Return which bits stand for a digest: four numbers that are in it already."""
    number = int(key, 16)
    return number % BITS, (number >> 32) % BITS, (number >> 64) % BITS, (number >> 96) % BITS
