"""One contract for memory, SQLite and PostgreSQL: what is written is found again, by whoever may find it."""

from __future__ import annotations

import math
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolkit.clock import ManualClock
from toolkit.errors import StoreError
from toolkit.records import AttemptRecord, CallRecord, EpisodeRecord, Stage, Status, StopReason, Summary
from toolkit.store import schema
from toolkit.store.store import (
    Store,
    attempt_record,
    call_record,
    call_rows,
    episode_row,
    pack_events,
    storable,
    unpack_events,
)

New = Callable[..., CallRecord]
Rows = Callable[[Store, sa.Table], list[Any]]
numbers = count()


def run_row(id: str, scope: str = "s", **values: Any) -> dict[str, Any]:
    row = {
        "id": id,
        "scope": scope,
        "provider": "scripted",
        "model": "m",
        "config": "{}",
        "environment": "{}",
        "reuse": "all",
        "repeat": 1,
        "holder": "h",
        "started_at": 1_700_000_000.0,
        "episodes_given": None,
    }
    return row | values


# Any text of the user's or of a server's: with halves of characters, zeros and all the rest.
texts = st.text(st.characters(exclude_categories=()), max_size=30)
# What is counted; no server's figure is beyond.
whole = st.integers(-(2**31), 2**31 - 1)
lengths = st.floats(allow_nan=False)


def optional(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


calls = st.builds(
    CallRecord,
    episode_id=texts,
    call_id=texts,
    stage=st.sampled_from(Stage),
    chunk_index=optional(whole),
    provider=texts,
    model=texts,
    status=st.sampled_from(Status),
    stop_reason=optional(st.sampled_from(StopReason)),
    started_at=lengths,
    **{
        f"{name}_s": lengths
        for name in ("queue", "retry_wait", "failed_attempts", "service", "overhead", "total")
    },
    **{f"wait_{cause}_s": optional(lengths) for cause in ("requests", "tokens", "slots", "cooldown")},
    **{f"{name}_tokens": optional(whole) for name in ("input", "output", "cached")},
    token_counter=optional(texts),
    prompt_s=optional(lengths),
    decode_s=optional(lengths),
    batch_size=optional(whole),
    cost_usd=optional(lengths),
    worker=texts,
    error=optional(texts),
    reused=st.booleans(),
    saved_usd=optional(lengths),
    key=st.text("0123456789abcdef", max_size=32),
    attempts=st.lists(
        st.builds(
            AttemptRecord,
            call_id=st.just(""),
            attempt=whole,
            service_s=lengths,
            error_kind=optional(texts),
            limit_hit=optional(texts),
            paid_unknown=st.booleans(),
            status_code=optional(whole),
            retry_after_s=optional(lengths),
        ),
        unique_by=lambda attempt: attempt.attempt,
        max_size=3,
    ).map(tuple),
)
any_store = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def stored(record: Any) -> Any:
    """Return a record with texts as databases take them."""
    return replace(
        record,
        **{
            name: storable(getattr(record, name))
            for name in record.__slots__
            if type(getattr(record, name)) is str
        },
    )


@any_store
@given(record=calls, text=optional(texts))
def test_a_call_is_found_as_it_was_written(store: Store, record: CallRecord, text: str | None) -> None:
    """Every field of any call and of its attempts comes back equal, save for what no database takes."""
    run_id = f"run{next(numbers)}"
    record = replace(
        record, attempts=tuple(replace(attempt, call_id=record.call_id) for attempt in record.attempts)
    )
    store.commit(call_rows(run_id, record, text))
    with store.reading() as connection:
        query = sa.select(schema.attempts).where(schema.attempts.c.run_id == run_id)
        attempts = [attempt_record(row) for row in connection.execute(query)]
        row = connection.execute(sa.select(schema.calls).where(schema.calls.c.run_id == run_id)).one()
    found = call_record(row, attempts)
    assert sorted(found.attempts, key=lambda attempt: attempt.attempt) == sorted(
        map(stored, record.attempts), key=lambda attempt: attempt.attempt
    )
    assert replace(found, attempts=()) == replace(stored(record), attempts=())
    assert row.text == storable(text)
    assert (found.reused, type(found.reused)) == (record.reused, bool)


@any_store
@given(
    episode_id=texts,
    title=texts,
    words=whole,
    times=st.tuples(lengths, lengths),
    error=optional(texts),
    text=texts,
)
def test_an_episode_is_found_as_it_was_written(
    store: Store, episode_id: str, title: str, words: int, times: Any, error: str | None, text: str
) -> None:
    """Every column of an episode's row comes back equal, save for what no database takes."""
    run_id = f"run{next(numbers)}"
    summary = Summary(text, error=error, chunks=3, key=run_id)
    row = episode_row(run_id, 7, EpisodeRecord(episode_id, title, words, *times, summary), with_text=True)
    store.commit({schema.episodes: [row]})
    with store.reading() as connection:
        found = connection.execute(sa.select(schema.episodes).where(schema.episodes.c.run_id == run_id)).one()
    assert {name: getattr(found, name) for name in row} == row
    assert found.text == (storable(text) or None)


@given(texts)
def test_only_what_no_database_takes_is_changed(text: str) -> None:
    """Halves of characters and zeros become the replacement character, one for one; all else stays."""
    kept = storable(text)
    assert kept == storable(kept)
    kept.encode("utf-8")
    whole_again = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert len(kept) == len(whole_again)
    for before, after in zip(whole_again, kept, strict=True):
        assert after == ("\ufffd" if before == "\0" else before)


@pytest.mark.parametrize("value", [math.inf, -math.inf, 5e-324, 1.7976931348623157e308, 0.1 + 0.2])
def test_lengths_keep_every_bit(store: Store, value: float, make_call: New) -> None:
    """A float comes back as the very same one."""
    store.commit(call_rows("r", make_call(total_s=value), "t"))
    found = store.find_call("k")
    assert found is not None
    assert struct.pack("d", found.record.total_s) == struct.pack("d", value)


@pytest.mark.parametrize("wrong", [{"input_tokens": 2**63}, {"total_s": None}])
def test_what_a_column_cannot_hold_is_refused_by_itself(
    store: Store, wrong: dict[str, Any], make_call: New, rows_of: Rows
) -> None:
    """A value that no column holds is a StoreError, and the store goes on."""
    with pytest.raises(StoreError, match="refused"):
        store.commit(call_rows("r", make_call("bad", **wrong), "t"))
    store.commit(call_rows("r", make_call("good"), "t"))
    assert [row.call_id for row in rows_of(store, schema.calls)] == ["good"]


def test_a_refusal_tells_no_texts(store: Store, make_call: New) -> None:
    """What a server says of a refused row (all of it, in PostgreSQL) stays out of the message."""
    with pytest.raises(StoreError) as caught:
        store.commit(call_rows("r", make_call(total_s=None), "of the user's own"))
    assert "user's own" not in str(caught.value)


def test_an_answer_is_found_by_its_key(store: Store, make_call: New) -> None:
    """The first of several that answered a key, among all runs or among those named."""
    for number, run_id in enumerate(["r1", "r2", "r3"]):
        store.commit(call_rows(run_id, make_call(started_at=100.0 - number), f"text of {run_id}"))
    store.commit(call_rows("r0", make_call(key="other"), "another's"))

    def text(*among: str) -> str | None:
        found = store.find_call("k", among or None)
        return found and found.text

    assert text() == "text of r1"  # whatever the wall clock said
    assert text("r3", "r2") == "text of r2"
    assert text("r0") is None
    assert store.find_call("nobody's") is None
    assert store.find_call("k", []) is None


def test_only_an_answer_that_is_one_is_found(store: Store, make_call: New) -> None:
    """A call that failed, was cancelled, or whose text was not kept answers nothing; an empty text does."""
    for number, (status, text) in enumerate(
        [(Status.FAILED, "x"), (Status.CANCELLED, "x"), (Status.PARTIAL, "x"), (Status.OK, None)]
    ):
        store.commit(call_rows("r", make_call(f"c{number}", status=status), text))
    assert store.find_call("k") is None
    store.commit(call_rows("r", make_call("ok"), ""))
    found = store.find_call("k")
    assert found is not None
    assert (found.record.call_id, found.text) == ("ok", "")


def test_an_episode_is_found_with_its_calls(store: Store, make_call: New) -> None:
    """A finished summary comes with the calls of its own run and episode, in the order of their writing."""
    for run_id in ("r1", "r2"):
        for call_id, episode_id in (("b", "e1"), ("a", "e1"), ("c", "e2")):
            store.commit(call_rows(run_id, make_call(call_id, episode_id=episode_id), f"{run_id}{call_id}"))
    record = EpisodeRecord("e1", "t", 3, 0.0, 1.0, Summary("whole", chunks=2, key="K"))
    failed = replace(record, summary=replace(record.summary, status=Status.PARTIAL))
    for run_id, episode in (("r0", failed), ("r1", record), ("r2", record)):
        store.commit({schema.episodes: [episode_row(run_id, 0, episode, with_text=True)]})
    found = store.find_episode("K")
    assert found is not None
    assert (found.text, found.chunks, [call.text for call in found.calls]) == ("whole", 2, ["r1b", "r1a"])
    among = store.find_episode("K", ["r2", "r9"])
    assert among is not None
    assert [call.run_id for call in among.calls] == ["r2", "r2"]
    assert store.find_episode("K", ["r0"]) is None
    assert store.find_episode("none") is None


@pytest.mark.parametrize("among", [None, ["r1", "r2"]])
def test_nothing_is_looked_for_row_by_row(
    among: list[str] | None, sqlite_url: str, open_store: Callable[..., Store], make_call: New
) -> None:
    """Each look goes by an index to what it asks for: it takes no longer in a larger run."""
    store = open_store(sqlite_url)
    store.commit(call_rows("r1", make_call(), "text"))
    record = EpisodeRecord("e", "t", 3, 0.0, 1.0, Summary("whole", chunks=1, key="K"))
    store.commit({schema.episodes: [episode_row("r1", 0, record, with_text=True)]})
    asked: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
        asked.append((statement, parameters))

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        assert store.find_call("k", among) is not None
        assert store.find_episode("K", among) is not None
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
    looks = [look for look in asked if look[0].startswith("SELECT")]
    plans = [
        store.commit(
            work=lambda connection, look=look: [
                row.detail
                for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {look[0]}", look[1])
                if "LIST SUBQUERY" not in row.detail
            ]
        )
        for look in looks
    ]
    assert plans == [
        ["SEARCH calls USING INDEX ix_calls_key (key=?)"],
        ["SEARCH episodes USING INDEX ix_episodes_key (key=?)"],
        ["SEARCH calls USING INDEX ix_calls_episode_id (episode_id=?)"],
    ]


def test_starts_are_counted_back_to_the_last_end(store: Store) -> None:
    """The starts of a run are those after the last that came to its end, newest first, of one scope."""
    for run_id, scope, complete in (
        ("a", "s", None),
        ("b", "s", True),
        ("c", "s", False),
        ("x", "t", True),
        ("d", "s", None),
    ):
        store.commit({schema.runs: [run_row(run_id, scope, complete=complete)]})
    assert store.earlier_starts("s") == ["d", "c"]
    assert store.earlier_starts("t") == []
    assert store.earlier_starts("nobody's") == []


def test_a_clock_that_jumps_back_changes_no_order(
    store_url: str, open_store: Callable[..., Store], make_call: New
) -> None:
    """Starts and answers are ordered as they were written, whatever the wall clock said meanwhile."""
    clock = ManualClock()
    store = open_store(store_url, clock=clock)
    for run_id, epoch in (
        ("first", 2_000_000_000.0),
        ("second", 1_000_000_000.0),
        ("third", 1_500_000_000.0),
    ):
        store.commit(
            {schema.runs: [run_row(run_id, started_at=epoch)]}
            | call_rows(run_id, make_call(started_at=epoch), run_id)
        )
    assert store.earlier_starts("s") == ["third", "second", "first"]
    found = store.find_call("k")
    assert found is not None
    assert found.text == "first"


def test_a_run_is_updated_with_its_rows(store: Store, rows_of: Rows) -> None:
    """What is written at a run's end changes its own row only, together with other rows or not at all."""
    store.commit({schema.runs: [run_row("a"), run_row("b")]})
    events = {"run_id": "a", "part": 0, "events": pack_events([(1.5, "é", None)])}
    store.update_run("a", {"complete": True, "makespan_s": 2.5}, {schema.limits: [events]})
    with pytest.raises(StoreError):
        store.update_run("b", {"complete": True}, {schema.limits: [events]})
    found = {row.id: (row.complete, row.makespan_s) for row in rows_of(store, schema.runs)}
    assert found == {"a": (True, 2.5), "b": (None, None)}
    (row,) = rows_of(store, schema.limits)
    assert unpack_events(row.events) == [[1.5, "é", None]]


def test_what_is_in_a_file_or_server_stays(
    store_url: str, open_store: Callable[..., Store], make_call: New
) -> None:
    """Another store at the same address finds what was committed; memory is each its own."""
    open_store(store_url).commit(call_rows("r", make_call(), "kept"))
    found = open_store(store_url).find_call("k")
    assert (found and found.text) == (None if store_url == "memory://" else "kept")


def test_closing_twice_is_closing(store: Store) -> None:
    """A store may be closed again."""
    store.close()
    store.close()


def test_a_long_look_is_of_one_moment(store: Store, store_url: str, make_call: New, rows_of: Rows) -> None:
    """What is committed while one reads at length is not seen half way; in memory it waits."""
    store.commit(call_rows("r", make_call("c0"), "t"))
    with store.reading() as connection:
        counted = sa.select(sa.func.count()).select_from(schema.calls)
        before = connection.execute(counted).scalar_one()
        other = threading.Thread(target=store.commit, args=(call_rows("r", make_call("c1"), "t"),))
        other.start()
        other.join(0.05 if store_url == "memory://" else 10)
        assert connection.execute(counted).scalar_one() == before == 1
    other.join(10)
    assert len(rows_of(store, schema.calls)) == 2


WRITER = """
import sys
from concurrent.futures import ThreadPoolExecutor
sys.path.insert(0, {folder!r})
from conftest import make_call
from toolkit.store.address import read_address
from toolkit.store.store import Store, call_rows
store = Store(read_address({url!r}))
def write(number):
    call = make_call(f"c{{number}}", key=f"k{{number}}")
    store.commit(call_rows({run!r}, call, "text " * 100))
with ThreadPoolExecutor(8) as pool:
    list(pool.map(write, range({calls})))
store.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("store_url", ["sqlite", "postgresql"], indirect=True)
def test_processes_lose_and_double_nothing(store_url: str, open_store: Callable[..., Store]) -> None:
    """Four processes of eight threads that write 10,000 calls at once: each is there, once."""
    each = 2_500
    children = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                WRITER.format(
                    folder=str(Path(__file__).parent), url=store_url, run=f"run{number}", calls=each
                ),
            ]
        )
        for number in range(4)
    ]
    assert [child.wait(200) for child in children] == [0] * 4
    with open_store(store_url).reading() as connection:
        found = connection.execute(sa.select(schema.calls.c.run_id, schema.calls.c.call_id)).all()
    assert len(found) == 4 * each
    assert {tuple(row) for row in found} == {
        (f"run{run}", f"c{number}") for run in range(4) for number in range(each)
    }
