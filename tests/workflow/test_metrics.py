"""Throughput over time: nothing is lost in the spreading, and quiet times are there."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.errors import ConfigError
from toolkit.frames import CALLS, calls_frame
from toolkit.metrics import throughput
from toolkit.records import CallRecord, EpisodeRecord, Stage, Status, StopReason, Summary

COLUMNS = ["calls", "input_tokens", "output_tokens", "output_tokens_per_s", "in_service"]
EPOCH = 1_700_000_000.0


def call(
    start: float,
    service: float,
    output: int | None = 10,
    *,
    queue: float = 0.0,
    overhead: float = 0.0,
    status: Status = Status.OK,
) -> CallRecord:
    return CallRecord(
        "e",
        "c",
        Stage.DIRECT,
        None,
        "p",
        "m",
        status,
        StopReason.STOP if status is Status.OK else None,
        started_at=EPOCH + start,
        queue_s=queue,
        service_s=service,
        overhead_s=overhead,
        total_s=queue + service + overhead,
        input_tokens=None if output is None else 3 * output,
        output_tokens=output,
    )


def frame(*calls: CallRecord) -> pd.DataFrame:
    return calls_frame("r", [EpisodeRecord("e", "E", 1, EPOCH, 1.0, Summary("", calls=calls))])


# Whole microseconds, as a frame stores them.
SECONDS = st.integers(0, 30_000_000).map(lambda microseconds: microseconds / 1e6)
CALL = st.builds(
    call,
    SECONDS,
    st.just(0.0) | SECONDS,
    st.integers(0, 5000),
    queue=SECONDS,
    overhead=st.just(0.0) | SECONDS,
    status=st.sampled_from([Status.OK, Status.OK, Status.FAILED, Status.CANCELLED]),
)


@given(st.lists(CALL, max_size=12), st.sampled_from(["70ms", "1s", "7s", "2min"]))
def test_sums_are_the_runs(calls: list[CallRecord], freq: str) -> None:
    """Spread over intervals of whatever length, tokens, calls and service time add up to the run's."""
    given_calls = frame(*calls)
    spread = throughput(given_calls, freq)
    done = given_calls[given_calls["status"] == "ok"]
    width = pd.Timedelta(freq).total_seconds()
    assert list(spread.columns) == COLUMNS
    assert (spread >= 0).all(axis=None)
    assert spread["calls"].sum() == len(done)
    for name in ("input_tokens", "output_tokens"):
        assert spread[name].sum() == pytest.approx(float(done[name].sum()))
    assert spread["in_service"].sum() * width == pytest.approx(done["service_s"].sum(), abs=1e-6 * len(calls))
    np.testing.assert_allclose(spread["output_tokens_per_s"] * width, spread["output_tokens"])
    np.testing.assert_allclose(spread.index, np.arange(len(spread)) * width)


def test_tokens_are_spread_evenly_over_the_service_time() -> None:
    """Queueing and overhead bring no tokens: those fall into the time in which the model wrote them."""
    spread = throughput(frame(call(0, 4.0, 40, queue=1.5, overhead=1.0)))
    assert list(spread["output_tokens"]) == pytest.approx([0, 5, 10, 10, 10, 5, 0])
    assert list(spread["in_service"]) == pytest.approx([0, 0.5, 1, 1, 1, 0.5, 0])
    assert list(spread["calls"]) == [0, 0, 0, 0, 0, 0, 1]


def test_quiet_intervals_are_there() -> None:
    """An interval without anything is a zero; left out, a mean over the rows would hide the idling."""
    spread = throughput(frame(call(0, 0.9), call(5, 0.9)))
    assert list(spread.index) == [0, 1, 2, 3, 4, 5]
    assert list(spread["output_tokens"]) == pytest.approx([10, 0, 0, 0, 0, 10])
    assert list(spread["calls"]) == [1, 0, 0, 0, 0, 1]


def test_calls_at_once_are_counted_together() -> None:
    """``in_service`` is how many calls the model worked on, which is what batching changes."""
    spread = throughput(frame(call(0, 2.0), call(0, 2.0), call(0.5, 1.0)))
    assert list(spread["in_service"]) == pytest.approx([2.5, 2.5])


def test_reused_and_failed_calls_do_not_enter() -> None:
    """A reply out of the store took no service; counting it would make the model look faster."""
    calls = frame(call(0, 1.0), call(0, 1.0), call(0, 1.0, None, status=Status.FAILED))
    calls["reused"] = [False, True, False]
    assert throughput(calls)["calls"].sum() == 1
    assert throughput(calls)["output_tokens"].sum() == pytest.approx(10)


def test_fine_intervals_of_a_long_run_fit_into_memory() -> None:
    """A table of intervals by calls would need 8 GB here."""
    calls = frame(*(call(i * 1.0, 0.5) for i in range(1000)))
    assert throughput(calls, "1ms")["output_tokens"].sum() == pytest.approx(10_000)


@pytest.mark.parametrize("empty", [frame(), frame(call(0, 1.0, None, status=Status.FAILED))])
def test_nothing_done_is_an_empty_frame(empty: pd.DataFrame) -> None:
    """A run in which nothing went well has the columns all the same."""
    assert list(empty.columns) == [column.name for column in CALLS]
    spread = throughput(empty)
    assert list(spread.columns) == COLUMNS
    assert (len(spread), spread.index.name) == (0, "t_s")


@pytest.mark.parametrize("freq", ["nonsense", "s", "", "NaT", "0s", "-1s", "1 parsec"])
@pytest.mark.parametrize("calls", [frame(), frame(call(0, 1.0))], ids=["empty", "one call"])
def test_wrong_length_of_an_interval_is_named(freq: str, calls: pd.DataFrame) -> None:
    """What pandas says of a wrong length does not name the argument."""
    with pytest.raises(ConfigError, match=f"freq='{freq}' must be a length of time above zero"):
        throughput(calls, freq)
