"""How a store of one release becomes one of the next."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from toolkit.errors import StoreError
from toolkit.records import CallRecord
from toolkit.store import database as database_module
from toolkit.store import migrations, schema
from toolkit.store.store import Store, call_rows

New = Callable[..., CallRecord]
Open = Callable[..., Store]
FOLDER = Path(migrations.__file__).parent
TODAY = schema.REVISION

NEXT = '''
"""A column more, one renamed, and an index less.

Revision ID: next
"""

import sqlalchemy as sa
from alembic import op

revision = "next"
down_revision = "{today}"


def upgrade() -> None:
    with op.batch_alter_table("calls") as calls:
        calls.add_column(sa.Column("mood", sa.Text(), nullable=False, server_default="calm"))
        calls.alter_column("worker", new_column_name="thread")
    op.drop_index("ix_calls_key", table_name="calls")
    {end}
'''


def differences(store: Store) -> list[Any]:
    def compare(connection: sa.Connection) -> list[Any]:
        options = {"compare_type": True, "compare_server_default": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), schema.metadata))

    found: list[Any] = store.commit(work=compare)
    return found


def test_the_steps_lead_to_the_tables_of_today(store: Store) -> None:
    """A store that was migrated has just the tables, columns, types and indexes of ``schema``."""
    assert differences(store) == []


def test_a_difference_would_be_seen(store: Store) -> None:
    """The comparison above tells of a column that is missing and of an index that is."""
    store.commit(work=lambda connection: connection.exec_driver_sql("DROP INDEX ix_runs_scope"))
    store.commit(work=lambda connection: connection.exec_driver_sql("ALTER TABLE runs DROP COLUMN totals"))
    assert len(differences(store)) == 2


def test_the_revision_is_the_newest() -> None:
    """``REVISION`` names the one last step."""
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    assert ScriptDirectory.from_config(config).get_heads() == [schema.REVISION]


@pytest.mark.parametrize("store_url", ["sqlite", "postgresql"], indirect=True)
def test_a_store_of_the_first_release_gets_the_tables_that_came_since(
    store_url: str, open_store: Open, make_call: New
) -> None:
    """What it holds stays, sweeps can be kept beside it, and what was not measured then is null."""
    store = open_store(store_url)
    store.commit(call_rows("r", make_call(prompt_s=0.5, decode_s=1.0), "t"))

    def go_back(connection: sa.Connection) -> None:
        for statement in (
            "DROP TABLE sweeps",
            "DROP TABLE cells",
            "DROP INDEX ix_calls_episode_id",
            "ALTER TABLE calls DROP COLUMN prompt_s",
            "ALTER TABLE calls DROP COLUMN decode_s",
            "ALTER TABLE runs DROP COLUMN peak_rss_mb",
            "DROP TABLE workers",
            "ALTER TABLE runs DROP COLUMN orders",
            "ALTER TABLE episodes DROP COLUMN worker",
            "UPDATE alembic_version SET version_num = '0001'",
        ):
            connection.exec_driver_sql(statement)

    store.commit(work=go_back)
    store.close()
    store = open_store(store_url)
    assert differences(store) == []
    found = store.find_call("k")
    assert found is not None
    assert (found.record.prompt_s, found.record.decode_s) == (None, None)


@pytest.fixture
def next_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Be a release with one more step."""

    def become(end: str = "") -> None:
        folder = tmp_path / "migrations"
        shutil.copytree(FOLDER, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "versions" / "next.py").write_text(NEXT.format(end=end, today=TODAY))
        monkeypatch.setattr(database_module, "MIGRATIONS", str(folder))
        monkeypatch.setattr(schema, "REVISION", "next")

    return become


@pytest.mark.parametrize("store_url", ["sqlite", "postgresql"], indirect=True)
def test_an_older_store_keeps_what_it_holds(
    store_url: str, open_store: Open, make_call: New, next_release: Callable[..., None]
) -> None:
    """Rows outlive a step that alters their table, in their order and with their constraints."""
    store = open_store(store_url)
    for number in range(50):
        call = make_call(f"c{number}", worker=f"w{number}", key=f"k{number}")
        store.commit(call_rows("r", call, f"é\n{number}"))
    store.close()
    next_release()
    store = open_store(store_url)

    def read(connection: sa.Connection) -> list[tuple[Any, ...]]:
        query = "SELECT call_id, thread, text, mood FROM calls ORDER BY number"
        return [tuple(row) for row in connection.exec_driver_sql(query)]

    assert store.commit(work=read) == [(f"c{n}", f"w{n}", f"é\n{n}", "calm") for n in range(50)]
    again = (
        "INSERT INTO attempts (run_id, call_id, attempt, service_s, paid_unknown) VALUES ('r', 'c', 1, 1, {})"
    )
    false = "false" if store_url.startswith("postgresql") else "0"
    store.commit(work=lambda connection: connection.exec_driver_sql(again.format(false)))
    with pytest.raises(StoreError, match="refused"):
        store.commit(work=lambda connection: connection.exec_driver_sql(again.format(false)))
    open_store(store_url)


@pytest.mark.parametrize("store_url", ["sqlite", "postgresql"], indirect=True)
def test_a_step_that_fails_changes_nothing(
    store_url: str,
    open_store: Open,
    make_call: New,
    next_release: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Steps are one transaction: a store whose migration breaks off is as it was, for the older release."""
    store = open_store(store_url)
    store.commit(call_rows("r", make_call(), "t"))
    store.close()
    next_release('raise OSError("the step broke off")')
    with pytest.raises(StoreError, match="broke off"):
        open_store(store_url)
    monkeypatch.setattr(database_module, "MIGRATIONS", str(FOLDER))
    monkeypatch.setattr(schema, "REVISION", TODAY)
    store = open_store(store_url)
    assert store.find_call("k") is not None
    assert differences(store) == []
