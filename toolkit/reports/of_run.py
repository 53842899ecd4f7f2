"""The page of one run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from toolkit.plots.letters import shown, span
from toolkit.records import EpisodeRecord, Status
from toolkit.reports.figures import BOUNDS, Figures
from toolkit.reports.parts import (
    Absent,
    Alert,
    Column,
    Fold,
    Page,
    Part,
    Section,
    SideBySide,
    Table,
    Text,
    Tile,
    Writing,
    cut,
)
from toolkit.reports.plotted import plots_of_run
from toolkit.reports.settings import environment_parts, settings_parts
from toolkit.reports.wording import (
    NONE,
    count,
    counted,
    duration,
    in_seconds,
    is_missing,
    listed,
    moment,
    money,
    percent,
    plain,
    real,
)
from toolkit.runs import Run

if TYPE_CHECKING:
    import pandas as pd

MOST_EPISODES = 200
MOST_ERRORS = 100
MOST_SUMMARIES = 200
MOST_CHARACTERS = 6000
"""Of a summary."""
_NAME_WIDTH = 60
_CELL_WIDTH = 36


def page_of_run(run: Run, references: Mapping[str, str]) -> Page:
    """Return the page of a run; ``references`` are summaries by people, by the ids of their episodes."""
    of = Figures(run)
    return Page(
        title=f"Run {plain(run.id, _NAME_WIDTH)}",
        facts=facts_of(of),
        alerts=alerts_of(of),
        tiles=_tiles(of),
        sections=[
            Section("time", "Where the time went", _time(of)),
            Section("plots", "Plots", plots_of_run(of)),
            Section("episodes", "Episodes", [_episodes(of)]),
            Section("errors", "Errors", errors_of(of)),
            Section("limits", "Limits", _limits(run)),
            Section("summaries", "Summaries", _summaries(run, references)),
            Section("settings", "Settings", settings_parts(run.config)),
            Section("environment", "Environment", environment_parts(run.environment)),
        ],
    )


def facts_of(of: Figures) -> list[tuple[str, str]]:
    """Return what a run was, when, and where it is kept."""
    run = of.run
    if of.simulated:
        kept = "nowhere: simulated runs are not kept"
    elif run.store in (None, "memory://"):
        kept = "in the memory of the process that made it"
    else:
        kept = plain(run.store)
    return [
        ("Provider", plain(run.provider)),
        ("Model", plain(run.model)),
        ("Began", moment(of.began_at)),
        ("State", run.state),
        ("Kept", kept),
    ]


def alerts_of(of: Figures) -> list[Alert]:
    """Return what must be known before any figure of a run is read."""
    run, found = of.run, of.episodes
    alerts = []
    if of.simulated:
        alerts.append(
            Alert("Simulated", "Nothing was called: all times are computed, and there are no texts.")
        )
    ended = sum(found.values()) - found.get(Status.CANCELLED, 0)
    given = f" of {run.episodes_given:,}" if run.episodes_given is not None else ""
    go_on = "Started again with the same settings, it goes on from what is kept."
    if run.state == "running":
        text = f"When this page was made {ended:,}{given} episodes had ended; all figures are those so far."
        alerts.append(Alert("Still running", text))
    elif run.state == "died":
        text = f"Its process ended before it did, after {ended:,}{given} episodes. {go_on}"
        alerts.append(Alert("Died", text, "bad"))
    elif run.stopped_because:
        alerts.append(Alert("Stopped by itself", f"{plain(run.stopped_because)} {go_on}", "bad"))
    elif run.interrupted:
        alerts.append(
            Alert("Interrupted", f"Stopped before its end, after {ended:,}{given} episodes. {go_on}", "bad")
        )
    # What a run that goes on has not ended is not missing.
    lost = ("partial", "failed", *(["cancelled"] if run.state != "running" else []))
    missing = [f"{found[status]:,} {status}" for status in lost if status in found]
    if missing:
        text = f"{listed(missing)} of {counted(sum(found.values()), 'episode')}; the episodes below say why."
        alerts.append(Alert("Something is missing", text, "bad"))
    if of.calls_reused:
        text = (
            f"{of.run.reused}. They were answered from the store in next to no time, so that the makespan is "
            "not that of a run which asks everything; they are in no rate, wait or latency."
        )
        alerts.append(Alert("Reused", text))
    return alerts


def _tiles(of: Figures) -> list[Tile]:
    run, longest = of.run, of.longest_phase
    given = sum(of.episodes.values())
    ended = listed([f"{number:,} {status}" for status, number in of.episodes.items()])
    rate_note = "not stated: calls were reused" if of.calls_reused else ""
    at_once = f"{real(of.at_once)} calls under way at a time" if of.at_once else ""
    return [
        Tile("Episodes summarized", f"{of.summarized:,} of {given:,}", ended),
        Tile("Makespan", duration(of.makespan_s), reuse_note(of)),
        Tile("Episodes an hour", real(of.episodes_per_h), rate_note),
        Tile(
            "Output tokens/s",
            real(of.tokens_per_s("output_tokens")),
            f"{real(of.tokens_per_s('input_tokens'))} input tokens/s",
        ),
        Tile("Calls made", count(of.calls), f"{of.failed_calls:,} failed, {of.calls_reused:,} reused"),
        Tile("Cost", money(of.cost_usd), cost_note(of)),
        Tile(
            "Refused as too many", count(of.rate_limited_attempts), "attempts that a server answered with 429"
        ),
        Tile(
            "Quota used",
            percent(run.quota_share),
            "no request waited for a limit" if run.quota_share is None else "of the limit that bound",
        ),
        Tile(
            "Most time went to",
            NONE if longest is None else BOUNDS[longest.column],
            "" if longest is None else f"{percent(longest.share)} of the calls' time; {at_once}".rstrip("; "),
        ),
    ]


def reuse_note(of: Figures) -> str:
    """Say beside a makespan that some of it was another run's work."""
    return f"with {counted(of.calls_reused, 'reused call')}" if of.calls_reused else ""


def cost_note(of: Figures) -> str:
    """Say what a cost leaves out."""
    saved = of.totals["saved_usd"]
    notes = []
    if of.cost_usd is None and of.calls:
        notes.append("no price is known")
    elif of.unpriced:
        notes.append(f"at least: {of.unpriced:,} calls have no price")
    if saved:
        notes.append(f"{money(saved)} saved by reuse")
    return "; ".join(notes)


def _time(of: Figures) -> list[Part]:
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


def _episodes(of: Figures) -> Part:
    frame = of.run.episodes
    if frame.empty:
        return Absent(
            "Episodes", "None had ended." if of.run.state in ("running", "died") else "There were none."
        )
    is_ok = frame["status"] == "ok"
    if len(frame) > MOST_EPISODES:
        order = frame.assign(is_ok=is_ok).sort_values(
            ["is_ok", "total_s"], ascending=[True, False], kind="stable"
        )
        frame = order.drop(columns="is_ok")
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
    rows, note = cut(
        [
            [
                shown(row.episode_id, _CELL_WIDTH),
                *([shown(row.title, _CELL_WIDTH)] if has_titles else []),
                row.status,
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
            for row in frame.head(MOST_EPISODES + 1).itertuples(index=False)
        ],
        MOST_EPISODES,
        "",
    )
    if note:
        note = (
            f"{MOST_EPISODES:,} of {len(frame):,} are shown: first those that are not ok, then those that "
            f"took longest. All of them: {way_to(of.run, 'episodes')}"
        )
    caption = "Episodes: service and waits are summed over calls, which may be under way at the same time"
    return Table(caption, columns, rows, note)


def name_of(text: Any) -> str:
    """Return an id or a title, its middle left out where it is long."""
    return shown(text, _NAME_WIDTH)


def error_of(text: Any, most: int = 500) -> str:
    """Return an error's message, or nothing."""
    return "" if is_missing(text) else plain(text, most)


def way_to(run: Run, frame: str) -> str:
    """Return how to get a whole frame of a run."""
    if run.store in (None, "memory://"):
        return f"run.{frame}, or run.save(folder)"
    return f"tk.open_store().{frame}({run.id!r}), or run.save(folder)"


def errors_of(of: Figures) -> list[Part]:
    """Return the errors of a run by kind, and its failed calls."""
    attempts, calls = of.run.attempts, of.own_calls
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
                    NONE if is_missing(code) else str(int(code)),
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
    failed = calls[calls["status"] == Status.FAILED.value]
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


def _limits(run: Run) -> list[Part]:
    frame = run.limits
    if frame.empty:
        if run.state == "running":
            return [Absent("Limits", "What the limiter did is written when the run ends.")]
        return [Absent("Limits", "No limiter: nothing of this run went through one.")]
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


def _summaries(run: Run, references: Mapping[str, str]) -> list[Part]:
    if not run.records:
        return [Absent("Summaries", "There are none.")]
    parts: list[Part] = [
        Fold(heading_of(record), [SideBySide(_writings(record, references))])
        for record in run.records[:MOST_SUMMARIES]
    ]
    if len(run.records) > MOST_SUMMARIES:
        parts.append(
            Text(
                f"The first {MOST_SUMMARIES:,} of {len(run.records):,} are here. "
                f"All of them: {way_to(run, 'episodes')}"
            )
        )
    return parts


def heading_of(record: EpisodeRecord) -> str:
    """Return an episode's title, with its id where that is another, and how it ended."""
    title, name = shown(record.title, _NAME_WIDTH), name_of(record.episode_id)
    return f"{title if title == name else f'{title} ({name})'}: {record.summary.status}"


def _writings(record: EpisodeRecord, references: Mapping[str, str]) -> list[Writing]:
    found = [writing_of(record, "Summary")]
    if record.episode_id in references:
        text = plain(references[record.episode_id], MOST_CHARACTERS)
        found.append(Writing("Reference, written by a person", text))
    return found


def writing_of(record: EpisodeRecord | None, heading: str) -> Writing:
    """Return the summary of an episode, and what is missing from it."""
    if record is None:
        return Writing(heading, "", "not in this run")
    summary = record.summary
    note = error_of(summary.error)
    if not summary.text and not note:
        note = "no text was kept"
    return Writing(heading, plain(summary.text, MOST_CHARACTERS), note)
