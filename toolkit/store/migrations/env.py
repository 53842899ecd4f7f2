"""Run by Alembic, on the connection that ``database`` gives it, within a transaction of its own."""

from __future__ import annotations

from alembic import context

from toolkit.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite cannot alter most of a table: Alembic makes a new one and moves the rows.
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()
