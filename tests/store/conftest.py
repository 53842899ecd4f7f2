"""The three kinds of store, each empty and each its own for every test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from toolkit.records import CallRecord, Stage, Status, StopReason
from toolkit.store import schema
from toolkit.store.address import read_address
from toolkit.store.store import Store

if TYPE_CHECKING:
    from postgresql_server import Server


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
