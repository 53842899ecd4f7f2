"""Processes that work on the episodes of a run, and what they are told.

Revision ID: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add a table and columns; what was kept before was worked on by the process of its run."""
    op.create_table(
        "workers",
        sa.Column("run_id", sa.String(32), primary_key=True),
        sa.Column("worker", sa.Text(), primary_key=True),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("cores", sa.Integer(), nullable=False),
        sa.Column("memory_mb", sa.Double(), nullable=False),
        sa.Column("began_at", sa.Double(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.Column("episodes", sa.Integer(), nullable=False),
        sa.Column("peak_rss_mb", sa.Double(), nullable=True),
        sa.Column("standing", sa.Text(), nullable=True),
    )
    op.add_column("runs", sa.Column("orders", sa.Text(), nullable=True))
    op.add_column("episodes", sa.Column("worker", sa.Text(), nullable=True))
    if op.get_bind().dialect.name == "postgresql":  # SQLite's whole numbers have 64 bits in any column.
        op.alter_column("limits", "part", type_=sa.BigInteger())
