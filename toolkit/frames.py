"""From records to DataFrames: every column is declared once, with type, unit and meaning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from toolkit.harmless import whole_characters
from toolkit.limits import LimitEvent
from toolkit.records import CallRecord, EpisodeRecord, Status, WorkerRecord

if TYPE_CHECKING:
    import pandas as pd

TEXT, FLAG, COUNT, REAL, TIME = "str", "bool", "Int64", "float64", "datetime64[us, UTC]"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a frame; ``unit`` is empty for names and flags."""

    name: str
    dtype: str
    unit: str
    meaning: str


EPISODES = (
    Column("run_id", TEXT, "", "the run"),
    Column("episode_id", TEXT, "", "the episode; unique within the run"),
    Column("title", TEXT, "", "its title"),
    Column("provider", TEXT, "", "who summarized"),
    Column("model", TEXT, "", "with which model"),
    Column("status", TEXT, "", "ok, partial, failed or cancelled"),
    Column("error", TEXT, "", "what is missing and from which chunk; null if nothing is"),
    Column("words", COUNT, "words", "words spoken in the transcript"),
    Column("chunks", COUNT, "chunks", "parts that the text was cut into; null if it was not reached"),
    Column("calls", COUNT, "calls", "requests, whatever their end"),
    Column("calls_reused", COUNT, "calls", "those answered from what was stored"),
    Column("input_tokens", COUNT, "tokens", "sum over its calls"),
    Column("output_tokens", COUNT, "tokens", "sum over its calls"),
    Column("total_s", REAL, "s", "wall-clock time from its start to its end"),
    Column("service_s", REAL, "s", "model at work, summed over its calls"),
    Column("wait_s", REAL, "s", "waiting for whatever cause, summed over its calls"),
    Column(
        "cost_usd",
        REAL,
        "USD",
        "over its calls; 0 for reused ones; null if a price or an outcome is unknown",
    ),
    Column("summary", TEXT, "", "the summary; null if there is none"),
    Column("worker", TEXT, "", "the process that worked on it; null: the run's own"),
)

CALLS = (
    Column("run_id", TEXT, "", "the run"),
    Column("episode_id", TEXT, "", "the episode"),
    Column("call_id", TEXT, "", "the call; unique within the run"),
    Column("stage", TEXT, "", "direct, map or reduce"),
    Column("chunk_index", COUNT, "", "place of the chunk from 0; null outside map"),
    Column("provider", TEXT, "", "who was asked"),
    Column("model", TEXT, "", "which model"),
    Column("status", TEXT, "", "ok, failed or cancelled"),
    Column("stop_reason", TEXT, "", "why the model stopped writing; null without a reply"),
    Column("attempts", COUNT, "attempts", "tries made"),
    Column("reused", FLAG, "", "answered from what was stored"),
    Column("input_tokens", COUNT, "tokens", "as token_counter counted them"),
    Column("output_tokens", COUNT, "tokens", "as token_counter counted them"),
    Column("cached_tokens", COUNT, "tokens", "input tokens that the server had cached"),
    Column("token_counter", TEXT, "", "who counted"),
    Column("started_at", TIME, "", "when the call was made"),
    Column("queue_s", REAL, "s", "waiting for a local model to take it"),
    Column("wait_requests_s", REAL, "s", "waiting for the limit on requests; null without a limiter"),
    Column("wait_tokens_s", REAL, "s", "waiting for the limit on tokens; null without a limiter"),
    Column("wait_slots_s", REAL, "s", "waiting for a free slot; null without a limiter"),
    Column("wait_cooldown_s", REAL, "s", "waiting after a server's refusal; null without a limiter"),
    Column("retry_wait_s", REAL, "s", "waiting before another attempt"),
    Column("failed_attempts_s", REAL, "s", "attempts that failed"),
    Column("service_s", REAL, "s", "model at work"),
    Column("prompt_s", REAL, "s", "its part up to the first token; null for hosted models, and if not told"),
    Column("decode_s", REAL, "s", "its part from there on; null likewise"),
    Column("overhead_s", REAL, "s", "the toolkit's own time"),
    Column("total_s", REAL, "s", "from the call to its end; the sum of the phases"),
    Column("tokens_per_s", REAL, "tokens/s", "output tokens by decode_s; null if that is, or is no time"),
    Column("batch_size", COUNT, "requests", "at work together, mean over service_s; null for hosted models"),
    Column("cost_usd", REAL, "USD", "null if the price is not known"),
    Column("worker", TEXT, "", "the thread that made it, or the worker process where that is another"),
    Column("error", TEXT, "", "the error's message; null if there was none"),
    Column("saved_usd", REAL, "USD", "what a reused answer cost when it was made; null if made or not known"),
    Column("key", TEXT, "", "digest of all that the answer depends on; equal in runs that asked the same"),
)

ATTEMPTS = (
    Column("run_id", TEXT, "", "the run"),
    Column("call_id", TEXT, "", "the call"),
    Column("attempt", COUNT, "", "number of the try, from 1"),
    Column("status_code", COUNT, "", "HTTP status, where there is one"),
    Column("error_kind", TEXT, "", "class of the error; null if it went well"),
    Column("limit_hit", TEXT, "", "the limit that the server named; null if none"),
    Column("retry_after_s", REAL, "s", "what the server asked to wait"),
    Column("paid_unknown", FLAG, "", "it may have been answered and charged although no answer came"),
    Column("service_s", REAL, "s", "length of the try"),
)

LIMITS = (
    Column("run_id", TEXT, "", "the run"),
    Column("t_s", REAL, "s", "time since the run's start; before it, negative, by other runs"),
    Column("quota_key", TEXT, "", "the pool that calls draw from"),
    Column("event", TEXT, "", "admitted, settled, refused, cooldown, cut, grown, learned, retuned …"),
    Column("requests_60s", COUNT, "requests", "admitted in the last 60 s"),
    Column("tokens_60s", COUNT, "tokens", "charged in the last 60 s"),
    Column("in_flight", COUNT, "requests", "admitted and not yet settled"),
    Column("slot_cap", COUNT, "requests", "how many may be in flight now; null if there is no cap"),
    Column("waiting", COUNT, "requests", "in line in this process"),
    Column("requests_limit", COUNT, "requests/min", "in force; null if there is none"),
    Column("tokens_limit", COUNT, "tokens/min", "in force; null if there is none"),
    Column("server_remaining_requests", COUNT, "requests", "as the last headers said; null if they did not"),
    Column("server_remaining_tokens", COUNT, "tokens", "as the last headers said; null if they did not"),
    Column("lease_id", COUNT, "", "the lease that begins or ends; null with other events"),
    Column("requests", COUNT, "requests", "what the event adds to what counts"),
    Column("tokens", COUNT, "tokens", "likewise; a settlement corrects what was reserved"),
    Column("input_tokens", COUNT, "tokens", "likewise"),
    Column("output_tokens", COUNT, "tokens", "likewise"),
)

WORKERS = (
    Column("run_id", TEXT, "", "the run"),
    Column("worker", TEXT, "", "the process: its host and its id there"),
    Column("host", TEXT, "", "the machine's name"),
    Column("pid", COUNT, "", "the process's id"),
    Column("cores", COUNT, "cores", "that it may use"),
    Column("memory_mb", REAL, "MB", "of its machine"),
    Column("episodes", COUNT, "episodes", "that it ended, also in vain"),
    Column("began_at", TIME, "", "when it began, by its own clock"),
    Column("seen_at", TIME, "", "when it gave its last sign of life"),
    Column("peak_rss_mb", REAL, "MB", "most memory that it took; null if not known"),
)

CELLS = (
    Column("sweep_id", TEXT, "", "the sweep"),
    Column("cell", COUNT, "", "number of the setting, from 1; its knobs have a column each, behind repeat"),
    Column("repeat", COUNT, "", "number of the repeat"),
    Column("simulated", FLAG, "", "computed, not run"),
    Column("status", TEXT, "", "ok, partial, failed or cancelled"),
    Column("error", TEXT, "", "why it is not ok; null if it is"),
    Column("makespan_s", REAL, "s", "from its first episode's start to its last one's end; null if resumed"),
    Column("episodes_per_h", REAL, "episodes/h", "summarized, also in part; null if resumed"),
    Column("output_tokens_per_s", REAL, "tokens/s", "over the makespan; null if resumed"),
    Column("rate_limited_attempts", COUNT, "attempts", "that the server refused as too many"),
    Column("quota_share", REAL, "", "share of the limit that bound; null if nobody waited for one"),
    Column("cost_usd", REAL, "USD", "of its calls, whenever they were made; null if no price is known"),
    Column("rouge1", REAL, "", "F-measure against references, mean over episodes; null without any"),
    Column("rouge2", REAL, "", "likewise"),
    Column("rougeL", REAL, "", "likewise"),
    Column("peak_rss_mb", REAL, "MB", "most memory of the process; null if simulated or not known"),
    Column("order", COUNT, "", "place in the order of measurement, from 1"),
    Column("started_at", TIME, "", "when it began; null if it did not"),
    Column("calls", COUNT, "calls", "made by it, without reused and cancelled ones"),
    Column("calls_reused", COUNT, "calls", "taken from its own unfinished starts"),
    Column("resumed", FLAG, "", "begun in an earlier start, so that its times are no measurement"),
    Column("kept", FLAG, "", "measured in an earlier start of the sweep, and taken as it was then"),
    Column("parallel", COUNT, "cells", "measured at a time; above 1 they share the machine"),
    Column("run_id", TEXT, "", "its run in the store; null if simulated or without one"),
)
LOWER_IS_BETTER = frozenset({"makespan_s", "cost_usd", "rate_limited_attempts", "peak_rss_mb"})
"""Columns of cells of which less is better; of all other measures more is."""

WAITS = (
    "queue_s",
    "wait_requests_s",
    "wait_tokens_s",
    "wait_slots_s",
    "wait_cooldown_s",
    "retry_wait_s",
)
"""Phases of a call in which it waits."""


def episodes_frame(run_id: str, records: Sequence[EpisodeRecord], provider: str, model: str) -> pd.DataFrame:
    """Make the frame ``episodes``, a row for each record, in their order."""

    def row(record: EpisodeRecord) -> dict[str, Any]:
        summary = record.summary
        # What failed without a reply cost nothing, unless nobody knows whether it did.
        costs = [
            call.cost_usd
            for call in summary.calls
            if call.status is Status.OK or any(attempt.paid_unknown for attempt in call.attempts)
        ]
        return {
            "run_id": run_id,
            "episode_id": record.episode_id,
            "title": record.title,
            "provider": provider,
            "model": model,
            "status": summary.status.value,
            "error": summary.error,
            "words": record.words,
            "chunks": summary.chunks or None,
            "calls": len(summary.calls),
            "calls_reused": sum(call.reused for call in summary.calls),
            "input_tokens": sum(call.input_tokens or 0 for call in summary.calls),
            "output_tokens": sum(call.output_tokens or 0 for call in summary.calls),
            "total_s": record.total_s,
            "service_s": sum(call.service_s for call in summary.calls),
            "wait_s": sum(getattr(call, wait) or 0.0 for call in summary.calls for wait in WAITS),
            "cost_usd": sum(cost for cost in costs if cost is not None)
            if costs and None not in costs
            else None,
            "summary": summary.text or None,
            "worker": record.worker or None,
        }

    return frame_of(EPISODES, map(row, records))


def calls_frame(run_id: str, records: Iterable[EpisodeRecord]) -> pd.DataFrame:
    """Make the frame ``calls``, a row for each call, in the order in which they began."""

    def row(call: CallRecord) -> dict[str, Any]:
        values = {column.name: getattr(call, column.name, None) for column in CALLS}
        tokens, seconds = call.output_tokens, call.decode_s
        return values | {
            "run_id": run_id,
            "tokens_per_s": tokens / seconds if seconds and tokens is not None else None,
            "stage": call.stage.value,
            "status": call.status.value,
            "stop_reason": call.stop_reason.value if call.stop_reason else None,
            "attempts": len(call.attempts),
            "key": call.key or None,
        }

    calls = sorted(
        (call for record in records for call in record.summary.calls), key=lambda call: call.started_at
    )
    return frame_of(CALLS, map(row, calls))


def attempts_frame(run_id: str, records: Iterable[EpisodeRecord]) -> pd.DataFrame:
    """Make the frame ``attempts``, a row for each try of each call."""

    def row(attempt: Any) -> dict[str, Any]:
        values = {column.name: getattr(attempt, column.name, None) for column in ATTEMPTS}
        return values | {"run_id": run_id}

    attempts = [attempt for record in records for call in record.summary.calls for attempt in call.attempts]
    return frame_of(ATTEMPTS, map(row, attempts))


def workers_frame(run_id: str, records: Iterable[WorkerRecord]) -> pd.DataFrame:
    """Make the frame ``workers``, a row for each worker process, in the order in which they began."""
    return frame_of(WORKERS, ({**asdict(record), "run_id": run_id} for record in records))


def limits_frame(run_id: str, events: Iterable[LimitEvent], began_at: float) -> pd.DataFrame:
    """Make the frame ``limits``, a row for each event of the limiter; ``began_at`` is epoch seconds."""

    def row(event: LimitEvent) -> dict[str, Any]:
        return {**event._asdict(), "run_id": run_id, "t_s": event.t_s - began_at}

    return frame_of(LIMITS, map(row, events))


def frame_of(columns: Sequence[Column], rows: Iterable[Mapping[Any, Any]]) -> pd.DataFrame:
    """Make a frame of exactly the declared columns and types, also of no rows at all.

    Parameters
    ----------
    columns : sequence of Column
    rows : iterable of mapping
        With a value for each column, times as epoch seconds; what they have besides is left out.

    Raises
    ------
    KeyError
        If a row has no value for a column.
    """
    import pandas as pd

    taken = list(rows)
    data = {}
    for column in columns:
        values = [row[column.name] for row in taken]
        if column.dtype == TIME:
            moments = pd.to_datetime(pd.Series(values, dtype="float64"), unit="s", utc=True)
            data[column.name] = moments.dt.as_unit("us")
            continue
        if column.dtype == TEXT:
            values = [whole_characters(value) if isinstance(value, str) else value for value in values]
        data[column.name] = pd.Series(values, dtype=column.dtype)
    return pd.DataFrame(data)
