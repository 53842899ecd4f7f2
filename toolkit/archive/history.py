"""What a store holds of runs: which there are, how they ended, and their records as they made them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING, Any

from toolkit.config import Config
from toolkit.errors import ConfigError
from toolkit.limits import LimitEvent
from toolkit.limits.holders import is_alive
from toolkit.limits.share import merge_events
from toolkit.records import CallRecord, EpisodeRecord, Status, Summary
from toolkit.runs import Run

if TYPE_CHECKING:
    import sqlalchemy as sa

ENDED = "the run ended before this episode did"
GOES_ON = "the run goes on, and this episode has not ended"
_SHOWN_IDS = 5


# Which runs


def find_runs(connection: sa.Connection, given: Iterable[str], shown: str) -> list[str]:
    """Return the ids of runs that are named by their ids, or by the beginnings of those.

    Raises
    ------
    ConfigError
        If there is no such run in the store (``shown`` says which that is), or more than one.
    """
    return list(dict.fromkeys(_find_run(connection, name, shown) for name in given))


def _find_run(connection: sa.Connection, name: str, shown: str) -> str:
    import sqlalchemy as sa

    from toolkit.store import schema

    if not isinstance(name, str) or not name:
        raise ConfigError(f"{name!r} is no id of a run; open_store().runs() lists them")
    ids = sa.select(schema.runs.c.id).order_by(schema.runs.c.number.desc())
    found = list(connection.scalars(ids.where(schema.runs.c.id.startswith(name, autoescape=True))))
    if name in found:
        return name
    if len(found) == 1:
        return str(found[0])
    if found:
        raise ConfigError(f"{name!r} begins the ids of {len(found)} runs: {_some(found)}; write more of it")
    known = list(connection.scalars(ids))
    if not known:
        raise ConfigError(f"no run {name!r}: the store {shown} holds none")
    if close := get_close_matches(name, known, n=1, cutoff=0.6):
        raise ConfigError(f"no run {name!r} in the store {shown}; did you mean {close[0]!r}?")
    raise ConfigError(f"no run {name!r} in the store {shown}; its newest are {_some(known)}")


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:_SHOWN_IDS]) + (" …" if len(ids) > _SHOWN_IDS else "")


def running_ids(connection: sa.Connection) -> list[str]:
    """Return the ids of the runs that go on in a process that lives."""
    import sqlalchemy as sa

    from toolkit.store import schema

    runs = schema.runs.c
    alive = cache(is_alive)  # where there is no /proc, each look starts a process
    rows = connection.execute(sa.select(runs.id, runs.holder).where(runs.ended_at.is_(None))).all()
    return [row.id for row in rows if alive(row.holder)]


# The runs themselves


def runs_rows(connection: sa.Connection, ids: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    """Yield the values of each run, oldest first, by the names of the frame ``runs``, and ``quota_share``."""
    import sqlalchemy as sa

    from toolkit.store import schema

    runs = schema.runs.c
    # Without config and environment, which are most of a row.
    query = sa.select(
        *(column for column in runs if column.name not in ("config", "environment", "scope", "holder"))
    ).order_by(runs.number)
    rows = connection.execute(among(query, runs.id, ids)).all()
    running = set(running_ids(connection))
    counted = _count_totals(connection, ids, running) if any(row.totals is None for row in rows) else {}
    for row in rows:
        totals = counted.get(row.id, {}) if row.totals is None else json.loads(row.totals)
        given = totals.get("episodes") if row.episodes_given is None else row.episodes_given
        yield {
            **totals,
            "run_id": row.id,
            "started_at": row.started_at,
            "state": _state(row, running),
            "provider": row.provider,
            "model": row.model,
            "episodes": given,
            "makespan_s": row.makespan_s,
            "peak_rss_mb": row.peak_rss_mb,
            "reuse": row.reuse,
            "repeat": row.repeat,
            "stopped_because": row.stopped_because,
            "quota_share": max(json.loads(row.quota_shares or "{}").values(), default=None),
        }


def _state(row: Any, running: set[str]) -> str:
    if row.ended_at is None:
        return "running" if row.id in running else "died"
    if row.complete:
        return "complete"
    if row.stopped_because:
        return "stopped"
    return "interrupted" if row.interrupted else "incomplete"


def _count_totals(
    connection: sa.Connection, ids: Sequence[str] | None, running: set[str]
) -> dict[str, dict[str, Any]]:
    """Return what ``Run.totals`` would say of the runs that nobody has ended."""
    import sqlalchemy as sa

    from toolkit.store import schema

    runs, calls, episodes = schema.runs.c, schema.calls.c, schema.episodes.c
    unended = among(sa.select(runs.id).where(runs.totals.is_(None)), runs.id, ids)
    names = ("calls", "calls_reused", "input_tokens", "output_tokens")
    found: dict[str, dict[str, Any]] = {
        run_id: {**dict.fromkeys([status.value for status in Status], 0), **dict.fromkeys(names, 0)}
        | {"cost_usd": None, "saved_usd": 0.0}
        for run_id in connection.scalars(unended)
    }
    made = sa.and_(~calls.reused, calls.status != Status.CANCELLED.value)
    sums = sa.select(
        calls.run_id,
        count_where(made).label("calls"),
        count_where(calls.reused).label("calls_reused"),
        sa.func.coalesce(sum_where(made, calls.input_tokens), 0).label("input_tokens"),
        sa.func.coalesce(sum_where(made, calls.output_tokens), 0).label("output_tokens"),
        sum_where(made, calls.cost_usd).label("cost_usd"),
        sum_where(calls.reused, calls.saved_usd).label("saved_usd"),
    ).where(calls.run_id.in_(unended))
    for row in connection.execute(sums.group_by(calls.run_id)).mappings():
        values = {**row, "saved_usd": row["saved_usd"] if row["calls_reused"] else 0.0}
        found[values.pop("run_id")].update(values)
    ended = sa.select(episodes.run_id, episodes.status, sa.func.count()).where(episodes.run_id.in_(unended))
    for run_id, status, count in connection.execute(ended.group_by(episodes.run_id, episodes.status)):
        found[run_id][status] = count
    open_ = sa.select(calls.run_id, sa.func.count(calls.episode_id.distinct())).where(
        calls.run_id.in_(unended), episode_of_call(episodes.number).is_(None)
    )
    for run_id, count in connection.execute(open_.group_by(calls.run_id)):
        if run_id not in running:
            found[run_id][Status.CANCELLED.value] += count
    return found


# One run


def load_run(connection: sa.Connection, run_id: str, shown: str) -> Run:
    """Return a run as it was; of one that did not come to its end, what is kept of it."""
    import sqlalchemy as sa

    from toolkit.store import schema
    from toolkit.store.roster import SHIFT, worker_of, workers_of
    from toolkit.store.store import attempt_record, call_record, unpack_events

    runs, calls, attempts, episodes = (
        table.c for table in (schema.runs, schema.calls, schema.attempts, schema.episodes)
    )
    row = connection.execute(sa.select(schema.runs).where(runs.id == run_id)).one()
    tries: dict[str, list[Any]] = {}
    query = sa.select(schema.attempts).where(attempts.run_id == run_id)
    for attempt in connection.execute(query.order_by(attempts.call_id, attempts.attempt)):
        tries.setdefault(attempt.call_id, []).append(attempt_record(attempt))
    made: dict[str, list[CallRecord]] = {}
    query = sa.select(*(column for column in calls if column.name != "text")).where(calls.run_id == run_id)
    for call in connection.execute(query.order_by(*steps(calls))):
        made.setdefault(call.episode_id, []).append(call_record(call, tries.get(call.call_id, ())))
    records = []
    query = sa.select(schema.episodes).where(episodes.run_id == run_id).order_by(episodes.position)
    for episode in connection.execute(query):
        summary = Summary(
            text=episode.text or "",
            status=Status(episode.status),
            error=episode.error,
            chunks=episode.chunks,
            calls=tuple(made.pop(episode.episode_id, ())),
            key=episode.key or "",
        )
        record = EpisodeRecord(
            episode.episode_id,
            episode.title,
            episode.words,
            episode.started_at,
            episode.total_s,
            summary,
            episode.worker or "",
        )
        records.append(record)
    unended = row.ended_at is None
    goes_on = unended and is_alive(row.holder)
    state = _state(row, {run_id} if goes_on else set())
    open_ = [_unfinished(name, of_it, GOES_ON if goes_on else ENDED) for name, of_it in made.items()]
    records += sorted(open_, key=lambda record: record.started_at)
    by_worker: dict[int, list[LimitEvent]] = {}
    parts = sa.select(schema.limits).where(schema.limits.c.run_id == run_id).order_by(schema.limits.c.part)
    for part in connection.execute(parts):
        events = by_worker.setdefault(part.part >> SHIFT, [])
        events += [LimitEvent(*values) for values in unpack_events(part.events)]
    return Run(
        id=run_id,
        config=load_config(row.config),
        provider=row.provider,
        model=row.model,
        records=records,
        makespan_s=_span_s(records) if row.makespan_s is None else row.makespan_s,
        peak_rss_mb=row.peak_rss_mb,
        state=state,
        episodes_given=row.episodes_given if unended else len(records),
        environment=json.loads(row.environment),
        interrupted=bool(row.interrupted) or (unended and not goes_on),
        stopped_because=row.stopped_because,
        limit_events=merge_events(list(by_worker.values())),
        began_at=row.limits_began_at or 0.0,
        quota_shares=json.loads(row.quota_shares or "{}"),
        store=shown,
        workers=[worker_of(row).record for row in connection.execute(workers_of(run_id))],
    )


def load_config(shown: str) -> Config:
    """Return the config of a run from what ``Config.shown`` gave, as JSON; without its secrets.

    Nothing is checked and nothing comes from the environment: it says what the run had, also where this
    release knows a setting no more, or would refuse its value.
    """
    values = json.loads(shown)
    return Config.model_construct(
        **{name: values[name] for name in values.keys() & Config.model_fields.keys()}
    )


def _unfinished(episode_id: str, calls: Sequence[CallRecord], why: str) -> EpisodeRecord:
    began = min(call.started_at for call in calls)
    total_s = max(call.started_at + call.total_s for call in calls) - began
    summary = Summary("", Status.CANCELLED, why, chunks=0, calls=tuple(calls))
    return EpisodeRecord(episode_id, episode_id, 0, began, total_s, summary)


def _span_s(records: Sequence[EpisodeRecord]) -> float:
    if not records:
        return 0.0
    began = min(record.started_at for record in records)
    return max(record.started_at + record.total_s for record in records) - began


# Parts of queries


def among(query: Any, column: Any, ids: Sequence[str] | None) -> Any:
    """Narrow a query to some runs; None: all."""
    return query if ids is None else query.where(column.in_(ids))


def count_where(which: Any) -> Any:
    """Return an aggregate: how many rows meet a condition."""
    import sqlalchemy as sa

    return sa.func.sum(sa.case((which, 1), else_=0))


def sum_where(which: Any, column: Any) -> Any:
    """Return an aggregate: the sum over the rows that meet a condition; null if nothing is known."""
    import sqlalchemy as sa

    return sa.func.sum(sa.case((which, column)))


def steps(calls: Any) -> tuple[Any, Any]:
    """Order the calls of an episode step by step: their ids differ in a number at the end."""
    import sqlalchemy as sa

    return sa.func.length(calls.call_id), calls.call_id


def episode_of_call(column: Any) -> Any:
    """Return a column of the episode of a call; null while it has not ended."""
    import sqlalchemy as sa

    from toolkit.store import schema

    episodes, calls = schema.episodes.c, schema.calls.c
    same = sa.and_(episodes.run_id == calls.run_id, episodes.episode_id == calls.episode_id)
    return sa.select(column).where(same).correlate(schema.calls).scalar_subquery()
