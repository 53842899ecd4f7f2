"""SQLite's write-ahead log, turned on beside others that turn it on."""

from __future__ import annotations

import sqlite3
import time

AGAIN_S = 0.01


def turn_on_wal(connection: sqlite3.Connection, wait_s: float) -> str:
    """Turn on the write-ahead log, outside a transaction; return the mode that the file is in then.

    SQLite's own waiting leaves out some of the locks that several first openers meet.

    Parameters
    ----------
    connection : sqlite3.Connection
    wait_s : float
        Seconds for which a file that others keep locked is tried again.

    Raises
    ------
    sqlite3.Error
    """
    until = time.monotonic() + wait_s
    while True:
        try:
            mode: str = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            return mode
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(AGAIN_S)
