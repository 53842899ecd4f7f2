"""``Database``: an SQLite file, memory, or PostgreSQL, with the tables of today's schema."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import NullPool, StaticPool

from toolkit.errors import MissingDependency, StoreError
from toolkit.sqlite import turn_on_wal
from toolkit.store import schema
from toolkit.store.address import MEMORY, Address
from toolkit.store.troubles import TROUBLES, explain

BUSY_S = 5.0
"""Longest wait for another process's transaction before it counts as a trouble."""
MIGRATION_S = 60.0
"""Longest wait, in PostgreSQL, for another process that brings the tables up to date."""
MIGRATIONS = "toolkit:store/migrations"
ROWS = 16
"""Most rows in one statement of SQLite: as many statements a table are kept prepared."""
_READ = "toolkit_reads"
_ANSWERS = {"connect_timeout": 10, "keepalives_idle": 30, "tcp_user_timeout": 60_000}
"""PostgreSQL: a server that went silent is a trouble within s, s and ms; libpq would wait for minutes."""
_MIGRATION_LOCK = 4_206_141_001
"""Any number: processes that bring one PostgreSQL database up to date take turns on it."""
_NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "lustre", "beegfs", "gpfs", "ceph", "afs", "fuse.sshfs"}
)
_migrating_lock = threading.Lock()
"""Alembic keeps what it migrates in a global variable."""
_left_to_parent: list[sa.Connection] = []
"""Connections that a fork has copied: to close one would end the parent's session."""


class Database:
    """A database whose tables are there and are today's.

    Parameters
    ----------
    address : Address

    Raises
    ------
    StoreError
        If it cannot be opened, is damaged, or was made by a newer release.
    MissingDependency
        If PostgreSQL is asked for and its driver is not installed.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self._writer: sa.Connection | None = None
        self._writer_lock = threading.RLock()
        self._inserts: dict[tuple[str, tuple[str, ...], bool, int], str] = {}
        self._inode = (0, 0)
        if address.path is not None:
            _make_file(address.path, address)
        self._engine = _make_engine(address)
        with self._explained(), self._engine.connect() as connection:
            self._prepare(connection)
        if address.path is not None:
            self._inode = _inode(address.path)

    def _prepare(self, connection: sa.Connection) -> None:
        if self.address.path is not None:
            self._turn_on_wal(connection)
        with _migrating_lock, connection.begin():
            if connection.dialect.name == "postgresql":
                connection.execute(sa.text(f"SET LOCAL lock_timeout = {1000 * MIGRATION_S:.0f}"))
                connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
            _bring_up_to_date(connection, self.address)

    def _turn_on_wal(self, connection: sa.Connection) -> None:
        assert self.address.path is not None
        kind = _file_system(self.address.path)
        # By the driver: SQLAlchemy would begin a transaction.
        driver: Any = connection.connection.driver_connection
        if kind in _NETWORK_FILE_SYSTEMS or turn_on_wal(driver, BUSY_S) != "wal":
            raise StoreError(
                f"the store {self.address.shown} is on a file system ({kind or 'unknown'}) that cannot hold "
                "SQLite's write-ahead log, which processes share through memory; set store_url to a file on "
                "a disk of this machine, or to PostgreSQL"
            )

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Do a transaction; one thread at a time.

        Raises
        ------
        StoreError
            If it cannot be done; nothing of it is in the database then, unless a server was lost in the
            moment of the commit.
        """
        with self._writer_lock:
            try:
                with self._explained():
                    if self._writer is None:
                        self._check_place()
                        if self.address.path is not None:
                            _check_rights(self.address.path)
                        self._writer = self._engine.connect()
                    with self._writer.begin():
                        yield self._writer
                    self._check_place()
            except BaseException:
                # Whatever state it is in, the next transaction begins with a fresh one.
                self._drop_writer()
                raise

    def insert(
        self,
        connection: sa.Connection,
        table: sa.Table,
        rows: Sequence[Mapping[str, Any]],
        *,
        again: bool = False,
    ) -> None:
        """Insert rows that all have the same columns, with values as the driver takes them.

        The statement is compiled once and given to the driver as it is: for each of many short transactions
        SQLAlchemy would take longer to prepare it than the database to do it. SQLite is given many rows in
        one statement, since it lets go of the interpreter at each, and with 32 threads another takes it.
        ``again``: leave out those that are there already.
        """
        names = tuple(rows[0])
        with closing(connection.connection.cursor()) as cursor:
            if connection.dialect.name != "sqlite":
                cursor.executemany(self._insert(connection, table, names, again), rows)
                return
            for first in range(0, len(rows), ROWS):
                part = rows[first : first + ROWS]
                statement = self._insert(connection, table, names, again, len(part))
                cursor.execute(statement, [row[name] for row in part for name in names])

    def _insert(
        self, connection: sa.Connection, table: sa.Table, names: tuple[str, ...], again: bool, rows: int = 0
    ) -> str:
        """Return the statement that inserts so many rows at once; 0: one, with places that have names."""
        statement = self._inserts.get((table.name, names, again, rows))
        if statement is None:
            if rows:
                columns = ", ".join(map(connection.dialect.identifier_preparer.quote, names))
                places = ", ".join(["(" + ", ".join("?" * len(names)) + ")"] * rows)
                statement = f"INSERT INTO {table.name} ({columns}) VALUES {places}"
            else:
                insert = table.insert().inline()
                statement = str(insert.compile(dialect=connection.dialect, column_keys=list(names)))
            if again:
                statement += " ON CONFLICT DO NOTHING"
            self._inserts[table.name, names, again, rows] = statement
        return statement

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Read on a connection of its own, all of one moment."""
        with self._explained(), self._engine.connect() as connection:
            options: dict[str, Any] = {_READ: True}
            if connection.dialect.name == "postgresql":
                options["isolation_level"] = "REPEATABLE READ"  # else each statement has a moment of its own
            reader = connection.execution_options(**options)
            with reader.begin():
                yield reader

    def _check_place(self) -> None:
        """Refuse to write into a file that has lost its name: SQLite itself would not notice."""
        if self.lost():
            raise StoreError(
                f"the store {self.address.shown} was removed or replaced while it was in use; leave the file "
                "where it is while something runs, and start again"
            )

    def lost(self) -> bool:
        """Whether the file is not there any more, or is another one."""
        if self.address.path is None:
            return False
        try:
            return _inode(self.address.path) != self._inode
        except OSError:
            return True

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (*TROUBLES, self._engine.dialect.loaded_dbapi.Error) as error:
            # Not chained: the frames of drivers hold passwords, which some tracebacks show.
            raise explain(error, self.address) from None

    def _drop_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(Exception):  # it is broken already
                if self.address.url != MEMORY:  # where there is one connection, and all is in it
                    writer.invalidate()
                writer.close()

    def before_fork(self) -> None:
        """Be without a writing connection, and let none begin, while the process forks."""
        # Who forks in the middle of a transaction, or beside one that hangs, is not made to wait for ever.
        if self._writer_lock.acquire(timeout=BUSY_S) and self.address.url != MEMORY:
            writer, self._writer = self._writer, None
            if writer is not None:
                writer.close()

    def after_fork(self) -> None:
        """Go on in the parent."""
        with suppress(RuntimeError):  # it was not taken
            self._writer_lock.release()

    def forget(self) -> None:
        """Begin anew in a forked process."""
        self._writer_lock = threading.RLock()
        if self.address.url == MEMORY:
            return  # what is in it was copied
        self._engine.dispose(close=False)
        if self._writer is not None:
            _left_to_parent.append(self._writer)
            self._writer = None

    def close(self) -> None:
        """Close all connections, once nobody is writing."""
        with self._writer_lock:
            writer, self._writer = self._writer, None
            if writer is not None:
                with suppress(*TROUBLES):  # as when its server is gone
                    writer.close()
            if self.address.url == MEMORY:
                with suppress(*TROUBLES):  # it was closed before
                    with self._engine.connect() as connection:
                        memory: Any = connection.connection.driver_connection
                    memory.end()
            self._engine.dispose()


class _Memory(sqlite3.Connection):
    """Memory, which SQLAlchemy would close, and lose, after Ctrl-C in the middle of a statement."""

    def close(self) -> None:
        """End what is under way."""
        with suppress(sqlite3.ProgrammingError):  # it was ended before
            self.rollback()

    def end(self) -> None:
        """Close it in earnest."""
        super().close()


def _make_engine(address: Address) -> sa.Engine:
    options: dict[str, Any] = {"hide_parameters": True}
    if address.url == MEMORY or address.path is not None:
        options["paramstyle"] = "named"  # takes rows as they are
    if address.url == MEMORY:
        memory = sqlite3.connect(":memory:", check_same_thread=False, factory=_Memory)
        engine = sa.create_engine("sqlite://", poolclass=StaticPool, creator=lambda: memory, **options)
    elif address.path is not None:
        engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(address.path)),
            poolclass=NullPool,
            connect_args={"check_same_thread": False, "timeout": BUSY_S},
            **options,
        )
    else:
        url = sa.make_url(address.url)
        answers = {name: value for name, value in _ANSWERS.items() if name not in url.query}
        try:
            engine = sa.create_engine(
                url.set(password=address.password) if address.password else url,
                poolclass=NullPool,
                connect_args=answers,
                **options,
            )
        except ImportError:
            raise MissingDependency("a store in PostgreSQL", "psycopg", "postgres") from None
        sa.event.listen(engine, "connect", _on_connect_to_server)
        return engine
    sa.event.listen(engine, "connect", _on_connect)
    sa.event.listen(engine, "begin", _on_begin)
    return engine


def _on_connect(connection: Any, record: object) -> None:
    # SQLAlchemy's own recipe: the driver begins nothing by itself, ``_on_begin`` does.
    connection.isolation_level = None
    # A killed process loses nothing; a power cut may lose the last commits and leaves the rest whole.
    connection.execute("PRAGMA synchronous=NORMAL")


def _on_connect_to_server(connection: Any, record: object) -> None:
    connection.execute(f"SET lock_timeout = {1000 * BUSY_S:.0f}")
    connection.commit()


def _on_begin(connection: sa.Connection) -> None:
    reads = connection.get_execution_options().get(_READ)
    # A writer takes the lock at once: one that first reads could not wait for it later.
    # By the driver, at a third of what SQLAlchemy's own way takes.
    driver: Any = connection.connection.driver_connection
    driver.execute("BEGIN" if reads else "BEGIN IMMEDIATE")


def _inode(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _make_file(path: Path, address: Address) -> None:
    """Make the file by hand: sqlite3 would make it readable for everybody; its side files take its mode."""
    try:
        if path.exists():
            _check_rights(path)
            return
        made = [place for place in path.parents if not place.exists()]
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.parent in made and path.parent.name == ".toolkit":
            # What is kept is the user's own and belongs into no repository.
            (path.parent / ".gitignore").write_text("*\n", encoding="utf-8")
        # To open and close one that is there would drop the locks that this process has on it: POSIX's way.
        with suppress(FileExistsError):  # another process was first
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise explain(error, address) from None


def _check_rights(path: Path) -> None:
    """Refuse what SQLite would open for reading only, and then make side files that are as read-only."""
    if not os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _bring_up_to_date(connection: sa.Connection, address: Address) -> None:
    there = set(sa.inspect(connection).get_table_names())
    found = None
    if "alembic_version" in there:
        found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    if found == schema.REVISION:
        return
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    migrations = Config()
    migrations.set_main_option("script_location", MIGRATIONS)
    migrations.attributes["connection"] = connection
    try:
        known = found is None or ScriptDirectory.from_config(migrations).get_revision(found) is not None
    except CommandError:
        known = False
    ours = there & set(schema.metadata.tables)
    if (found is None and ours) or not (known or ours):
        raise StoreError(
            f"the store {address.shown} has tables of something else; set store_url to another file or "
            "database"
        )
    if not known:
        raise StoreError(
            f"the store {address.shown} was made by a newer release (its tables are {found}, this one "
            f"knows {schema.REVISION}); upgrade with: python -m pip install -U episode-toolkit, or set "
            "store_url to another file"
        )
    command.upgrade(migrations, "head")


def _file_system(path: Path) -> str:
    """Return the kind of file system that a path is on; empty where the system does not say."""
    if sys.platform != "linux":
        return ""
    best, kind = "", ""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for mount in mounts:
        before, _, after = mount.partition(" - ")
        point = before.split()[4].replace("\\040", " ")
        if len(point) >= len(best) and path.resolve().is_relative_to(point):
            best, kind = point, after.split()[0]
    return kind
