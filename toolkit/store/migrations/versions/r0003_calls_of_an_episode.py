"""The calls of an episode are found without a look at all those of its run.

Revision ID: 0003
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the index."""
    op.create_index("ix_calls_episode_id", "calls", ["episode_id"], unique=False, postgresql_using="hash")
