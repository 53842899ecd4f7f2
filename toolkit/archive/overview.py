"""A row for each run: all runs, and some side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from toolkit.archive.history import runs_rows
from toolkit.errors import RateLimited
from toolkit.frames import COUNT, REAL, TEXT, TIME, Column, frame_of

if TYPE_CHECKING:
    import pandas as pd
    import sqlalchemy as sa

RUNS = (
    Column("run_id", TEXT, "", "the run"),
    Column("started_at", TIME, "", "when it began"),
    Column("state", TEXT, "", "running, died (its process ended before it), complete, interrupted, stopped "
           "(by an error that every call would meet), or incomplete (episodes failed or were cancelled)"),
    Column("provider", TEXT, "", "who summarized"),
    Column("model", TEXT, "", "with which model"),
    Column("episodes", COUNT, "episodes", "given to it; null if a generator gave them and it has not ended"),
    Column("ok", COUNT, "episodes", "summarized"),
    Column("partial", COUNT, "episodes", "summarized with something missing"),
    Column("failed", COUNT, "episodes", "without a summary"),
    Column("cancelled", COUNT, "episodes", "not done when it ended"),
    Column("calls", COUNT, "calls", "made, without reused and cancelled ones"),
    Column("calls_reused", COUNT, "calls", "answered from what was stored"),
    Column("input_tokens", COUNT, "tokens", "sum over the calls made"),
    Column("output_tokens", COUNT, "tokens", "sum over the calls made"),
    Column("cost_usd", REAL, "USD", "sum over the calls made; null if no price is known"),
    Column("saved_usd", REAL, "USD", "what reused answers cost when they were made; null if not known"),
    Column("makespan_s", REAL, "s", "from its start to its end; null if it has none"),
    Column("peak_rss_mb", REAL, "MB", "most memory of its process meanwhile; null if not known"),
    Column("reuse", TEXT, "", "which stored answers it took: all, run or none"),
    Column("repeat", COUNT, "", "number of the independent repeat"),
    Column("stopped_because", TEXT, "", "the error for which it stopped by itself; null if it did not"),
)  # fmt: skip

FIGURES = (
    Column("makespan_s", REAL, "s", "from its start to its end; null if it has none"),
    Column("episodes_per_h", REAL, "episodes/h", "summarized, also in part and from what was stored"),
    Column("calls", COUNT, "calls", "made, without reused and cancelled ones"),
    Column("calls_reused", COUNT, "calls", "answered from what was stored"),
    Column("output_tokens_per_s", REAL, "tokens/s", "of the calls made, over the makespan"),
    Column("cost_usd", REAL, "USD", "sum over the calls made; null if no price is known"),
    Column("ok", COUNT, "episodes", "summarized"),
    Column("partial", COUNT, "episodes", "summarized with something missing"),
    Column("failed", COUNT, "episodes", "without a summary"),
    Column("rate_limited_attempts", COUNT, "attempts", "that the server refused as too many"),
    Column("quota_share", REAL, "", "share of the limit that bound; null if nobody waited for one"),
    Column("peak_rss_mb", REAL, "MB", "most memory of its process meanwhile; null if not known"),
)


def runs_frame(connection: sa.Connection, ids: Sequence[str] | None) -> pd.DataFrame:
    """Return a row for each of some runs, or of all, the oldest first."""
    empty = {column.name: None for column in RUNS}
    return frame_of(RUNS, (empty | values for values in runs_rows(connection, ids)))


def compare_frame(connection: sa.Connection, ids: Sequence[str]) -> pd.DataFrame:
    """Return the settings in which runs differ, and their figures, in the order of the ids."""
    import sqlalchemy as sa

    from toolkit.store import schema

    runs, attempts = schema.runs.c, schema.attempts.c
    configs = connection.execute(sa.select(runs.id, runs.config).where(runs.id.in_(ids)))
    settings = {row.id: json.loads(row.config) for row in configs}
    refusals = connection.execute(
        sa.select(attempts.run_id, sa.func.count())
        .where(attempts.run_id.in_(ids), attempts.error_kind == RateLimited.__name__)
        .group_by(attempts.run_id)
    )
    refused = {row[0]: row[1] for row in refusals}
    found = {}
    for values in runs_rows(connection, ids):
        run_id, span_s = values["run_id"], values["makespan_s"] or None
        settings[run_id] |= {name: values[name] for name in ("provider", "model")}
        summarized = values.get("ok", 0) + values.get("partial", 0)
        found[run_id] = values | {
            "episodes_per_h": span_s and 3600 * summarized / span_s,
            "output_tokens_per_s": span_s and values.get("output_tokens", 0) / span_s,
            "rate_limited_attempts": refused.get(run_id, 0),
        }
    names = dict.fromkeys(name for run_id in ids for name in settings[run_id])
    differ = [
        name
        for name in names
        if len({json.dumps(settings[run_id].get(name), sort_keys=True) for run_id in ids}) > 1
    ]
    empty = {column.name: None for column in FIGURES}
    frame = frame_of(FIGURES, (empty | found[run_id] for run_id in ids))
    for place, name in enumerate(differ):
        frame.insert(place, name, [settings[run_id].get(name) for run_id in ids])
    frame.insert(0, "run_id", list(ids))
    return frame
