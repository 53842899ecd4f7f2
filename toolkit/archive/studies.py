"""A row for each sweep that a store holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from toolkit.frames import COUNT, TEXT, TIME, Column, frame_of
from toolkit.limits.holders import is_alive
from toolkit.records import Status

if TYPE_CHECKING:
    import pandas as pd
    import sqlalchemy as sa

SWEEPS = (
    Column("sweep_id", TEXT, "", "the sweep"),
    Column("name", TEXT, "", "as it was given; null if it was not"),
    Column("started_at", TIME, "", "when its first start began"),
    Column("state", TEXT, "", "running, or idle: no process works on it"),
    Column("knobs", TEXT, "", "the settings that its last start went over"),
    Column("cells", COUNT, "cells", "settings of its last start"),
    Column("repeats", COUNT, "", "of each, in its last start"),
    Column("ok", COUNT, "cells", "measured so far, each repeat for itself"),
    Column("partial", COUNT, "cells", "measured, with something missing in a summary"),
    Column("failed", COUNT, "cells", "that failed; its next start tries them again"),
    Column("cancelled", COUNT, "cells", "that its next start goes on with"),
    Column("unfinished", COUNT, "cells", "under way, or left so by a process that died"),
)


def sweeps_frame(connection: sa.Connection) -> pd.DataFrame:
    """Return a row for each sweep, the oldest first."""
    import sqlalchemy as sa

    from toolkit.store import schema

    sweeps, cells = schema.sweeps.c, schema.cells.c
    ended: dict[str, dict[str | None, int]] = {}
    counts = sa.select(cells.sweep_id, cells.status, sa.func.count()).group_by(cells.sweep_id, cells.status)
    for sweep_id, status, count in connection.execute(counts):
        ended.setdefault(sweep_id, {})[status] = count
    rows = []
    for row in connection.execute(sa.select(schema.sweeps).order_by(sweeps.started_at, sweeps.id)):
        record, own = json.loads(row.record), ended.get(row.id, {})
        knobs = list(record["cells"][0]["knobs"]) if record["cells"] else []
        rows.append(
            {
                "sweep_id": row.id,
                "name": row.name,
                "started_at": row.started_at,
                "state": "running" if row.holder is not None and is_alive(row.holder) else "idle",
                "knobs": ", ".join(knobs),
                "cells": len(record["cells"]),
                "repeats": len(record["repeats"]),
                **{status.value: own.get(status.value, 0) for status in Status},
                "unfinished": own.get(None, 0),
            }
        )
    return frame_of(SWEEPS, rows)
