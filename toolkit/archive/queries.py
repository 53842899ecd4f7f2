"""The frames of many runs at once, as a database can bring them without a record for each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from toolkit.archive.history import (
    ENDED,
    GOES_ON,
    among,
    count_where,
    running_ids,
    steps,
    sum_where,
)
from toolkit.frames import ATTEMPTS, CALLS, EPISODES, WAITS, frame_of, limits_frame
from toolkit.limits import LimitEvent
from toolkit.records import Status

if TYPE_CHECKING:
    import pandas as pd
    import sqlalchemy as sa

Wanted = Mapping[str, Sequence[str] | None]
"""Values that the columns ``status``, ``provider``, ``model`` and ``episode_id`` may have; None: any."""

_LAST = 2**31 - 1
"""Place of an episode that has not ended, behind all that have."""


def episodes_of(connection: sa.Connection, ids: Sequence[str] | None, wanted: Wanted) -> pd.DataFrame:
    """Return the frame ``episodes`` of some runs, or of all."""
    import sqlalchemy as sa

    from toolkit.store import schema

    runs, calls, attempts, episodes = (
        table.c for table in (schema.runs, schema.calls, schema.attempts, schema.episodes)
    )
    unknown = sa.exists().where(
        attempts.run_id == calls.run_id, attempts.call_id == calls.call_id, attempts.paid_unknown
    )
    # As ``frames.episodes_frame`` has it: what failed without a reply cost nothing, unless nobody knows.
    paid = sa.or_(calls.status == Status.OK.value, unknown)
    waits = sum((sa.func.coalesce(calls[wait], 0.0) for wait in WAITS[1:]), start=calls[WAITS[0]])
    sums = among(
        sa.select(
            calls.run_id,
            calls.episode_id,
            sa.func.count().label("calls"),
            count_where(calls.reused).label("calls_reused"),
            sa.func.sum(calls.input_tokens).label("input_tokens"),
            sa.func.sum(calls.output_tokens).label("output_tokens"),
            sa.func.sum(calls.service_s).label("service_s"),
            sa.func.sum(waits).label("wait_s"),
            sa.case(
                (
                    count_where(paid) == count_where(sa.and_(paid, calls.cost_usd.is_not(None))),
                    sum_where(paid, calls.cost_usd),
                )
            ).label("cost_usd"),
            sa.func.min(calls.started_at).label("began"),
            sa.func.max(calls.started_at + calls.total_s).label("ended"),
        ).group_by(calls.run_id, calls.episode_id),
        calls.run_id,
        ids,
    ).subquery()
    of_calls = [
        sa.func.coalesce(sums.c[name], 0).label(name)
        for name in ("calls", "calls_reused", "input_tokens", "output_tokens", "service_s", "wait_s")
    ]
    of_run = [runs.number.label("run"), runs.id.label("run_id"), runs.provider, runs.model]
    same = sa.and_(sums.c.run_id == episodes.run_id, sums.c.episode_id == episodes.episode_id)
    ended = sa.select(
        *of_run,
        *(episodes[name] for name in ("position", "episode_id", "title", "status", "error", "words")),
        sa.func.nullif(episodes.chunks, 0).label("chunks"),
        *of_calls,
        episodes.total_s,
        sums.c.cost_usd,
        episodes.text.label("summary"),
        episodes.worker,
        episodes.started_at.label("began"),
    ).select_from(schema.episodes.join(schema.runs, runs.id == episodes.run_id).outerjoin(sums, same))
    open_ = (
        sa.select(
            *of_run,
            sa.literal(_LAST).label("position"),
            sums.c.episode_id,
            sums.c.episode_id.label("title"),
            sa.literal(Status.CANCELLED.value).label("status"),
            sa.case((runs.id.in_(running_ids(connection)), GOES_ON), else_=ENDED).label("error"),
            sa.literal(0).label("words"),
            sa.null().label("chunks"),
            *of_calls,
            (sums.c.ended - sums.c.began).label("total_s"),
            sums.c.cost_usd,
            sa.null().label("summary"),
            sa.null().label("worker"),
            sums.c.began,
        )
        .select_from(sums.join(schema.runs, runs.id == sums.c.run_id).outerjoin(schema.episodes, same))
        .where(episodes.number.is_(None))
    )
    every = sa.union_all(among(ended, episodes.run_id, ids), open_).subquery()
    query = sa.select(*(every.c[column.name] for column in EPISODES))
    query = _filtered(query, every.c, wanted).order_by(every.c.run, every.c.position, every.c.began)
    return frame_of(EPISODES, connection.execute(query).mappings())


def calls_of(connection: sa.Connection, ids: Sequence[str] | None, wanted: Wanted) -> pd.DataFrame:
    """Return the frame ``calls`` of some runs, or of all."""
    import sqlalchemy as sa

    from toolkit.store import schema

    runs, calls, attempts = schema.runs.c, schema.calls.c, schema.attempts.c
    same = sa.and_(attempts.run_id == calls.run_id, attempts.call_id == calls.call_id)
    computed = {
        "attempts": sa.select(sa.func.count()).where(same).correlate(schema.calls).scalar_subquery(),
        "key": sa.func.nullif(calls.key, ""),
        "tokens_per_s": calls.output_tokens / sa.func.nullif(calls.decode_s, 0.0),
    }
    places = _places(ids)
    query = (
        sa.select(*((dict(calls) | computed)[column.name].label(column.name) for column in CALLS))
        .select_from(_with_places(schema.calls.join(schema.runs, runs.id == calls.run_id), calls, places))
        .order_by(runs.number, calls.started_at, sa.func.coalesce(places.c.position, _LAST), *steps(calls))
    )
    query = _filtered(among(query, calls.run_id, ids), calls, wanted)
    return frame_of(CALLS, connection.execute(query).mappings())


def attempts_of(connection: sa.Connection, ids: Sequence[str] | None, wanted: Wanted) -> pd.DataFrame:
    """Return the frame ``attempts`` of some runs, or of all; what is wanted is wanted of their calls."""
    import sqlalchemy as sa

    from toolkit.store import schema

    runs, calls, attempts = schema.runs.c, schema.calls.c, schema.attempts.c
    same = sa.and_(attempts.run_id == calls.run_id, attempts.call_id == calls.call_id)
    places = _places(ids)
    tries = schema.calls.join(schema.attempts, same).join(schema.runs, runs.id == calls.run_id)
    place = sa.func.coalesce(places.c.position, _LAST)
    query = (
        sa.select(*(attempts[column.name] for column in ATTEMPTS))
        .select_from(_with_places(tries, calls, places))
        .order_by(runs.number, place, *steps(calls), attempts.attempt)
    )
    query = _filtered(among(query, calls.run_id, ids), calls, wanted)
    return frame_of(ATTEMPTS, connection.execute(query).mappings())


def limits_of(connection: sa.Connection, ids: Sequence[str] | None) -> pd.DataFrame:
    """Return the frame ``limits`` of some runs, or of all."""
    import pandas as pd
    import sqlalchemy as sa

    from toolkit.store import schema
    from toolkit.store.store import unpack_events

    runs, limits = schema.runs.c, schema.limits.c
    query = (
        sa.select(runs.id, runs.limits_began_at, limits.events)
        .select_from(schema.limits.join(schema.runs, runs.id == limits.run_id))
        .order_by(runs.number, limits.part)
    )
    frames = [
        limits_frame(
            row.id, [LimitEvent(*values) for values in unpack_events(row.events)], row.limits_began_at or 0.0
        )
        for row in connection.execute(among(query, runs.id, ids))
    ]
    return pd.concat(frames, ignore_index=True) if frames else limits_frame("", (), 0.0)


def _filtered(query: Any, columns: Any, wanted: Wanted) -> Any:
    for name, values in wanted.items():
        if values is not None:
            query = query.where(columns[name].in_(values))
    return query


def _places(ids: Sequence[str] | None) -> Any:
    """Return a table of the episodes' positions; grouped, so that SQLite makes an index of it.

    Without one it would go through all episodes of a run for each of its calls.
    """
    import sqlalchemy as sa

    from toolkit.store import schema

    episodes = schema.episodes.c
    query = sa.select(episodes.run_id, episodes.episode_id, sa.func.min(episodes.position).label("position"))
    return among(query.group_by(episodes.run_id, episodes.episode_id), episodes.run_id, ids).subquery()


def _with_places(source: Any, calls: Any, places: Any) -> Any:
    import sqlalchemy as sa

    same = sa.and_(places.c.run_id == calls.run_id, places.c.episode_id == calls.episode_id)
    return source.outerjoin(places, same)
