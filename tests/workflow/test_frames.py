"""The frames of a run: declared columns, one row for one thing, null where a value does not apply."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from toolkit import frames
from toolkit.clock import ManualClock
from toolkit.config import Config
from toolkit.errors import RateLimited, RequestRejected, TransientError
from toolkit.providers.scripted import ScriptedSummarizationProvider
from toolkit.records import (
    AttemptRecord,
    CallRecord,
    Episode,
    EpisodeRecord,
    Reply,
    Request,
    Stage,
    Status,
    StopReason,
    Summary,
)
from toolkit.runs import Run

RunScripted = Callable[..., Run]
MakeEpisodes = Callable[..., list[Episode]]

TEXT, FLAG, COUNT, REAL, TIME = "str", "bool", "Int64", "float64", "datetime64[us, UTC]"

# Written out once more on purpose: notebooks and files rely on these names and types.
COLUMNS = {
    "episodes": {
        "run_id": TEXT,
        "episode_id": TEXT,
        "title": TEXT,
        "provider": TEXT,
        "model": TEXT,
        "status": TEXT,
        "error": TEXT,
        "words": COUNT,
        "chunks": COUNT,
        "calls": COUNT,
        "calls_reused": COUNT,
        "input_tokens": COUNT,
        "output_tokens": COUNT,
        "total_s": REAL,
        "service_s": REAL,
        "wait_s": REAL,
        "cost_usd": REAL,
        "summary": TEXT,
    },
    "calls": {
        "run_id": TEXT,
        "episode_id": TEXT,
        "call_id": TEXT,
        "stage": TEXT,
        "chunk_index": COUNT,
        "provider": TEXT,
        "model": TEXT,
        "status": TEXT,
        "stop_reason": TEXT,
        "attempts": COUNT,
        "reused": FLAG,
        "input_tokens": COUNT,
        "output_tokens": COUNT,
        "cached_tokens": COUNT,
        "token_counter": TEXT,
        "started_at": TIME,
        "queue_s": REAL,
        "wait_requests_s": REAL,
        "wait_tokens_s": REAL,
        "wait_slots_s": REAL,
        "wait_cooldown_s": REAL,
        "retry_wait_s": REAL,
        "failed_attempts_s": REAL,
        "service_s": REAL,
        "prompt_s": REAL,
        "decode_s": REAL,
        "overhead_s": REAL,
        "total_s": REAL,
        "tokens_per_s": REAL,
        "batch_size": COUNT,
        "cost_usd": REAL,
        "worker": TEXT,
    },
    "attempts": {
        "run_id": TEXT,
        "call_id": TEXT,
        "attempt": COUNT,
        "status_code": COUNT,
        "error_kind": TEXT,
        "limit_hit": TEXT,
        "retry_after_s": REAL,
        "service_s": REAL,
    },
}
DECLARED = {"episodes": frames.EPISODES, "calls": frames.CALLS, "attempts": frames.ATTEMPTS}
PHASES = ["queue_s", "retry_wait_s", "failed_attempts_s", "service_s", "overhead_s"]


class Varied(ScriptedSummarizationProvider):
    """Takes, fails, waits and charges differently from request to request, on a clock that only ticks."""

    def price(self, reply: Reply) -> float | None:
        return None if "unpriced" in reply.text else 0.001 * reply.usage.output_tokens


@pytest.fixture
def varied_run(run_scripted: RunScripted, make_episodes: MakeEpisodes) -> Run:
    """Run five episodes: whole, cut, partly failed, failed, and of an unknown price."""
    clock = ManualClock()

    def faults(request: Request, attempt: int) -> Exception | None:
        if request.episode_id == "e3" or (request.episode_id == "e2" and request.chunk_index == 1):
            return RequestRejected("no")
        if request.chunk_index == 0 and attempt < 3:
            return RateLimited("wait", retry_after_s=2.5) if attempt == 1 else TransientError("again")
        return None

    provider = Varied(
        Config(provider="scripted", chunk_tokens=32),
        replies=lambda request: "Some unpriced words." if request.episode_id == "e4" else "Some words.",
        latency_s=lambda request: 0.1 + 0.3 * (request.chunk_index or 0),
        faults=faults,
        clock=clock,
    )
    episodes = make_episodes(1) + make_episodes(5, lines=3)[1:]
    return run_scripted(episodes, provider=provider, kwargs={"clock": clock})


@pytest.fixture
def empty_run(run_scripted: RunScripted) -> Run:
    """Run no episodes."""
    return run_scripted([])


def dtypes(frame: pd.DataFrame) -> dict[str, str]:
    return {name: str(dtype) for name, dtype in frame.dtypes.items()}


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_and_types_are_the_declared_ones(name: str, varied_run: Run, empty_run: Run) -> None:
    """Frames of runs with and without rows have the same columns and types, or they could not be joined."""
    declared = {column.name: column.dtype for column in DECLARED[name]}
    assert dtypes(getattr(varied_run, name)) == declared
    assert dtypes(getattr(empty_run, name)) == declared
    assert len(getattr(varied_run, name)) > 0
    assert len(getattr(empty_run, name)) == 0
    assert COLUMNS[name].items() <= declared.items()


@pytest.mark.parametrize("name", COLUMNS)
def test_every_column_says_what_it_holds(name: str) -> None:
    """Each is declared once with a meaning, and a time in seconds says so in its name and its unit."""
    columns = DECLARED[name]
    assert len({column.name for column in columns}) == len(columns)
    assert all(column.meaning for column in columns)
    for column in columns:
        rate, time = column.name.endswith("_per_s"), column.name.endswith("_s")
        assert (column.unit == "s") == (time and not rate)
        assert column.unit.endswith("/s") == rate


def test_one_row_is_one_thing(varied_run: Run) -> None:
    """An episode, a call, a try: each has one row, and the rows of one frame count those of the next."""
    calls, attempts = varied_run.calls, varied_run.attempts
    assert list(varied_run.episodes["episode_id"]) == [f"e{n}" for n in range(5)]
    recorded = [call.call_id for record in varied_run.records for call in record.summary.calls]
    assert sorted(calls["call_id"]) == sorted(recorded)
    assert calls["call_id"].is_unique
    assert calls.groupby("episode_id").size().to_dict() == {"e0": 1, "e1": 4, "e2": 4, "e3": 3, "e4": 4}
    assert list(varied_run.episodes["calls"]) == [1, 4, 4, 3, 4]
    tries = attempts.groupby("call_id").size().reindex(calls["call_id"])
    assert list(tries) == list(calls["attempts"])
    assert all(
        list(of_one) == list(range(1, len(of_one) + 1))
        for _, of_one in attempts.groupby("call_id")["attempt"]
    )
    assert {*varied_run.episodes["run_id"], *calls["run_id"], *attempts["run_id"]} == {varied_run.id}


def test_calls_stand_in_the_order_in_which_they_began(varied_run: Run) -> None:
    """A timeline reads the rows from top to bottom."""
    assert varied_run.calls["started_at"].is_monotonic_increasing
    first = varied_run.records[0].summary.calls[0].started_at
    assert varied_run.calls["started_at"].iloc[0].timestamp() == pytest.approx(first, abs=1e-6)


def test_phases_add_up_to_the_total(varied_run: Run) -> None:
    """No second of a call is lost or counted twice, retries and waits included."""
    calls = varied_run.calls
    np.testing.assert_allclose(calls[PHASES].sum(axis=1), calls["total_s"], atol=1e-9)
    assert (calls[PHASES] >= 0).all(axis=None)
    retried = calls[calls["attempts"] == 3]
    assert list(retried["episode_id"]) == ["e1", "e2", "e4"]
    assert (retried["retry_wait_s"] >= 2.5).all()
    assert (retried["failed_attempts_s"] > 0).all()


def test_episode_sums_its_calls(varied_run: Run) -> None:
    """Tokens and seconds of an episode are those of its calls."""
    sums = varied_run.calls.groupby("episode_id")[["input_tokens", "output_tokens", "service_s"]].sum()
    episodes = varied_run.episodes.set_index("episode_id")
    for name in sums:
        np.testing.assert_allclose(episodes[name].astype(float), sums[name].astype(float))
    waits = varied_run.calls.groupby("episode_id")[["queue_s", "retry_wait_s"]].sum().sum(axis=1)
    np.testing.assert_allclose(episodes["wait_s"], waits)
    assert episodes["wait_s"].max() >= 2.5


def test_what_does_not_apply_is_null(varied_run: Run) -> None:
    """A zero would be averaged; what there is none of is null, and only that."""
    episodes, calls = varied_run.episodes.set_index("episode_id"), varied_run.calls
    assert list(episodes.index[episodes["error"].isna()]) == ["e0", "e1", "e4"]
    assert list(episodes.index[episodes["summary"].isna()]) == ["e3"]
    assert list(calls["chunk_index"].isna()) == list(calls["stage"] != "map")
    failed = calls["status"] == "failed"
    assert failed.sum() == 4
    for name in ("stop_reason", "input_tokens", "output_tokens", "cached_tokens", "token_counter"):
        assert list(calls[name].isna()) == list(failed), name
    assert list(calls["error"].isna()) == list(~failed)
    waits = ("wait_requests_s", "wait_tokens_s", "wait_slots_s", "wait_cooldown_s")
    for name in ("batch_size", "prompt_s", "decode_s", "tokens_per_s", *waits):
        assert calls[name].isna().all(), name
    attempts = varied_run.attempts
    assert attempts["status_code"].isna().all()
    assert list(attempts["retry_after_s"].dropna()) == [2.5] * 3
    assert attempts["error_kind"].value_counts().to_dict() == {
        "RequestRejected": 4,
        "RateLimited": 3,
        "TransientError": 3,
    }


def test_cost_is_null_where_a_price_is_unknown(varied_run: Run) -> None:
    """A sum over known prices only would look like the whole cost."""
    costs = varied_run.episodes.set_index("episode_id")["cost_usd"]
    assert costs["e0"] == pytest.approx(0.002)
    assert costs["e1"] == pytest.approx(0.008)
    assert costs["e2"] == pytest.approx(0.006), "the call that was rejected cost nothing"
    assert costs[["e3", "e4"]].isna().all()


def test_episode_that_was_not_reached_has_no_chunks(
    run_scripted: RunScripted, make_episodes: MakeEpisodes
) -> None:
    """Its chunks were never counted: null, while its words are known."""
    stop = threading.Event()
    stop.set()
    row = run_scripted(make_episodes(1), kwargs={"stop": stop}).episodes.iloc[0]
    assert pd.isna(row["chunks"])
    assert (row["status"], row["words"], row["calls"], row["total_s"]) == ("cancelled", 32, 0, 0.0)


CALL = CallRecord("e", "c", Stage.DIRECT, None, "p", "m", Status.OK, StopReason.STOP, started_at=1.7e9)


@pytest.mark.parametrize(
    ("told", "rate"),
    [
        ({"output_tokens": 30, "decode_s": 1.5}, 20.0),
        ({"output_tokens": 0, "decode_s": 1.5}, 0.0),
        ({"output_tokens": 1, "decode_s": 0.0}, None),
        ({"output_tokens": 30}, None),
        ({"decode_s": 1.5}, None),
    ],
)
def test_tokens_per_s_are_those_of_the_time_in_which_they_were_written(
    told: dict[str, Any], rate: float | None
) -> None:
    """Reading the prompt does not enter; what has no time, or no tokens that are known, has no rate."""
    call = replace(CALL, service_s=9.0, prompt_s=1.0, **told)
    record = EpisodeRecord("e", "E", 5, 1.7e9, 1.0, Summary("Rain.", calls=(call,)))
    made = frames.calls_frame("r", [record]).iloc[0]["tokens_per_s"]
    assert pd.isna(made) if rate is None else made == rate


def test_local_and_hosted_details_are_kept() -> None:
    """Batch size, status code and cached tokens reach their columns as the records have them."""
    attempt = AttemptRecord("c", 1, service_s=0.5, error_kind="TransientError", status_code=503)
    call = replace(CALL, batch_size=3, cached_tokens=7, worker="chunk_0", attempts=(attempt,))
    record = EpisodeRecord("e", "E", 5, 1.7e9, 1.0, Summary("Rain.", calls=(call,)))
    made = frames.calls_frame("r", [record]).iloc[0]
    assert (made["batch_size"], made["cached_tokens"], made["worker"]) == (3, 7, "chunk_0")
    assert made["started_at"] == pd.Timestamp(1.7e9, unit="s", tz="UTC")
    tried = frames.attempts_frame("r", [record]).iloc[0]
    assert (tried["status_code"], tried["error_kind"], tried["service_s"]) == (503, "TransientError", 0.5)
