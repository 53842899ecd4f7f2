"""The archive: runs come back as they were, are set side by side, exported, and deleted for good."""

from __future__ import annotations

import csv
import json
import math
import pickle
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from pandas.testing import assert_frame_equal, assert_series_equal

import toolkit as tk
from toolkit.archive import FIGURES, RUNS, Archive, open_store
from toolkit.clock import ManualClock
from toolkit.config import Config
from toolkit.errors import AuthenticationFailed, ConfigError, MissingDependency, RateLimited, TransientError
from toolkit.frames import ATTEMPTS, CALLS, EPISODES, LIMITS
from toolkit.keeping import BudgetWarning
from toolkit.limits import LimitEvent, holders
from toolkit.providers.scripted import ScriptedSummarizationProvider
from toolkit.records import AttemptRecord, CallRecord, Episode, EpisodeRecord, Status, Summary
from toolkit.runs import Run
from toolkit.store import schema
from toolkit.store.address import read_address
from toolkit.store.opened import store_at
from toolkit.store.store import call_rows, episode_row, pack_events

MakeCall = Callable[..., CallRecord]
FRAMES = ("episodes", "calls", "attempts", "limits")
DEAD = "1/0/another boot/" + holders.this_process().split("/", 3)[3]
SECRET = "hauling-barnacles-6621"


def episodes(count: int = 3, *, lines: int = 3, word: str = "word") -> list[Episode]:
    """Make episodes of lines that just fill a chunk of 32 words each."""
    line = " ".join([word] * 30)
    return [
        Episode.from_text(
            f"e{n}", "\n".join(f"Hill{n} {line} dry{i}." for i in range(lines)), title=f"The {n}."
        )
        for n in range(count)
    ]


def run(url: str, given: Any = None, *, script: dict[str, Any] | None = None, **settings: Any) -> Run:
    clock = ManualClock()
    config = Config(provider="scripted", store_url=url, **{"chunk_tokens": 32, **settings})
    provider = ScriptedSummarizationProvider(config, **{"clock": clock, "latency_s": 0.25, **(script or {})})
    return tk.run(given or episodes(), config, provider=provider, clock=clock)


def plant(
    url: str, run_id: str, *, rows: dict[sa.Table, list[dict[str, Any]]] | None = None, **values: Any
) -> None:
    """Write the row of a run, as at its start, and others."""
    row = {
        "id": run_id,
        "scope": "s" + run_id,
        "provider": "scripted",
        "model": "m",
        "config": json.dumps(Config(provider="scripted").shown()),
        "environment": "{}",
        "reuse": "all",
        "repeat": 1,
        "holder": DEAD,
        "started_at": 1_700_000_000.0,
        "episodes_given": 3,
    }
    store_at(read_address(url)).commit({schema.runs: [row | values], **(rows or {})})


def faults(request: Any, attempt: int) -> Exception | None:
    """Fail the first try of each first chunk, and the second chunk of e1 for good."""
    if attempt == 1 and request.chunk_index == 0:
        return RateLimited("slow down", retry_after_s=1.5)
    if request.episode_id == "e1" and request.chunk_index == 1:
        return TransientError("the line is dead")
    return None


def names(columns: Any) -> list[str]:
    return [column.name for column in columns]


def assert_same_run(found: Run, live: Run) -> None:
    for name in FRAMES:
        assert_frame_equal(getattr(found, name), getattr(live, name), check_exact=True)
    for name in ("id", "provider", "model", "makespan_s", "peak_rss_mb", "interrupted", "stopped_because",
                 "quota_shares", "state", "episodes_given", "environment"):  # fmt: skip
        assert getattr(found, name) == getattr(live, name), name
    assert found.config.shown() == live.config.shown()
    assert (found.reused, found.totals(), found.store) == (live.reused, live.totals(), live.store)
    assert found.records == live.records
    assert repr(found) == repr(live)


# One run


def test_a_run_comes_back_as_it_was(store_url: str) -> None:
    """Frames, records and figures are those of the live run, retries, failures and reused calls included."""
    first = run(store_url, script={"faults": faults}, summary_batch_size=2, summary_chunk_parallelism=2)
    second = run(store_url, episodes(4), summary_chunk_parallelism=3)
    assert first.totals()["partial"] == 1
    assert second.reused.calls
    assert second.totals()["calls"]
    assert len(first.attempts) > len(first.calls)
    archive = open_store(store_url)
    assert_same_run(archive.run(first.id), first)
    assert_same_run(archive.run(second.id), second)


def test_calls_that_began_at_once_keep_their_order(store_url: str) -> None:
    """They end, and are kept, in another order than that of the chunks, of which there are more than ten."""
    live = run(store_url, episodes(2, lines=12), script={"latency_s": 0.0}, summary_chunk_parallelism=8)
    found = open_store(store_url)
    assert_same_run(found.run(live.id), live)
    assert_frame_equal(found.calls(live.id), live.calls)
    assert_frame_equal(found.attempts(live.id), live.attempts)


def test_order_is_that_of_episodes_and_steps(store_url: str, make_call: MakeCall) -> None:
    """Whatever the order in which calls that began at once were kept."""
    tries = {name: AttemptRecord(name, 1, 1.0) for name in ("b-0", "a-10", "a-9", "a-0")}
    rows: dict[sa.Table, list[dict[str, Any]]] = {}
    for name, attempt in tries.items():
        call = make_call(name, episode_id=f"e-{name[0]}", key="a1", attempts=(attempt,))
        for table, given in call_rows("r1", call, None).items():
            rows.setdefault(table, []).extend(dict(row) for row in given)
    rows[schema.episodes] = [
        episode_row("r1", place, EpisodeRecord(name, "t", 1, 1.7e9, 1.0, Summary("x")), with_text=True)
        for place, name in ((1, "e-a"), (0, "e-b"))
    ]
    plant(store_url, "r1", rows=rows)
    archive = open_store(store_url)
    for name in ("calls", "attempts"):
        assert getattr(archive, name)()["call_id"].tolist() == ["b-0", "a-0", "a-9", "a-10"]
        assert_frame_equal(getattr(archive, name)("r1"), getattr(archive.run("r1"), name))


def test_events_of_the_limiter_come_back(store_url: str) -> None:
    """With the run's own zero of time, and the shares of the quota."""
    events = [
        LimitEvent(10.5 + n, "k", "admitted", n, 7, 1, None, 0, 50, None, None, None, n) for n in range(3)
    ]
    parts = [
        {"run_id": "r1", "part": part, "events": pack_events(events[part : part + 1])} for part in range(3)
    ]
    plant(
        store_url,
        "r1",
        rows={schema.limits: parts},
        ended_at=1.7e9,
        complete=True,
        makespan_s=2.0,
        limits_began_at=10.0,
        quota_shares='{"requests": 0.9, "tokens": 0.5}',
        totals="{}",
    )
    archive = open_store(store_url)
    found = archive.run("r1")
    assert found.limit_events == tuple(events)
    assert found.limits["t_s"].tolist() == [0.5, 1.5, 2.5]
    assert (found.quota_shares, found.quota_share) == ({"requests": 0.9, "tokens": 0.5}, 0.9)
    assert_frame_equal(archive.limits("r1"), found.limits)
    assert archive.compare("r1")["quota_share"].tolist() == [0.9]


def test_prompt_and_decode_come_back(store_url: str, make_call: MakeCall) -> None:
    """Of a local call, with the rate that is made of them; null where nothing was told."""
    told = make_call("c-0", service_s=2.0, prompt_s=0.5, decode_s=1.5, output_tokens=30)
    silent = make_call("c-1", key="k1")
    at_once = make_call("c-2", key="k2", prompt_s=1.0, decode_s=0.0)
    rows: dict[sa.Table, list[dict[str, Any]]] = {}
    for call in (told, silent, at_once):
        for table, given in call_rows("r1", call, None).items():
            rows.setdefault(table, []).extend(dict(row) for row in given)
    plant(store_url, "r1", rows=rows, peak_rss_mb=512.5)
    archive = open_store(store_url)
    calls = archive.calls("r1").set_index("call_id")
    assert calls.loc["c-0", ["prompt_s", "decode_s", "tokens_per_s"]].tolist() == [0.5, 1.5, 20.0]
    assert calls.loc["c-1", ["prompt_s", "decode_s", "tokens_per_s"]].isna().all()
    assert pd.isna(calls["tokens_per_s"]["c-2"])
    found = archive.run("r1")
    assert_frame_equal(archive.calls("r1"), found.calls)
    assert found.peak_rss_mb == 512.5
    assert archive.compare("r1")["peak_rss_mb"].tolist() == [512.5]


def test_a_run_without_texts_has_its_figures(store_url: str) -> None:
    """``store_text=False`` costs the summaries and nothing else."""
    live = run(store_url, store_text=False)
    found = open_store(store_url).run(live.id)
    assert found.episodes["summary"].isna().all()
    assert_frame_equal(found.episodes.drop(columns="summary"), live.episodes.drop(columns="summary"))
    assert_frame_equal(found.calls, live.calls)


def test_a_stopped_run_says_why(store_url: str) -> None:
    """The error for which it stopped by itself, and the episodes that it did not reach."""
    live = run(store_url, script={"faults": lambda request, attempt: AuthenticationFailed("wrong key")})
    archive = open_store(store_url)
    assert_same_run(archive.run(live.id), live)
    assert archive.runs()["state"].tolist() == ["stopped"]
    assert "wrong key" in archive.runs()["stopped_because"][0]


def test_of_a_killed_run_all_is_there_that_was_kept(store_url: str, make_call: MakeCall) -> None:
    """An episode with calls and no end is cancelled, and its calls, which were paid for, count."""
    plant_killed(store_url, make_call)
    archive = open_store(store_url)
    found = archive.run("killed")
    assert found.episodes["episode_id"].tolist() == ["e1", "e2"]
    assert found.episodes["status"].tolist() == ["ok", "cancelled"]
    assert found.episodes["error"].tolist()[1] == "the run ended before this episode did"
    assert found.episodes["title"].tolist() == ["First", "e2"]
    assert found.episodes["words"].tolist() == [9, 0]
    assert found.calls["call_id"].tolist() == ["a-0", "b-0", "b-1"]
    assert found.attempts["call_id"].tolist() == ["a-0", "b-0", "b-1"]
    assert found.interrupted
    assert found.makespan_s == 5.0
    assert_frame_equal(archive.episodes("killed"), found.episodes)
    assert_frame_equal(archive.calls("killed"), found.calls)
    assert_frame_equal(archive.attempts("killed"), found.attempts)


def plant_killed(url: str, make_call: MakeCall, run_id: str = "killed", **values: Any) -> None:
    rows: dict[sa.Table, list[dict[str, Any]]] = {}
    at, tries = 1_700_000_000.0, lambda name: (AttemptRecord(name, 1, 1.0),)
    for call in (
        make_call("a-0", key="a1", started_at=at, total_s=1.0, service_s=1.0, input_tokens=5,
                  output_tokens=2, cost_usd=0.5, attempts=tries("a-0")),
        make_call("b-0", key="b1", episode_id="e2", started_at=at + 2, total_s=3.0, queue_s=2.0,
                  input_tokens=7, output_tokens=3, cost_usd=0.25, attempts=tries("b-0")),
        make_call("b-1", key="b2", episode_id="e2", started_at=at + 2, total_s=1.0, input_tokens=7,
                  output_tokens=3, cost_usd=0.0, reused=True, saved_usd=0.125, attempts=tries("b-1")),
    ):  # fmt: skip
        for table, given in call_rows(run_id, call, "reply").items():
            rows.setdefault(table, []).extend(dict(row) for row in given)
    record = EpisodeRecord("e1", "First", 9, at, 1.5, Summary("text", key="a2"))
    rows[schema.episodes] = [episode_row(run_id, 0, record, with_text=True)]
    plant(url, run_id, rows=rows, **values)


def test_a_run_that_goes_on_is_not_called_dead(store_url: str, make_call: MakeCall) -> None:
    """What it has so far is there; what it has not ended may still come."""
    plant_killed(store_url, make_call, holder=holders.this_process())
    archive = open_store(store_url)
    found = archive.run("killed")
    assert not found.interrupted
    assert "goes on" in found.episodes["error"].tolist()[1]
    assert_frame_equal(archive.episodes("killed"), found.episodes)
    assert archive.runs()["state"].tolist() == ["running"]


def test_a_killed_run_without_anything_is_empty(store_url: str) -> None:
    """It died before its first call, and its frames have their columns all the same."""
    plant(store_url, "r1")
    found = open_store(store_url).run("r1")
    assert (len(found.records), found.makespan_s) == (0, 0.0)
    assert [list(getattr(found, name)) for name in FRAMES] == [
        names(columns) for columns in (EPISODES, CALLS, ATTEMPTS, LIMITS)
    ]


def test_the_beginning_of_an_id_will_do(store_url: str) -> None:
    """If it is the beginning of one only; an id that another begins with is itself."""
    for run_id in ("abc1", "abd2", "ab"):
        plant(store_url, run_id)
    archive = open_store(store_url)
    assert archive.run("abc").id == "abc1"
    assert archive.run("ab").id == "ab"
    with pytest.raises(ConfigError, match=r"'a' begins the ids of 3 runs: ab, abd2, abc1; write more of it"):
        archive.run("a")


def test_an_unknown_run_is_named_with_those_there_are(store_url: str) -> None:
    """The nearest, else the newest; ``%`` and an empty text are no patterns."""
    archive = open_store(store_url)
    with pytest.raises(ConfigError, match=r"no run 'abcd': the store .* holds none"):
        archive.run("abcd")
    for n in range(7):
        plant(store_url, f"abcde{n}")
    with pytest.raises(ConfigError, match=r"no run 'abcdf3' .* did you mean 'abcde3'\?"):
        archive.run("abcdf3")
    for wrong in ("zzz", "%", "_bcde1"):
        with pytest.raises(ConfigError, match=f"no run '{wrong}'"):
            archive.run(wrong)
    with pytest.raises(ConfigError, match=r"newest are abcde6, abcde5, abcde4, abcde3, abcde2 …"):
        archive.calls(["abcde1", "zzz"])
    with pytest.raises(ConfigError, match="no id of a run"):
        archive.run("")


def test_the_config_is_the_one_that_the_run_had(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment says by now, and with settings that this release has not or refuses."""
    had = Config(provider="scripted", chunk_tokens=64, openai_api_key=SECRET).shown()
    del had["top_p"]
    plant(store_url, "r1", config=json.dumps(had | {"of_the_future": 1, "engine": "abacus"}))
    monkeypatch.setenv("TOOLKIT_CHUNK_TOKENS", "128")
    monkeypatch.setenv("TOOLKIT_TOP_P", "0.5")
    monkeypatch.setenv("TOOLKIT_SYSTEM_PROMPT", "Sing.")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-today")
    config = open_store(store_url).run("r1").config
    assert (config.chunk_tokens, config.top_p, config.system_prompt) == (64, 1.0, None)
    assert (config.engine, config.openai_api_key) == ("abacus", None)
    assert not hasattr(config, "of_the_future")


# Runs


def test_runs_tells_of_each_what_it_says_itself(store_url: str, make_call: MakeCall) -> None:
    """Columns and types are the declared ones; the newest run is last."""
    plant_killed(store_url, make_call)
    stop = threading.Event()
    stop.set()
    live = [
        run(store_url),
        run(store_url, script={"faults": faults, "replies": lambda request: "Yes."}, repeat=2, reuse="none"),
        tk.run(episodes(2), Config(provider="scripted", store_url=store_url), stop=stop, clock=ManualClock()),
        run(store_url, (episode for episode in episodes(2))),
    ]
    archive = open_store(store_url)
    frame = archive.runs()
    assert [(name, str(dtype)) for name, dtype in frame.dtypes.items()] == [(c.name, c.dtype) for c in RUNS]
    assert frame["run_id"].tolist() == ["killed", *(one.id for one in live)]
    assert frame["state"].tolist() == ["died", "complete", "complete", "interrupted", "complete"]
    assert frame["episodes"].tolist() == [3, 3, 3, 2, 2]
    assert frame["repeat"].tolist() == [1, 1, 2, 1, 1]
    assert frame["makespan_s"].isna().tolist() == [True] + [False] * 4
    assert frame["peak_rss_mb"].isna()[0], "nobody has ended the one that was killed"
    assert frame["peak_rss_mb"].tolist()[1:] == pytest.approx(
        [one.peak_rss_mb or math.nan for one in live], nan_ok=True
    )
    for _, row in frame.iterrows():
        totals = archive.run(row["run_id"]).totals()
        del totals["episodes"]
        assert {name: None if pd.isna(row[name]) else row[name] for name in totals} == pytest.approx(totals)


def test_a_run_with_failed_episodes_is_incomplete(store_url: str) -> None:
    """It ended by itself, and is no measurement of what it was to do."""
    run(store_url, script={"faults": lambda request, attempt: TransientError("dead")}, max_attempts=1)
    assert open_store(store_url).runs()["state"].tolist() == ["incomplete"]


def test_a_killed_run_without_a_price_has_no_cost(store_url: str, make_call: MakeCall) -> None:
    """A sum over nothing known is not nothing."""
    rows = {
        table: [dict(row) for row in given] for table, given in call_rows("r1", make_call(), None).items()
    }
    plant(store_url, "r1", rows=rows)
    frame = open_store(store_url).runs()
    assert frame["cost_usd"].isna().all()
    assert frame[["calls", "input_tokens", "saved_usd"]].iloc[0].tolist() == [1, 0, 0.0]


def test_an_empty_store_has_frames_with_their_columns(store_url: str) -> None:
    """A notebook that begins with ``open_store()`` does not fail in a new project."""
    archive = open_store(store_url)
    assert list(archive.runs()) == names(RUNS)
    for name, columns in zip(FRAMES, (EPISODES, CALLS, ATTEMPTS, LIMITS), strict=True):
        frame = getattr(archive, name)()
        assert [(column, str(dtype)) for column, dtype in frame.dtypes.items()] == [
            (c.name, c.dtype) for c in columns
        ]


# Frames of many runs


def test_frames_of_many_runs_are_those_of_each(store_url: str) -> None:
    """In the order in which the runs began; of one, of several and of all."""
    live = [
        run(store_url, script={"faults": faults}, summary_chunk_parallelism=2),
        run(store_url, episodes(1, lines=1)),
        run(store_url, episodes(4), reuse="none", max_attempts=1, script={"faults": faults}),
    ]
    archive = open_store(store_url)
    for chosen in ([live[0]], [live[1]], live[:2], live):
        ids = None if len(chosen) == 3 else [one.id for one in chosen]
        for name in ("episodes", "calls", "attempts"):
            expected = pd.concat([getattr(one, name) for one in chosen], ignore_index=True)
            assert_frame_equal(getattr(archive, name)(ids), expected)


def test_what_nobody_knows_to_be_paid_leaves_the_cost_unknown(store_url: str, make_call: MakeCall) -> None:
    """As in a live run's frame: a failed call costs nothing, one that may have been paid is unknown."""
    lost = AttemptRecord("c-1", 1, 1.0, error_kind="TransientError", paid_unknown=True)
    failed = AttemptRecord("c-3", 1, 1.0, error_kind="TransientError")
    status = {"status": Status.FAILED, "stop_reason": None}
    calls = [
        make_call("c-0", cost_usd=0.5),
        make_call("c-1", episode_id="e1", attempts=(lost,), **status),
        make_call("c-2", episode_id="e2", cost_usd=0.25),
        make_call("c-3", episode_id="e2", attempts=(failed,), **status),
        make_call("c-4", episode_id="e3", **status),
        make_call("c-5", episode_id="e4", cost_usd=None),
    ]
    rows: dict[sa.Table, list[dict[str, Any]]] = {}
    for call in calls:
        for table, given in call_rows("r1", call, None).items():
            rows.setdefault(table, []).extend(dict(row) for row in given)
    rows[schema.episodes] = [
        episode_row("r1", n, EpisodeRecord(f"e{n + 1}", "t", 1, 1.7e9, 1.0, Summary("x")), with_text=True)
        for n in range(4)
    ]
    plant(store_url, "r1", rows=rows)
    archive = open_store(store_url)
    costs = archive.episodes("r1")["cost_usd"]
    assert_series_equal(costs, archive.run("r1").episodes["cost_usd"])
    assert costs.fillna(-1.0).tolist() == [-1.0, 0.25, -1.0, -1.0]


def test_rows_are_chosen_by_what_they_hold(store_url: str) -> None:
    """By status, provider, model and episode, one value or several, alone and together."""
    first, second = run(store_url, script={"faults": faults}), run(store_url, episodes(2), model="other")
    archive = open_store(store_url)
    assert archive.episodes(status="partial")["episode_id"].tolist() == ["e1"]
    assert set(archive.episodes(status=["ok", "partial"])["status"]) == {"ok", "partial"}
    assert set(archive.calls(model="other")["run_id"]) == {second.id}
    assert archive.calls(provider="nobody").empty
    failed = archive.calls(first.id, status="failed")
    assert failed["episode_id"].unique().tolist() == ["e1"]
    tries = archive.attempts(status="failed")
    assert tries["call_id"].unique().tolist() == failed["call_id"].tolist()
    assert archive.calls(episode_id=["e0"], model="other")["episode_id"].unique().tolist() == ["e0"]
    assert archive.attempts(episode_id="e0", model="other")["run_id"].unique().tolist() == [second.id]


def test_runs_are_set_side_by_side(store_url: str) -> None:
    """Only settings in which they differ are columns; the figures are the runs' own, in the order asked."""
    slow = run(store_url, reuse="none", script={"faults": faults})
    quick = run(store_url, reuse="none", summary_batch_size=3, chunk_tokens=64)
    frame = open_store(store_url).compare(quick.id, slow.id)
    assert list(frame) == ["run_id", "summary_batch_size", "chunk_tokens", *names(FIGURES)]
    assert frame["run_id"].tolist() == [quick.id, slow.id]
    assert frame["summary_batch_size"].tolist() == [3, 1]
    assert frame["makespan_s"].tolist() == [quick.makespan_s, slow.makespan_s]
    assert frame["episodes_per_h"].tolist() == pytest.approx(
        [3600 * 3 / quick.makespan_s, 3600 * 3 / slow.makespan_s]
    )
    tokens = slow.calls.loc[slow.calls["status"] == "ok", "output_tokens"].sum()
    assert frame["output_tokens_per_s"][1] == pytest.approx(tokens / slow.makespan_s)
    assert frame["rate_limited_attempts"].tolist() == [
        0,
        (slow.attempts["error_kind"] == "RateLimited").sum(),
    ]
    assert frame["partial"].tolist() == [0, 1]


def test_reused_calls_enter_no_throughput(store_url: str) -> None:
    """They stand beside it; and a run that took no time has no rate at all."""
    run(store_url)
    again = run(store_url)
    frame = open_store(store_url).compare(again.id)
    assert frame["calls_reused"][0] == len(again.calls)
    assert frame["makespan_s"].tolist() == [0.0]
    assert frame[["episodes_per_h", "output_tokens_per_s"]].isna().all(axis=None)
    with pytest.raises(ConfigError, match="compare which runs"):
        open_store(store_url).compare()


# Deleting


def rows_left(url: str) -> dict[str, int]:
    with store_at(read_address(url)).reading() as connection:
        return {
            table.name: connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            for table in (
                schema.runs,
                schema.episodes,
                schema.calls,
                schema.attempts,
                schema.limits,
                schema.budgets,
            )
        }


def test_deleted_runs_are_gone_from_every_table(store_url: str) -> None:
    """And the others are as they were."""
    gone = [run(store_url, budget_calls=100, repeat=repeat) for repeat in (1, 2)]
    stays = run(store_url, repeat=3)
    with_all = rows_left(store_url)
    archive = open_store(store_url)
    assert archive.delete(gone[0].id[:10], gone[1].id, gone[1].id) == 2
    assert archive.runs()["run_id"].tolist() == [stays.id]
    assert_same_run(archive.run(stays.id), stays)
    assert with_all["budgets"] == 2
    assert rows_left(store_url)["budgets"] == 0
    assert archive.delete(stays.id) == 1
    assert set(rows_left(store_url).values()) == {0}


def test_a_budget_stays_while_a_start_of_its_run_does(store_url: str) -> None:
    """Else deleting the first of two unfinished starts would give the second its money back."""
    with pytest.warns(BudgetWarning):
        starts = [run(store_url, budget_calls=2) for _ in range(2)]
    archive = open_store(store_url)
    archive.delete(starts[0].id)
    assert rows_left(store_url)["budgets"] == 1
    archive.delete(starts[1].id)
    assert rows_left(store_url)["budgets"] == 0


def test_a_run_that_goes_on_is_not_deleted(store_url: str) -> None:
    """Nor is any that is named with it; one whose process died is."""
    plant(store_url, "alive", holder=holders.this_process())
    plant(store_url, "dead")
    archive = open_store(store_url)
    with pytest.raises(ConfigError, match=r"still running: alive; .* nothing was deleted"):
        archive.delete("dead", "alive")
    assert len(archive.runs()) == 2
    with pytest.raises(ConfigError, match="no run 'nobody'"):
        archive.delete("dead", "nobody")
    with pytest.raises(ConfigError, match="delete which runs"):
        archive.delete()
    assert archive.delete("dead") == 1


def test_old_runs_are_purged(store_url: str) -> None:
    """By the days since their start; what goes on stays."""
    clock = ManualClock(epoch=1_700_000_000.0)
    for days in (0, 1, 2, 3):
        plant(store_url, f"r{days}", started_at=clock.epoch() - 86_400 * days)
    plant(store_url, "alive", holder=holders.this_process(), started_at=1.0)
    archive = Archive(read_address(store_url), clock=clock)
    assert archive.purge(older_than_days=1.5) == 2
    assert archive.runs()["run_id"].tolist() == ["r0", "r1", "alive"]
    assert archive.purge(older_than_days=1.5) == 0
    assert archive.purge(0) == 2
    assert archive.runs()["run_id"].tolist() == ["alive"]


@pytest.mark.parametrize("days", [-1, float("nan"), float("inf"), "7", True, None])
def test_no_age_is_no_purge(store_url: str, days: Any) -> None:
    """A slip of the pen must not delete everything."""
    archive = open_store(store_url)
    run(store_url)
    with pytest.raises(ConfigError, match="older_than_days"):
        archive.purge(days)
    assert len(archive.runs()) == 1


def test_texts_alone_can_be_purged(store_url: str) -> None:
    """Figures stay, and nothing is taken again from a run without texts."""
    live = run(store_url)
    archive = open_store(store_url)
    assert archive.purge(texts_only=True) == 1
    assert archive.purge(texts_only=True) == 0
    found = archive.run(live.id)
    assert_frame_equal(found.calls, live.calls)
    assert_frame_equal(found.episodes.drop(columns="summary"), live.episodes.drop(columns="summary"))
    assert found.episodes["summary"].isna().all()
    assert not run(store_url).reused.calls


def in_bytes(url: str, word: str) -> bool:
    path = Path(url.removeprefix("sqlite:///"))
    return any(word.encode() in file.read_bytes() for file in path.parent.glob(f"{path.name}*"))


@pytest.mark.parametrize("how", ["delete", "purge", "texts"])
def test_of_deleted_text_nothing_is_left_in_the_file(sqlite_url: str, how: str) -> None:
    """Nor in its log; and the file gives its space back."""
    live = run(sqlite_url, episodes(20, lines=8, word=SECRET))
    run(sqlite_url, episodes(1))
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    assert in_bytes(sqlite_url, SECRET)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    before = path.stat().st_size
    archive = open_store(sqlite_url)
    if how == "delete":
        archive.delete(live.id)
    elif how == "purge":
        archive.purge(0)
    else:
        archive.purge(texts_only=True)
    assert not in_bytes(sqlite_url, SECRET)
    assert path.stat().st_size < before
    assert Path(f"{path}-wal").stat().st_size == 0
    assert run(sqlite_url, repeat=9).totals()["ok"] == 3


def test_text_goes_also_while_a_run_goes_on(sqlite_url: str) -> None:
    """The file is not rewritten then, and the text is overwritten where it stood."""
    live = run(sqlite_url, episodes(20, lines=8, word=SECRET))
    plant(sqlite_url, "alive", holder=holders.this_process())
    open_store(sqlite_url).delete(live.id)
    assert not in_bytes(sqlite_url, SECRET)


def test_a_locked_file_is_no_reason_to_fail(sqlite_url: str) -> None:
    """Somebody reads at length: what is deleted is deleted, and the space is given back another time."""
    live = run(sqlite_url, episodes(5, word=SECRET))
    archive = open_store(sqlite_url)
    reader = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM runs").fetchall()
    assert archive.delete(live.id) == 1
    reader.close()
    assert archive.runs().empty
    archive.purge(0)
    assert not in_bytes(sqlite_url, SECRET)


# Files


def test_export_writes_every_frame(store_url: str, tmp_path: Path) -> None:
    """As CSV whose text no spreadsheet takes for a formula; of some runs only, if they are named."""
    given = [Episode.from_text("e0", "=1+1 is two. And so on.", title="=HYPERLINK(1)")]
    live = run(store_url, given)
    run(store_url)
    archive = open_store(store_url)
    folder = archive.export(tmp_path / "a" / "b", live.id)
    assert folder == tmp_path / "a" / "b"
    assert sorted(file.name for file in folder.iterdir()) == [
        "attempts.csv", "calls.csv", "episodes.csv", "limits.csv", "runs.csv",
    ]  # fmt: skip
    with (folder / "episodes.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["title"] == "'=HYPERLINK(1)"
    assert row["summary"].startswith("'=1+1")
    archive.export(folder)
    assert len((folder / "runs.csv").read_text().splitlines()) == 3


def test_export_to_parquet_keeps_types(store_url: str, tmp_path: Path) -> None:
    """What is read back is what was exported."""
    run(store_url, script={"faults": faults})
    archive = open_store(store_url)
    archive.export(tmp_path, format="parquet")
    for name in ("runs", *FRAMES):
        assert_frame_equal(pd.read_parquet(tmp_path / f"{name}.parquet"), getattr(archive, name)())


def test_export_says_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package, with the extra that brings it; or a format; nothing is written then."""
    archive = open_store()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependency, match=r"episode-toolkit\[parquet\]"):
        archive.export(tmp_path / "x", format="parquet")
    with pytest.raises(ConfigError, match="'csv' or 'parquet'"):
        archive.export(tmp_path / "x", format="xlsx")  # type: ignore[arg-type]
    assert not (tmp_path / "x").exists()


def test_a_failed_export_leaves_the_earlier_one(tmp_path: Path) -> None:
    """Files are replaced once all are written, and no part of one stays behind."""
    run("memory://")
    archive = open_store()
    archive.export(tmp_path)
    (tmp_path / "limits.csv").unlink()
    (tmp_path / "limits.csv").mkdir()

    def there() -> dict[str, bytes | None]:
        return {file.name: file.read_bytes() if file.is_file() else None for file in tmp_path.iterdir()}

    before = there()
    archive.delete(*archive.runs()["run_id"])
    with pytest.raises(OSError, match=r"limits\.csv"):
        archive.export(tmp_path)
    assert there() == before


# Opening


def test_open_store_takes_the_projects_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the environment names another, or the call does."""
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    assert repr(open_store()) == "<Archive memory://: 0 runs>"
    monkeypatch.delenv("TOOLKIT_STORE_URL")
    run(f"sqlite:///{tmp_path}/.toolkit/runs.db")
    assert repr(open_store()) == f"<Archive {tmp_path}/.toolkit/runs.db: 1 run>"
    assert len(open_store("sqlite:///other.db").runs()) == 0
    with pytest.raises(ConfigError, match="store_url"):
        open_store("runs.db")


def test_no_password_is_shown_or_pickled(postgresql: Any) -> None:
    """It may come in the URL or beside it; who loads the pickle has one of its own."""
    url = postgresql.url(postgresql.database(), user=postgresql.role)
    password = postgresql.password
    beside = open_store(url, password=password)
    within = open_store(url.replace("@", f":{password}@", 1))
    for archive in (beside, within):
        assert archive.runs().empty
        assert password not in repr(archive)
        assert password.encode() not in pickle.dumps(archive)


def test_the_repr_says_what_is_wrong(tmp_path: Path) -> None:
    """A notebook that shows the archive shows the trouble and does not fail for it."""
    path = tmp_path / "runs.db"
    archive = open_store(f"sqlite:///{path}")
    path.unlink()
    path.mkdir()
    assert "cannot be read" in repr(archive)


def test_an_archive_goes_through_a_pickle(sqlite_url: str) -> None:
    """As a worker process gets it."""
    live = run(sqlite_url)
    assert pickle.loads(pickle.dumps(open_store(sqlite_url))).runs()["run_id"].tolist() == [live.id]


def test_another_process_reads_what_was_kept(sqlite_url: str) -> None:
    """Nothing of a run is only in the memory of the process that made it."""
    live = run(sqlite_url, script={"faults": faults})
    code = (
        "import sys, toolkit as tk\n"
        "run = tk.open_store(sys.argv[1]).run(sys.argv[2])\n"
        "sys.stdout.buffer.write(run.calls.to_csv().encode())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, sqlite_url, live.id[:6]],
        check=True,
        capture_output=True,
        cwd=Path(tk.__file__).parents[1],
        timeout=120,
    )
    assert done.stdout.decode() == live.calls.to_csv()


def test_columns_say_what_they_are() -> None:
    """Each has a meaning, and a unit unless it is a name or a number of something."""
    for column in (*RUNS, *FIGURES):
        assert column.meaning
        if column.dtype in ("float64", "Int64") and column.name not in ("repeat", "quota_share"):
            assert column.unit
