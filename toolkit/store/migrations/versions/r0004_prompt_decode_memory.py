"""The two parts of a local call's service, and the memory that a run took.

Revision ID: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the columns; what was kept before has nothing in them."""
    op.add_column("calls", sa.Column("prompt_s", sa.Double(), nullable=True))
    op.add_column("calls", sa.Column("decode_s", sa.Double(), nullable=True))
    op.add_column("runs", sa.Column("peak_rss_mb", sa.Double(), nullable=True))
