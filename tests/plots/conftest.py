"""Runs made of records, so that every time in them is known, and a study of a small grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import pandas as pd
import pytest

from toolkit.frames import calls_frame, episodes_frame, limits_frame
from toolkit.limits import LimitEvent
from toolkit.records import CallRecord, EpisodeRecord, Stage, Status, StopReason, Summary

EPOCH = 1_700_000_000.0


@pytest.fixture(autouse=True)
def no_window() -> Iterator[None]:
    """Draw into memory, and close what was drawn."""
    mpl.use("agg")
    yield
    from matplotlib import pyplot

    pyplot.close("all")


def make_call(
    start: float = 0.0, episode: str = "e0", *, status: str = "ok", reused: bool = False, **values: Any
) -> CallRecord:
    """Make a call: its phases as keyword arguments, seconds; its total is their sum."""
    phases = {name: value for name, value in values.items() if name.endswith("_s") and value is not None}
    tokens = {"input_tokens": 100, "output_tokens": 20}
    return CallRecord(
        **{
            "episode_id": episode,
            "call_id": f"{episode}-{start}",
            "stage": Stage.MAP,
            "chunk_index": 0,
            "provider": "openai",
            "model": "gpt",
            "status": Status(status),
            "stop_reason": StopReason.STOP if status == "ok" else None,
            "started_at": EPOCH + start,
            "reused": reused,
            **(tokens if status == "ok" else {}),
            "total_s": sum(phases.values()),
            **values,
        }
    )


def make_run(calls: Sequence[CallRecord] = (), events: Sequence[LimitEvent] = (), **values: Any) -> Any:
    """Make what plots need of a run: its frames and what is said of it."""
    by_episode: dict[str, list[CallRecord]] = {}
    for call in calls:
        by_episode.setdefault(call.episode_id, []).append(call)
    records = [
        EpisodeRecord(name, name, 10, EPOCH, 1.0, Summary("x", calls=tuple(own)))
        for name, own in by_episode.items()
    ]
    return SimpleNamespace(
        **{
            "id": "a1b2c3",
            "provider": "openai",
            "model": "gpt",
            "calls": calls_frame("r", records),
            "episodes": episodes_frame("r", records, "openai", "gpt"),
            "limits": limits_frame("r", events, EPOCH),
            "quota_shares": {},
            "makespan_s": 1.0,
            **values,
        }
    )


def make_event(t_s: float, in_flight: int = 1, **values: Any) -> LimitEvent:
    """Make an event of the limiter: a cap of 5, 60 requests and 6000 tokens a minute."""
    return LimitEvent(
        **{
            "t_s": EPOCH + t_s,
            "quota_key": "k",
            "event": "admitted",
            "requests_60s": 30,
            "tokens_60s": 1500,
            "in_flight": in_flight,
            "slot_cap": 5,
            "waiting": 0,
            "requests_limit": 60,
            "tokens_limit": 6000,
            "server_remaining_requests": None,
            "server_remaining_tokens": None,
            **values,
        }
    )


def make_cells(**columns: Any) -> pd.DataFrame:
    """Make a study: 2 batch sizes x 2 chunk sizes x 3 repeats; columns may be replaced."""
    rows = [
        {
            "sweep_id": "s",
            "cell": cell,
            "repeat": repeat,
            "summary_batch_size": batch,
            "chunk_tokens": chunk,
            "simulated": False,
            "status": "ok",
            "error": None,
            "makespan_s": 10.0 * cell + repeat,
            "cost_usd": 0.1 * cell,
            "rougeL": 0.2 + 0.05 * cell,
        }
        for cell, (batch, chunk) in enumerate(((1, 512), (1, 1024), (4, 512), (4, 1024)), start=1)
        for repeat in (1, 2, 3)
    ]
    return pd.DataFrame(rows).assign(**columns)


@pytest.fixture(name="make")
def _make() -> SimpleNamespace:
    """Make runs and what they are made of: ``make.run([make.call(1.0, service_s=2.0)])``."""
    return SimpleNamespace(run=make_run, call=make_call, event=make_event, cells=make_cells)


@pytest.fixture(name="texts_of")
def _texts_of() -> Callable[[Any], list[str]]:
    """Return every string that a plot shows."""
    return texts_of


def texts_of(ax: Any) -> list[str]:
    """Return every string that a plot shows: title, labels, ticks, legend, and what is written in it."""
    legend = ax.get_legend()
    found = [
        *(ax.get_title(loc=loc) for loc in ("left", "center", "right")),
        ax.get_xlabel(),
        ax.get_ylabel(),
        *(text.get_text() for text in (*ax.get_xticklabels(), *ax.get_yticklabels(), *ax.texts)),
        *(text.get_text() for text in (legend.get_texts() if legend else ())),
    ]
    return [text for text in found if text]
