"""The tables of a store.

Times are epoch seconds, lengths of time seconds. Budgets are in whole nano-dollars (10^-9 USD), so that what
is added and taken away again leaves nothing behind.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

REVISION = "0005"
"""The newest of ``migrations/versions``: what these tables are."""

# SQLite counts rows in 64 bits by itself, but only in a column of exactly this type.
_NUMBER = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
    }
)

runs = Table(
    "runs",
    metadata,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("scope", String(32), nullable=False, index=True),
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("config", Text, nullable=False),  # JSON, without secrets
    Column("environment", Text, nullable=False),  # JSON
    Column("reuse", String(8), nullable=False),
    Column("repeat", Integer, nullable=False),
    Column("holder", Text, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("episodes_given", Integer),  # null: a generator, whose length nobody knew
    # What follows is written at the end, and null in a run that goes on or was killed.
    Column("ended_at", Double),
    Column("complete", Boolean),
    Column("interrupted", Boolean),
    Column("stopped_because", Text),
    Column("makespan_s", Double),
    Column("peak_rss_mb", Double),  # null too where the system does not tell
    Column("limits_began_at", Double),
    Column("quota_shares", Text),  # JSON
    Column("totals", Text),  # JSON
    # Written while it goes on, where other processes work on its episodes: what they are told. JSON.
    Column("orders", Text),
    sqlite_autoincrement=True,
)

episodes = Table(
    "episodes",
    metadata,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    Column("run_id", String(32), nullable=False),
    Column("position", Integer, nullable=False),
    Column("episode_id", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("words", Integer, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("total_s", Double, nullable=False),
    Column("status", String(16), nullable=False),
    Column("error", Text),
    Column("chunks", Integer, nullable=False),
    Column("key", String(32), index=True),
    Column("text", Text),
    Column("worker", Text),  # the process; null: the run's own
    UniqueConstraint("run_id", "position"),
)

calls = Table(
    "calls",
    metadata,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    Column("run_id", String(32), nullable=False),
    Column("call_id", Text, nullable=False),
    Column("episode_id", Text, nullable=False),
    Column("stage", String(16), nullable=False),
    Column("chunk_index", Integer),
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("stop_reason", String(16)),
    Column("reused", Boolean, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("queue_s", Double, nullable=False),
    Column("wait_requests_s", Double),
    Column("wait_tokens_s", Double),
    Column("wait_slots_s", Double),
    Column("wait_cooldown_s", Double),
    Column("retry_wait_s", Double, nullable=False),
    Column("failed_attempts_s", Double, nullable=False),
    Column("service_s", Double, nullable=False),
    Column("prompt_s", Double),
    Column("decode_s", Double),
    Column("overhead_s", Double, nullable=False),
    Column("total_s", Double, nullable=False),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("cached_tokens", BigInteger),
    Column("token_counter", Text),
    Column("batch_size", Integer),
    Column("cost_usd", Double),
    Column("saved_usd", Double),
    Column("worker", Text, nullable=False),
    Column("error", Text),
    Column("key", String(32), nullable=False),
    Column("text", Text),
    UniqueConstraint("run_id", "call_id"),
)
# An answer is looked for by its key; of most calls there is one.
Index("ix_calls_key", calls.c.key)
# A summary that is taken again brings its calls with it; without this each would take as long as its run is.
# An id may be longer than what PostgreSQL takes into an index that is sorted.
Index("ix_calls_episode_id", calls.c.episode_id, postgresql_using="hash")

attempts = Table(
    "attempts",
    metadata,
    Column("run_id", String(32), primary_key=True),
    Column("call_id", Text, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("service_s", Double, nullable=False),
    Column("error_kind", Text),
    Column("limit_hit", Text),
    Column("paid_unknown", Boolean, nullable=False),
    Column("status_code", Integer),
    Column("retry_after_s", Double),
    # Clustered by run, which is how they are read; a second index would double them.
    sqlite_with_rowid=False,
)

limits = Table(
    "limits",
    metadata,
    Column("run_id", String(32), primary_key=True),
    # 0: the run's own process; of workers a digest of the name and a number.
    Column("part", _NUMBER, primary_key=True),
    # Some 20 bytes an event, where a row each would take 150.
    Column("events", LargeBinary, nullable=False),
)

workers = Table(
    "workers",
    metadata,
    Column("run_id", String(32), primary_key=True),
    Column("worker", Text, primary_key=True),  # empty: the driver, which only shows that it lives
    Column("host", Text, nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("cores", Integer, nullable=False),
    Column("memory_mb", Double, nullable=False),
    Column("began_at", Double, nullable=False),
    Column("holder", Text, nullable=False),  # of leases and reservations
    Column("seen_at", Double, nullable=False),
    Column("episodes", Integer, nullable=False),
    Column("peak_rss_mb", Double),
    Column("standing", Text),  # JSON: what its first in line waits for
)

budgets = Table(
    "budgets",
    metadata,
    Column("name", Text, primary_key=True),
    *(
        Column(f"{kind}_{unit}", BigInteger, nullable=kind == "limit")
        for kind in ("limit", "spent", "held")
        for unit in ("nano_usd", "tokens", "calls")
    ),
)

reservations = Table(
    "reservations",
    metadata,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    Column("budget", Text, nullable=False, index=True),
    Column("holder", Text, nullable=False),
    Column("nano_usd", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("calls", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

sweeps = Table(
    "sweeps",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", Text),
    Column("holder", Text),  # the process that works on it; null: none does
    Column("started_at", Double, nullable=False),
    Column("record", Text, nullable=False),  # JSON: what its last start was to do, and where
)

cells = Table(
    "cells",
    metadata,
    Column("sweep_id", String(32), primary_key=True),
    # Of the settings and the episodes: the same cell has it in every start, whatever its number is there.
    Column("key", String(32), primary_key=True),
    Column("repeat", Integer, primary_key=True),
    Column("started_at", Double, nullable=False),
    # What follows is null in a cell that goes on or was killed.
    Column("status", String(16)),
    Column("run_id", String(32)),
    Column("figures", Text),  # JSON
)
