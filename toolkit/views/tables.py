"""The tables of a run: phases, episodes, errors and limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from toolkit import frames
from toolkit.metrics import reused
from toolkit.parts import Absent, Column, Part, Table, Text, cut
from toolkit.records import Status
from toolkit.views.figures import BOUNDS, Figures, Ran
from toolkit.wording import NONE, count, in_seconds, is_missing, money, percent, plain, real, shown, span

if TYPE_CHECKING:
    import pandas as pd

MOST_EPISODES = 200
MOST_ERRORS = 100
NO_LIMITER = "No limiter: nothing of this run went through one."
NOT_WRITTEN = "What the limiter did is written when a run ends, and this one has not."
_NAME_WIDTH = 60
_CELL_WIDTH = 36


def time_of(of: Figures) -> list[Part]:
    """Return where the time of a run's calls went."""
    if not of.phases:
        return [Absent("Phases", "No call of this run took any time of its own.")]
    longest = of.longest_phase
    assert longest is not None
    width = of.at_once
    at_once = f" On average {real(width)} calls were under way at a time." if width else ""
    rows = [
        [phase.label, BOUNDS[phase.column], in_seconds(phase.seconds), percent(phase.share)]
        for phase in of.phases
    ]
    columns = [Column("phase"), Column("held up by"), Column("time", "s", True), Column("share", "", True)]
    return [
        Text(
            f"Of all the time between the start and the end of a call, {percent(longest.share)} went to "
            f"{BOUNDS[longest.column]}.{at_once}"
        ),
        Table("Phases of the calls, summed over them", columns, rows),
    ]


def episodes_of(of: Figures, most: int = MOST_EPISODES) -> Part:
    """Return a row for each episode; of too many those that are not ok, and those that took longest."""
    records = list(of.run.records)
    if not records:
        return Absent(
            "Episodes", "None had ended." if of.run.state in ("running", "died") else "There were none."
        )
    if len(records) > most:
        # Their frame alone would take a notebook seconds.
        records.sort(key=lambda record: (record.summary.status is Status.OK, -record.total_s))
    frame = frames.episodes_frame(of.run.id, records[:most], of.run.provider, of.run.model)
    has_titles = bool((frame["title"] != frame["episode_id"]).any())
    has_errors = bool(frame["error"].notna().any())
    columns = [
        Column("episode"),
        *([Column("title")] if has_titles else []),
        Column("status"),
        *([Column("error")] if has_errors else []),
        Column("words", "", True),
        Column("chunks", "", True),
        Column("calls", "", True),
        *([Column("reused", "calls", True)] if of.calls_reused else []),
        Column("input", "tokens", True),
        Column("output", "tokens", True),
        Column("total", "s", True),
        Column("service", "s", True),
        Column("waits", "s", True),
        Column("cost", "", True),
    ]
    rows = [
        [
            shown(row.episode_id, _CELL_WIDTH),
            *([shown(row.title, _CELL_WIDTH)] if has_titles else []),
            str(row.status),
            *([error_of(row.error, 110)] if has_errors else []),
            count(row.words),
            count(row.chunks),
            count(row.calls),
            *([count(row.calls_reused)] if of.calls_reused else []),
            count(row.input_tokens),
            count(row.output_tokens),
            in_seconds(row.total_s),
            in_seconds(row.service_s),
            in_seconds(row.wait_s),
            money(row.cost_usd),
        ]
        for row in frame.itertuples(index=False)
    ]
    note = ""
    if len(of.run.records) > most:
        note = (
            f"{most:,} of {len(of.run.records):,} are shown: first those that are not ok, then those that "
            f"took longest. All of them: {way_to(of.run, 'episodes')}"
        )
    caption = "Episodes: service and waits are summed over calls, which may be under way at the same time"
    return Table(caption, columns, rows, note)


def errors_of(of: Figures) -> list[Part]:
    """Return the errors of a run by kind, and its failed calls."""
    attempts, calls = of.run.attempts, of.run.calls
    bad = attempts[attempts["error_kind"].notna()]
    parts: list[Part] = []
    if len(bad):
        keys = ["error_kind", "status_code", "limit_hit"]
        groups = bad.groupby(keys, dropna=False, sort=False)
        rows = [
            (
                len(group),
                [
                    plain(kind, 80),
                    count(code),
                    NONE if is_missing(limit) else plain(limit, 80),
                    count(len(group)),
                    count(group["call_id"].nunique()),
                    in_seconds(group["retry_after_s"].max()),
                    in_seconds(group["service_s"].sum()),
                ],
            )
            for (kind, code, limit), group in groups
        ]
        parts.append(
            Table(
                "Attempts that failed, by kind",
                [
                    Column("error"),
                    Column("HTTP status", "", True),
                    Column("limit named"),
                    Column("attempts", "", True),
                    Column("calls", "", True),
                    Column("longest Retry-After", "s", True),
                    Column("time", "s", True),
                ],
                [row for _, row in sorted(rows, key=lambda each: -each[0])],
            )
        )
    failed = calls[(calls["status"] == Status.FAILED.value) & ~reused(calls)]
    if len(failed):
        rest = way_to(of.run, "calls")
        cells, note = cut([_failed(row) for row in failed.itertuples(index=False)], MOST_ERRORS, rest)
        columns = [
            Column("call"),
            Column("episode"),
            Column("stage"),
            Column("chunk", "", True),
            Column("attempts", "", True),
            Column("total", "s", True),
            Column("error"),
        ]
        parts.append(Table("Calls that failed", columns, cells, note))
    if parts:
        return parts
    return [Text("No attempt failed." if len(attempts) else "No attempt was made.")]


def _failed(row: Any) -> list[str]:
    chunk = NONE if is_missing(row.chunk_index) else str(int(row.chunk_index))
    return [
        name_of(row.call_id),
        name_of(row.episode_id),
        row.stage,
        chunk,
        count(row.attempts),
        in_seconds(row.total_s),
        error_of(row.error),
    ]


def limits_of(of: Figures) -> list[Part]:
    """Return the limits in force, and what the limiter did."""
    frame = of.run.limits
    if frame.empty:
        return [Absent("Limits", NOT_WRITTEN if of.limits_unwritten else NO_LIMITER)]
    rows = [
        [
            name_of(key),
            _in_force(events["requests_limit"]),
            _in_force(events["tokens_limit"]),
            _in_force(events["slot_cap"]),
        ]
        for key, events in frame.groupby("quota_key", sort=False)
    ]
    did = frame["event"].value_counts()
    return [
        Table(
            "Limits in force",
            [
                Column("quota key"),
                Column("requests", "1/min", True),
                Column("tokens", "1/min", True),
                Column("in flight", "requests", True),
            ],
            rows,
        ),
        Table(
            "What the limiter did",
            [Column("event"), Column("times", "", True)],
            [[plain(event, 80), count(times)] for event, times in did.items()],
        ),
    ]


def _in_force(values: pd.Series) -> str:
    known = values.dropna()
    return "none" if known.empty else span(known.astype("float64"))


def name_of(text: Any) -> str:
    """Return an id or a title, its middle left out where it is long."""
    return shown(text, _NAME_WIDTH)


def error_of(text: Any, most: int = 500) -> str:
    """Return an error's message, or nothing."""
    return "" if is_missing(text) else plain(text, most)


def way_to(run: Ran, frame: str) -> str:
    """Return how to get a whole frame of a run."""
    if run.store in (None, "memory://"):
        return f"run.{frame}, or run.save(folder)"
    return f"tk.open_store().{frame}({run.id!r}), or run.save(folder)"
