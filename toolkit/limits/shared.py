"""``SqliteState``: one file that all processes of a user on a machine share.

Plain SQL in one table. A decision is one transaction (``BEGIN IMMEDIATE``, so that the book is read under
the write lock). The book is written back as text; a process that wrote last does not read it again. One that
has been alone with it for a while decides first and writes then, in a single statement that does nothing if
another process was quicker: each statement lets go of the interpreter several times, and with 32 threads
every time another takes it.
Write-ahead log with ``synchronous=NORMAL``: a killed process loses nothing; a power cut may lose the last
commits, and takes all holders and more than their windows with it while the machine boots.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from toolkit.clock import Clock
from toolkit.errors import ConfigError, StoreError
from toolkit.limits import holders
from toolkit.limits.axis import Axis, anchor, boot_id, make_axis
from toolkit.limits.core import LimiterCore
from toolkit.limits.state import Overtaken
from toolkit.sqlite import turn_on_wal

BUSY_S = 30.0
"""Longest wait for another process's transaction, which takes 0.1 ms; longer means a stopped process."""
ALONE = 8
"""So many decisions in a row without another process's make a process believe that it is alone."""
# The number in the table's name is that of the book's form: another release keeps to its own table.
_TABLES = (
    "CREATE TABLE IF NOT EXISTS book_1 "
    "(quota_key TEXT PRIMARY KEY, version INTEGER NOT NULL, state TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS anchor (boot TEXT PRIMARY KEY, epoch_offset REAL NOT NULL)",
)


class SqliteState:
    """Books in a file.

    Parameters
    ----------
    path : Path
        Made with its folder if it is not there, readable by its owner only.
    holder : str, optional
        Name of this process; by default its id and start time.

    Raises
    ------
    ConfigError
        If the file cannot be opened or is none of these.
    """

    sharers = 1
    is_distant = False

    def __init__(self, path: Path | str, holder: str | None = None) -> None:
        self.path = Path(path)
        self._given_holder = holder
        self._file_lock = threading.RLock()
        # Of each core's book: version and text as last written, and for how many decisions it was alone.
        self._versions: dict[LimiterCore, tuple[int, str, int]] = {}
        self._connect()

    @property
    def holder(self) -> str:
        """See `LimiterState`."""
        return self._given_holder or holders.this_process()

    def is_alive(self, holder: str) -> bool:
        """See `LimiterState`."""
        return holders.is_alive(holder)

    def _connect(self) -> None:
        self._pid = os.getpid()
        opened = ExitStack()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Made by hand: sqlite3 would make it readable for everybody, and its side files take its mode.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            self._file = sqlite3.connect(
                self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
            opened.callback(self._file.close)
            turn_on_wal(self._file, BUSY_S)
            self._file.execute("PRAGMA synchronous=NORMAL")
            for table in _TABLES:
                self._file.execute(table)
        except (OSError, sqlite3.Error) as error:
            opened.close()
            raise ConfigError(f"limits_url: {self.path} cannot hold the shared limits: {error}") from error

    def axis(self, clock: Clock) -> Axis:
        """See `LimiterState`: the first process of this boot has set the anchor."""
        shared = self._anchor()
        return make_axis(clock, None if shared is None else lambda: shared)

    def _anchor(self) -> float | None:
        boot = boot_id()
        if not boot:
            return None
        with self._file_lock:
            self._file.execute("INSERT OR IGNORE INTO anchor VALUES (?, ?)", (boot, anchor()))
            self._file.execute("DELETE FROM anchor WHERE boot <> ?", (boot,))
            row = self._file.execute("SELECT epoch_offset FROM anchor WHERE boot = ?", (boot,)).fetchone()
            return float(row[0])

    @contextmanager
    def exclusive(self, core: LimiterCore) -> Iterator[None]:
        """See `LimiterState`.

        Raises
        ------
        Overtaken
            If another process has decided meanwhile.
        StoreError
            If the file cannot be read or written; nothing was decided then.
        """
        try:
            with self._file_lock:
                if os.getpid() != self._pid:  # a connection must not be used across a fork
                    self._connect()
                    self._versions.clear()
                # Not known any more, if this ends in an error.
                version, text, alone = self._versions.pop(core, (-1, "", 0))
                if alone < ALONE:
                    with self._transaction(core, version, text, alone):
                        yield
                else:
                    yield
                    self._write_first(core, version, text, alone)
        except sqlite3.Error as error:
            raise StoreError(
                f"limits_url: the shared limits in {self.path} cannot be used ({error}); end the process "
                "that keeps the file locked, free disk space, or set limits_url='memory://' for this process "
                "alone"
            ) from error

    @contextmanager
    def _transaction(self, core: LimiterCore, known: int, text: str, alone: int) -> Iterator[None]:
        execute = self._file.execute
        execute("BEGIN IMMEDIATE")
        unwritten = None
        try:
            row = execute("SELECT version FROM book_1 WHERE quota_key = ?", (core.quota_key,)).fetchone()
            version = 0 if row is None else int(row[0])
            if row is None:
                unwritten = core.dump()
            if row is not None and version != known:
                (text,) = execute(
                    "SELECT state FROM book_1 WHERE quota_key = ?", (core.quota_key,)
                ).fetchone()
                core.load(text)
            alone = alone + 1 if version == known else 0
            yield
            changed = core.dump()
            if changed != text:
                version += 1
                execute(
                    "INSERT INTO book_1 VALUES (?, ?, ?) ON CONFLICT (quota_key) "
                    "DO UPDATE SET version = excluded.version, state = excluded.state",
                    (core.quota_key, version, changed),
                )
            execute("COMMIT")
        except BaseException:
            if self._file.in_transaction:
                execute("ROLLBACK")
            if unwritten is not None:  # nothing is there that the next one could read
                core.load(unwritten)
            raise
        self._versions[core] = (version, changed, alone)

    def _write_first(self, core: LimiterCore, version: int, text: str, alone: int) -> None:
        """Write what was decided on the book as this process knows it, if nobody else has written since."""
        changed = core.dump()
        if changed == text:
            query = "SELECT 1 FROM book_1 WHERE quota_key = ? AND version = ?"
            if self._file.execute(query, (core.quota_key, version)).fetchone() is None:
                raise Overtaken
        else:
            written = self._file.execute(
                "UPDATE book_1 SET version = ?, state = ? WHERE quota_key = ? AND version = ?",
                (version + 1, changed, core.quota_key, version),
            )
            if written.rowcount == 0:
                raise Overtaken
            version += 1
        self._versions[core] = (version, changed, alone)

    def close(self) -> None:
        """Close the file; books stay."""
        with self._file_lock:
            self._file.close()


def default_path() -> Path:
    """Return the file that all processes of this user share, in the user's folder for state."""
    if sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        folder = Path.home() / "Library" / "Application Support"
    else:
        folder = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return folder / "episode-toolkit" / "limits.db"
