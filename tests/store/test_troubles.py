"""What goes wrong with real files and a real server: said clearly, and waited for where it may pass."""

from __future__ import annotations

import os
import pickle
import re
import sqlite3
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from toolkit.clock import ManualClock
from toolkit.errors import StoreError
from toolkit.records import CallRecord
from toolkit.store import database as database_module
from toolkit.store import schema
from toolkit.store.address import read_address
from toolkit.store.opened import close_stores, store_at
from toolkit.store.store import Store, call_rows

New = Callable[..., CallRecord]
Open = Callable[..., Store]
Ids = Callable[[Store], list[str]]


class Mending(ManualClock):
    """A clock whose ``after``-th sleep does something first."""

    def __init__(self, after: int, mend: Callable[[], object]) -> None:
        super().__init__()
        self.sleeps = 0
        self._after, self._mend = after, mend

    def sleep(self, seconds: float, wake: threading.Event | None = None) -> None:
        self.sleeps += 1
        if self.sleeps == self._after:
            self._mend()
        super().sleep(seconds, wake)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite itself waits for a lock in real time."""
    monkeypatch.setattr(database_module, "BUSY_S", 0.005)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


def locked(path: Path) -> sqlite3.Connection:
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    return other


def says(caught: pytest.ExceptionInfo[StoreError], place: object, *words: str) -> None:
    """Hold that an error names the place, what is wrong, and something to do."""
    message = str(caught.value)
    for word in (str(place), *words):
        assert word in message
    assert re.search(r"\); [a-z]|set store_url|start again", message), message


# Locks


def test_a_lock_is_waited_for(
    path: Path, sqlite_url: str, open_store: Open, make_call: New, call_ids: Ids
) -> None:
    """While another holds the file, commits are tried again, and go through when it lets go."""
    clock = Mending(4, lambda: other.close())
    store = open_store(sqlite_url, clock=clock)
    other = locked(path)
    store.commit(call_rows("r", make_call(), "t"))
    assert clock.sleeps == 4
    assert call_ids(store) == ["c1"]
    assert store._commits.trouble is None


def test_a_lock_that_stays_is_given_up(
    path: Path, sqlite_url: str, open_store: Open, make_call: New, call_ids: Ids
) -> None:
    """After ``wait_s`` the error says so; who comes right after is told at once, and later ones try anew."""
    clock = Mending(10**9, lambda: None)
    store = open_store(sqlite_url, clock=clock, wait_s=60.0)
    other = locked(path)
    with pytest.raises(StoreError) as caught:
        store.commit(call_rows("r", make_call("a"), "t"))
    says(caught, path, "locked by another process")
    assert caught.value.passing
    assert 55 < clock.now() <= 60
    sleeps = clock.sleeps
    with pytest.raises(StoreError):
        store.commit(call_rows("r", make_call("b"), "t"))
    assert clock.sleeps == sleeps
    other.close()
    clock.advance(5)
    store.commit(call_rows("r", make_call("c"), "t"))
    assert call_ids(store) == ["c"]


def test_nobody_begins_while_there_is_trouble(
    path: Path, sqlite_url: str, open_store: Open, make_call: New, call_ids: Ids
) -> None:
    """``wait_until_well`` returns only once what could not be written is."""
    sleeping, go_on, well = threading.Event(), threading.Event(), threading.Event()

    def mend() -> None:
        sleeping.set()
        assert go_on.wait(10)
        other.close()

    store = open_store(sqlite_url, clock=Mending(1, mend))
    other = locked(path)
    writer = threading.Thread(target=store.commit, args=(call_rows("r", make_call(), "t"),))

    def wait() -> None:
        store.wait_until_well(60.0)
        well.set()

    waiter = threading.Thread(target=wait)
    writer.start()
    assert sleeping.wait(10)
    waiter.start()
    assert not well.wait(0.05)
    go_on.set()
    writer.join(10)
    waiter.join(10)
    assert well.is_set()
    assert call_ids(store) == ["c1"]


def test_a_file_that_is_locked_cannot_be_opened(path: Path, sqlite_url: str, open_store: Open) -> None:
    """Opening says that the file is locked, at once, also where the lock is on one that is new."""
    open_store(sqlite_url).close()
    other = locked(path)
    with pytest.raises(StoreError) as caught:
        open_store(sqlite_url)
    says(caught, path, "locked")
    other.close()
    path.unlink()
    path.touch()
    other = locked(path)
    with pytest.raises(StoreError) as caught:
        open_store(sqlite_url)
    says(caught, path, "locked")
    other.close()


# Room and rights


def test_a_full_disk_is_waited_for(
    path: Path, sqlite_url: str, open_store: Open, make_call: New, call_ids: Ids
) -> None:
    """A file that cannot grow is a trouble that passes; until it can, nobody may begin."""
    room = [10_000]
    clock = Mending(10**9, lambda: None)
    store = open_store(sqlite_url, clock=clock)

    def limit(connection: Any, record: object) -> None:
        connection.execute(f"PRAGMA max_page_count={room[0]}").fetchone()

    sa.event.listen(store.database._engine, "connect", limit)
    store.commit(call_rows("r", make_call("a"), "t"))
    store.database._drop_writer()
    room[0] = 1
    with pytest.raises(StoreError) as caught:
        store.commit(call_rows("r", make_call("b"), "t" * 100_000))
    says(caught, path, "the disk is full", "free disk space")
    clock.advance(10)
    with pytest.raises(StoreError, match="full"):
        store.wait_until_well(1.0)
    room[0] = 10_000
    clock.advance(10)
    store.wait_until_well(1.0)
    store.commit(call_rows("r", make_call("c"), "t" * 100_000))
    assert call_ids(store) == ["a", "c"]
    with store.reading() as connection:
        assert connection.execute(sa.select(schema.limits)).all() == []


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip("may not mount a file system here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_really_full(tiny_disk: Path, open_store: Open, make_call: New, call_ids: Ids) -> None:
    """On a disk without room commits wait until there is some; all that were answered are kept."""
    ballast = tiny_disk / "ballast"
    ballast.write_bytes(b"x" * 500_000)
    clock = Mending(3, ballast.unlink)
    store = open_store(f"sqlite:///{tiny_disk}/runs.db", clock=clock)
    for number in range(20):
        store.commit(call_rows("r", make_call(f"c{number}"), "text " * 3_000))
    assert clock.sleeps >= 3
    assert call_ids(store) == [f"c{number}" for number in range(20)]


@pytest.fixture
def plain_user() -> Iterator[Path]:
    """Make a folder, and be a user to whom permissions apply, which they do not to root."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if os.geteuid() == 0:
            os.chown(folder, 65534, 65534)
            os.seteuid(65534)
        try:
            yield folder
        finally:
            if os.getuid() == 0:
                os.seteuid(0)
            folder.chmod(0o700)


@pytest.mark.skipif(sys.platform == "win32", reason="has other permissions")
def test_a_file_without_the_right_to_write(plain_user: Path, open_store: Open, make_call: New) -> None:
    """A read-only file cannot be opened, and one that becomes read-only is waited for."""
    path = plain_user / "runs.db"
    clock = Mending(2, lambda: path.chmod(0o600))
    store = open_store(f"sqlite:///{path}", clock=clock)
    path.chmod(0o400)
    with pytest.raises(StoreError) as caught:
        open_store(f"sqlite:///{path}")
    says(caught, path, "Permission denied")
    store.commit(call_rows("r", make_call(), "t"))
    assert clock.sleeps == 2


@pytest.mark.skipif(sys.platform == "win32", reason="has other permissions")
def test_a_folder_without_the_right_to_write(plain_user: Path, open_store: Open) -> None:
    """Neither a new file nor a new folder can be made in it, and the message says where."""
    plain_user.chmod(0o500)
    for place in ("runs.db", ".toolkit/runs.db"):
        with pytest.raises(StoreError) as caught:
            open_store(f"sqlite:///{plain_user / place}")
        says(caught, plain_user / place, "Permission denied")


@pytest.mark.parametrize("place", ["file/runs.db", "file/deeper/runs.db", "folder"])
def test_something_in_the_way(tmp_path: Path, open_store: Open, place: str) -> None:
    """A file where a folder should be, or a folder where the file should be, is told by its path."""
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError) as caught:
        open_store(f"sqlite:///{tmp_path / place}")
    says(caught, tmp_path / place)


# Files that are no store, or not any more


@pytest.mark.parametrize("content", [os.urandom(8192), b"PK\x03\x04", b"Dear diary,\n" * 900])
def test_a_file_of_something_else(path: Path, sqlite_url: str, open_store: Open, content: bytes) -> None:
    """A file that is no database is refused and left as it is."""
    path.write_bytes(content)
    with pytest.raises(StoreError) as caught:
        open_store(sqlite_url)
    says(caught, path, "no SQLite database", "move the file away")
    assert not caught.value.passing
    assert path.read_bytes() == content


@pytest.mark.parametrize("kept_pages", [1, 8])
def test_a_damaged_file(
    path: Path, sqlite_url: str, open_store: Open, make_call: New, kept_pages: int
) -> None:
    """A database of which pages are overwritten says that it is damaged, when it is opened or written."""
    store = open_store(sqlite_url)
    for number in range(300):
        store.later(call_rows("r", make_call(f"c{number:03}", key=f"k{number}"), "text " * 50))
    store.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096 * kept_pages)
        file.write(os.urandom(size - 4096 * kept_pages))

    def use() -> None:
        store = open_store(sqlite_url)
        for number in range(300, 600):
            store.commit(call_rows("r", make_call(f"c{number}", key=f"k{number}"), "t"))

    with pytest.raises(StoreError) as caught:
        use()
    says(caught, path, "is damaged", ".recover")
    assert not caught.value.passing


@pytest.mark.parametrize("store_url", ["sqlite", "postgresql"], indirect=True)
def test_a_store_of_a_newer_release(store_url: str, open_store: Open) -> None:
    """A revision that this release does not know is refused with the way to upgrade."""
    store = open_store(store_url)
    store.commit(
        work=lambda connection: connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    )
    with pytest.raises(StoreError) as caught:
        open_store(store_url)
    says(caught, store.address.shown, "newer release", "9999", "pip install -U")
    assert not caught.value.passing


@pytest.mark.parametrize("foreign", ["CREATE TABLE runs (x int)", "CREATE TABLE calls (x int)", "alembic"])
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_tables_of_something_else(
    kind: str, foreign: str, request: pytest.FixtureRequest, sqlite_url: str, path: Path, open_store: Open
) -> None:
    """A database that another program has tables in is refused, and nothing is added to it."""
    statements = [foreign]
    if foreign == "alembic":  # another program's that migrates as we do
        statements = [
            "CREATE TABLE alembic_version (version_num varchar(32))",
            "INSERT INTO alembic_version VALUES ('a1b2c3')",
        ]
    if kind == "sqlite":
        url = sqlite_url
        with sqlite3.connect(path) as connection:
            for statement in statements:
                connection.execute(statement)
        connection.close()
    else:
        server = request.getfixturevalue("postgresql")
        name = server.database("template0")
        url = server.url(name)
        for statement in statements:
            server.run(statement, name)
    with pytest.raises(StoreError) as caught:
        open_store(url)
    says(caught, read_address(url).shown, "tables of something else")
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    assert len(sa.inspect(engine).get_table_names()) == 1


def test_a_network_file_system(
    path: Path, sqlite_url: str, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where processes of several machines could meet in one log, the file is refused before it is changed."""
    monkeypatch.setattr(database_module, "_file_system", lambda path: "nfs4")
    with pytest.raises(StoreError) as caught:
        open_store(sqlite_url)
    says(caught, path, "nfs4", "set store_url")
    assert path.stat().st_size == 0


@pytest.mark.skipif(sys.platform == "win32", reason="has other file locks")
def test_a_file_system_without_shared_memory(
    path: Path, sqlite_url: str, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where SQLite itself says that it can share no memory, the file is refused."""
    options = {"database": f"file:{path}", "query": {"vfs": "unix-dotfile", "uri": "true"}}
    with_dot_files = sa.URL.create("sqlite", **options)  # type: ignore[arg-type]
    monkeypatch.setattr(database_module.sa.URL, "create", lambda *parts, **named: with_dot_files)
    with pytest.raises(StoreError) as caught:
        open_store(sqlite_url)
    says(caught, path, "cannot hold")


@pytest.mark.parametrize("change", ["removed", "replaced"])
def test_a_file_that_loses_its_name(
    path: Path, sqlite_url: str, tmp_path: Path, open_store: Open, make_call: New, change: str
) -> None:
    """A commit into a file that is not at its path any more is an error; the next run opens what is there."""
    store = store_at(read_address(sqlite_url))
    store.commit(call_rows("r", make_call("a"), "t"))
    path.rename(tmp_path / "away.db")  # and leave the log behind
    if change == "replaced":
        path.write_bytes(b"")
    with pytest.raises(StoreError) as caught:
        store.commit(call_rows("r", make_call("b"), "t"))
    says(caught, path, "removed or replaced")
    assert not caught.value.passing
    assert store.lost()
    again = store_at(read_address(sqlite_url))
    assert again is not store
    again.commit(call_rows("r", make_call("c"), "t"))
    with pytest.raises(StoreError, match="removed or replaced"):
        store.commit(call_rows("r", make_call("d"), "t"))
    store.close()
    again.commit(call_rows("r", make_call("e"), "t"))
    assert store_at(read_address(sqlite_url)) is again
    close_stores()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT call_id FROM calls").fetchall() == [("c",), ("e",)]
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


# PostgreSQL


WRONG = "s3cret-" + "word"  # in two parts: tracebacks quote lines of this file


def all_texts(error: BaseException) -> str:
    """Return all that anybody prints of an error, with the variables of its frames but the tests' own."""
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    told.stack[:] = [frame for frame in told.stack if "/toolkit/" in frame.filename]
    assert told.stack
    plain = "".join(traceback.format_exception(error))
    return (
        "".join(told.format())
        + plain
        + repr(error)
        + str(error)
        + repr(error.args)
        + repr(pickle.dumps(error))
    )


def test_a_server_that_is_not_there(tmp_path: Path, open_store: Open) -> None:
    """No server at the address: it says which address, without the password."""
    url = f"postgresql+psycopg://someone@/runs?host={tmp_path}"
    with pytest.raises(StoreError) as caught:
        open_store(url, WRONG)
    says(caught, url, "cannot be reached", "see that the server runs")
    assert caught.value.passing
    assert WRONG not in all_texts(caught.value)


def test_a_wrong_password(postgresql: Any, open_store: Open) -> None:
    """A password that is refused stands nowhere; neither it nor a missing one is a trouble that passes."""
    url = postgresql.url("migrated", postgresql.role)
    with pytest.raises(StoreError) as caught:
        open_store(url, WRONG)
    says(caught, url, "refuses the user or the password", "store_password")
    assert not caught.value.passing
    assert WRONG not in all_texts(caught.value)
    with pytest.raises(StoreError, match="refuses the user or the password"):
        open_store(url)


def test_a_right_password_stands_nowhere(postgresql: Any, open_store: Open, make_call: New) -> None:
    """A store that was opened with a password works, and no repr or error of it holds the password."""
    url = postgresql.url(postgresql.database(), postgresql.role)
    store = open_store(url, postgresql.password)
    store.commit(call_rows("r", make_call(), "t"))
    with pytest.raises(StoreError) as caught:
        store.commit(call_rows("r", make_call(), "t"))
    shown = (
        repr(store.address)
        + store.address.shown
        + repr(store.database._engine)
        + repr(store.database._writer)
    )
    assert postgresql.password not in shown + all_texts(caught.value)


def test_a_database_that_is_missing(postgresql: Any, open_store: Open) -> None:
    """A database that the server does not have is told with the command that makes it."""
    with pytest.raises(StoreError) as caught:
        open_store(postgresql.url("nowhere"))
    says(caught, "nowhere", "does not exist on the server", "createdb")
    assert not caught.value.passing


def test_a_user_without_rights(postgresql: Any, open_store: Open) -> None:
    """A user who may make no tables is told so."""
    name = postgresql.database("template0")
    postgresql.run("DROP ROLE IF EXISTS guest")
    postgresql.run("CREATE ROLE guest LOGIN")
    with pytest.raises(StoreError) as caught:
        open_store(postgresql.url(name, "guest"))
    says(caught, name, "does not let this user", "give the user the right")


def test_a_session_that_is_ended(postgresql: Any, open_store: Open, make_call: New, call_ids: Ids) -> None:
    """A connection that an administrator ends is made anew, and what was to be written is."""
    name = postgresql.database()
    clock = ManualClock()
    store = open_store(postgresql.url(name), clock=clock)
    store.commit(call_rows("r", make_call("a"), "t"))
    ended = postgresql.run(
        f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'"
    )
    assert ended == [(True,)]
    store.commit(call_rows("r", make_call("b"), "t"))
    assert call_ids(store) == ["a", "b"]


def test_a_table_that_is_locked(postgresql: Any, open_store: Open, make_call: New, call_ids: Ids) -> None:
    """A session that keeps a table locked is a trouble that is named, waited for, and given up in the end."""
    name = postgresql.database()
    place = {"host": str(postgresql.folder), "user": "postgres", "dbname": name}
    with psycopg.connect(**place) as other:
        clock = Mending(3, other.rollback)
        store = open_store(postgresql.url(name), clock=clock)
        other.execute("LOCK TABLE calls")
        store.commit(call_rows("r", make_call("a"), "t"))
        assert clock.sleeps == 3
        other.execute("LOCK TABLE calls")
        with pytest.raises(StoreError) as caught:
            store.commit(call_rows("r", make_call("b"), "t"))
        says(caught, store.address.shown, "locked by another session")
        assert caught.value.passing
        other.rollback()
    assert call_ids(store) == ["a"]


def test_a_server_that_restarts(postgresql: Any, open_store: Open, make_call: New, call_ids: Ids) -> None:
    """While the server is down commits wait, and go on when it is back."""
    clock = Mending(3, postgresql.start)
    store = open_store(postgresql.url(postgresql.database()), clock=clock)
    store.commit(call_rows("r", make_call("a"), "t"))
    postgresql.stop()
    try:
        store.commit(call_rows("r", make_call("b"), "t"))
    finally:
        postgresql.start()
    assert clock.sleeps >= 3
    assert call_ids(store) == ["a", "b"]


def test_a_commit_whose_answer_is_lost(
    postgresql: Any, open_store: Open, make_call: New, call_ids: Ids, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that breaks after the server has committed: it is done again, and kept once."""
    store = open_store(postgresql.url(postgresql.database()), clock=ManualClock())
    dialect: Any = store.database._engine.dialect
    commit = dialect.do_commit
    broken: list[None] = []

    def commit_and_break(connection: Any) -> None:
        commit(connection)
        if not broken:
            broken.append(None)
            connection.driver_connection.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(dialect, "do_commit", commit_and_break)
    store.commit(call_rows("r", make_call("a"), "t"))
    assert broken
    assert call_ids(store) == ["a"]
    with pytest.raises(StoreError, match="refused"):
        store.commit(call_rows("r", make_call("a"), "t"))
