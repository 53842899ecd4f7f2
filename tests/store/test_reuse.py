"""What was answered once is not asked again, and what was not is.

Who judges is whoever is asked: a scripted provider's own list, or the journal of a server.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.cli import main
from toolkit.clock import ManualClock
from toolkit.config import Config
from toolkit.errors import ConfigError, RequestRejected, RunInterrupted, TransientError
from toolkit.providers.base import SummarizationProvider
from toolkit.providers.openai import OpenAISummarizationProvider
from toolkit.providers.scripted import ScriptedSummarizationProvider
from toolkit.records import Episode, Reply, Request, Stage, Status, StopReason, Usage
from toolkit.runs import Run
from toolkit.store import schema
from toolkit.store.address import read_address
from toolkit.store.keeper import Keeper
from toolkit.store.opened import close_stores, store_at
from toolkit.testing import ApiServer
from toolkit.workflow import run

PATIENCE_S = 10.0
"""Bound on waiting for other threads; reached only if something is wrong."""
MODEL = "gpt-5.6-luna"
ALL = {"direct": 1, "map": 3, "reduce": 1}
"""Calls by stage of the two episodes of ``two()``, on the server."""


def episode(id: str, chunks: int = 1, *, topic: str = "") -> Episode:
    """Make an episode of lines, each of which just fills a chunk of 32 words."""
    words = " ".join(["word"] * 30)
    topic = topic or id
    return Episode.from_text(id, "\n".join(f"Hill{topic} {words} dry{n}." for n in range(chunks)))


class Asked:
    """What a scripted provider is asked, as its ``latency_s``; ``then`` is done with each request first."""

    def __init__(self, then: Callable[[Request], object] = lambda request: None) -> None:
        self.requests: list[Request] = []
        self._then = then

    def __call__(self, request: Request) -> float:
        self.requests.append(request)
        self._then(request)
        return 0.0

    @property
    def stages(self) -> Counter[str]:
        return Counter(request.stage.value for request in self.requests)

    @property
    def chunks(self) -> list[int]:
        return sorted(request.chunk_index for request in self.requests if request.chunk_index is not None)


def go(
    episodes: list[Episode],
    *,
    then: Callable[[Request], object] = lambda request: None,
    faults: Any = None,
    told: Mapping[str, Any] | None = None,
    **given: Any,
) -> tuple[Run, Asked]:
    """Run episodes by script; return the run and what was asked."""
    asked = Asked(then)
    config = Config(provider="scripted", **{"chunk_tokens": 32, **given})
    provider = ScriptedSummarizationProvider(config, latency_s=asked, faults=faults, clock=ManualClock())
    return run(episodes, provider=provider, **(told or {})), asked


@pytest.fixture(scope="module")
def running_server() -> Iterator[ApiServer]:
    with ApiServer(requests_per_minute=10**6, latency=0.0, reply_words=5) as server:
        yield server


@pytest.fixture
def server(running_server: ApiServer) -> ApiServer:
    running_server.reset_score()
    return running_server


def hosted(server: ApiServer, **given: Any) -> Config:
    defaults = {
        "provider": "openai",
        "model": MODEL,
        "openai_base_url": server.base_url,
        "openai_api_key": "any",
        "limits_url": "memory://",
        "openai_requests_per_minute": 10**9,
        "openai_tokens_per_minute": 10**9,
        "chunk_tokens": 80,
        "request_timeout_s": 20,
    }
    return Config(**{**defaults, **given})


def two() -> list[Episode]:
    """Return an episode that is one request, and one of three chunks."""
    return [episode("short"), episode("long", 5)]


def made(done: Run) -> dict[str, int]:
    """Return how many calls of each stage a run has made itself."""
    calls = done.calls[~done.calls["reused"]]
    return dict(Counter(calls["stage"]))


def requests(server: ApiServer) -> int:
    return len(server.journal())


def texts(done: Run) -> list[tuple[str, str | None, int]]:
    return [(record.summary.text, record.summary.error, record.summary.chunks) for record in done.records]


class Arrivals:
    """Counts the calls that are about to be looked for, of all runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._number = 0
        self._came = threading.Condition()
        call_key = Keeper.call_key

        def counted(keeper: Keeper, request: Request) -> str:
            with self._came:
                self._number += 1
                self._came.notify_all()
            return call_key(keeper, request)

        monkeypatch.setattr(Keeper, "call_key", counted)

    def wait_for(self, number: int) -> None:
        with self._came:
            assert self._came.wait_for(lambda: self._number >= number, PATIENCE_S)


@pytest.fixture
def arrivals(monkeypatch: pytest.MonkeyPatch) -> Arrivals:
    return Arrivals(monkeypatch)


# A run that is started again


def test_a_run_started_again_asks_nothing(server: ApiServer) -> None:
    """The server hears nothing of a second start, whose summaries and calls are those of the first."""
    first = run(two(), hosted(server))
    assert requests(server) == 5
    assert (made(first), first.reused.calls) == (ALL, 0)
    assert first.reused.usd is None or first.reused.usd == 0
    again = run(two(), hosted(server))
    assert requests(server) == 5
    assert texts(again) == texts(first)
    assert [list(frame["key"].sort_values()) for frame in (first.calls, again.calls)] == [
        sorted(first.calls["key"])
    ] * 2
    same = ["status", "chunks", "words", "calls", "input_tokens", "output_tokens", "summary"]
    pd.testing.assert_frame_equal(first.episodes[same], again.episodes[same])


def test_a_run_says_what_it_reused(server: ApiServer) -> None:
    """Calls, tokens and dollars of the first start are what the second one says it saved."""
    first = run(two(), hosted(server))
    again = run(two(), hosted(server))
    calls = first.calls
    saved = calls["cost_usd"].sum()
    assert saved > 0
    reused = again.reused
    assert (reused.calls, reused.input_tokens, reused.output_tokens) == (
        5,
        calls["input_tokens"].sum(),
        calls["output_tokens"].sum(),
    )
    assert reused.usd == pytest.approx(saved)
    assert f"5 calls reused ({reused.input_tokens} input and {reused.output_tokens} output" in repr(again)
    assert "reused" not in repr(first)
    assert list(again.episodes["calls_reused"]) == list(again.episodes["calls"])
    assert list(first.episodes["calls_reused"]) == [0, 0]
    assert list(again.episodes["cost_usd"]) == [0.0, 0.0]
    assert list(again.calls["cost_usd"]) == [0.0] * 5
    assert again.calls["saved_usd"].sum() == pytest.approx(saved)
    assert first.calls["saved_usd"].isna().all()
    assert list(again.calls["attempts"]) == [0] * 5
    assert again.attempts.empty
    totals = again.totals()
    assert (totals["calls"], totals["calls_reused"], totals["input_tokens"]) == (0, 5, 0)


def test_what_is_reused_takes_no_quota_and_no_time(server: ApiServer) -> None:
    """A reused call enters no throughput, waits for no limit and leaves no event of the limiter."""
    run(two(), hosted(server))
    again = run(two(), hosted(server))
    assert again.throughput().empty
    assert again.limits.empty
    assert again.quota_share is None
    waits = [name for name in map(str, again.calls) if name.startswith("wait_")]
    assert again.calls[waits].isna().all(axis=None)
    assert (again.calls["service_s"] == 0).all()
    assert (again.calls["queue_s"] == 0).all()


def test_savings_are_handed_on(server: ApiServer) -> None:
    """A third start, which may find what the second one has kept, saves as much."""
    run(two(), hosted(server))
    second, third = (run(two(), hosted(server)) for _ in range(2))
    assert third.reused == second.reused
    with_calls_only = run(two(), hosted(server, prices={MODEL: {"input": 1, "output": 1}}))
    assert with_calls_only.reused == second.reused


def test_the_command_says_what_it_reused(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command's figures are those of the calls made, and what was reused stands beside them."""
    monkeypatch.chdir(tmp_path)
    Path("bees.txt").write_text("Mara: Bees dance. They point to flowers.\n")
    settings = [f"openai_base_url={server.base_url}", "limits_url=memory://", f"model={MODEL}"]
    command = ["run", "bees.txt", "--provider", "openai", "--out", "out"]
    command += [word for setting in settings for word in ("--set", setting)]
    assert main(command) == 0
    assert "reused" not in capsys.readouterr().out
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "1 of 1 episode in" in printed
    assert "1 call reused (" in printed
    assert "input tokens/s" not in printed
    assert requests(server) == 1
    assert main([*command, "--reuse", "none"]) == 0
    assert "reused" not in capsys.readouterr().out
    assert requests(server) == 2


def test_another_process_finds_what_was_kept(server: ApiServer, sqlite_url: str) -> None:
    """A store that is opened anew holds the answers."""
    first = run(two(), hosted(server, store_url=sqlite_url))
    close_stores()
    again = run(two(), hosted(server, store_url=sqlite_url))
    assert (requests(server), texts(again)) == (5, texts(first))


def test_only_new_episodes_are_asked_about() -> None:
    """Of a longer list those are taken that are kept, under whatever id and title."""
    _, before = go([episode("a", 3), episode("b")])
    renamed = Episode.from_text("z", episode("a", 3).text, title="other")
    after, asked = go([episode("b"), renamed, episode("c", 2)])
    assert before.stages == {"map": 3, "reduce": 1, "direct": 1}
    assert asked.stages == {"map": 2, "reduce": 1}
    assert {request.episode_id for request in asked.requests} == {"c"}
    assert list(after.episodes["calls_reused"]) == [1, 4, 0]


# Whole episodes and parts of them


def test_a_finished_episode_is_taken_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its text is not cut again, nor are its calls looked for one by one."""
    first, _ = go([episode("a", 3)])
    monkeypatch.setattr(Keeper, "asking", None)
    again, asked = go([episode("a", 3)])
    assert not asked.requests
    assert texts(again) == texts(first)
    assert [(call.stage, call.chunk_index) for call in again.records[0].summary.calls] == [
        ("map", 0),
        ("map", 1),
        ("map", 2),
        ("reduce", None),
    ]


def test_of_a_stopped_episode_only_the_rest_is_asked() -> None:
    """A start that is stopped in the middle of an episode is gone on with at the call that it came to."""
    stop = threading.Event()
    then = {2: stop.set}
    stopped, before = go(
        [episode("a", 5)], then=lambda r: then.get(r.chunk_index or 0, int)(), told={"stop": stop}
    )
    assert (before.chunks, stopped.counts()) == ([0, 1, 2], {"cancelled": 1})
    again, after = go([episode("a", 5)])
    assert (after.chunks, after.stages["reduce"]) == ([3, 4], 1)
    assert (again.counts(), again.reused.calls) == ({"ok": 1}, 3)
    fresh, _ = go([episode("a", 5)], reuse="none")
    assert texts(again) == texts(fresh)


@pytest.mark.parametrize("parallelism", [1, 4])
def test_of_a_partial_episode_only_what_failed_is_asked(parallelism: int) -> None:
    """The failed chunk, and the summary of summaries that it was missing from, are asked for; no more."""
    faults = {1: RequestRejected("not this one")}
    width: dict[str, Any] = {"summary_chunk_parallelism": parallelism}
    partial, _ = go([episode("a", 4)], faults=faults, **width)
    assert partial.counts() == {"partial": 1}
    again, asked = go([episode("a", 4)], **width)
    assert (asked.chunks, asked.stages) == ([1], {"map": 1, "reduce": 1})
    assert (again.counts(), again.reused.calls) == ({"ok": 1}, 3)
    third, asked = go([episode("a", 4)], **width)
    assert (asked.requests, third.reused.calls) == ([], 5)


def test_of_a_failed_episode_only_what_failed_is_asked() -> None:
    """Where the last call failed, the chunks' own are taken."""

    def broken(request: Request, attempt: int) -> Exception | None:
        return RequestRejected("no") if request.stage == "reduce" else None

    failed, _ = go([episode("a", 4)], faults=broken)
    assert failed.counts() == {"failed": 1}
    again, asked = go([episode("a", 4)])
    assert (asked.stages, again.counts()) == ({"reduce": 1}, {"ok": 1})


def test_what_failed_on_the_server_is_asked_again() -> None:
    """A chunk that the server refused is all that it is asked for, with the summary that missed it."""
    faults = [None, None, "invalid_request"]
    with ApiServer(requests_per_minute=10**6, latency=0.0, reply_words=5, faults=faults) as server:
        assert run(two(), hosted(server)).counts() == {"ok": 1, "partial": 1}
        before = requests(server)
        again = run(two(), hosted(server))
        assert requests(server) == before + 2
        assert made(again) == {"map": 1, "reduce": 1}
        assert again.counts() == {"ok": 2}


def test_a_lost_answer_is_asked_again_and_others_are_not() -> None:
    """A retry asks once more for the one call whose answer was lost, and a new start for none."""
    with ApiServer(requests_per_minute=10**6, latency=0.0, reply_words=5, faults=["500"]) as server:
        first = run(two(), hosted(server, retry_total_s=10), clock=ManualClock())
        assert (first.counts(), requests(server)) == ({"ok": 2}, 6)
        run(two(), hosted(server))
        assert (requests(server), server.score().paid_twice) == (6, 0)


# What matters and what does not

NO_MATTER: dict[str, Any] = {
    "summary_batch_size": 2,
    "summary_chunk_parallelism": 3,
    "openai_max_concurrent_requests": 1,
    "openai_requests_per_minute": 10**8,
    "openai_tokens_per_minute": 10**8,
    "openai_requests_per_day": 10**8,
    "openai_tokens_per_day": 10**8,
    "anthropic_max_concurrent_requests": 1,
    "anthropic_requests_per_minute": 1,
    "anthropic_input_tokens_per_minute": 1,
    "anthropic_output_tokens_per_minute": 1,
    "limits": "auto",
    "limits_law": "safe",
    "limits_charge": "sum",
    "limits_oversize": "wait_full",
    "openai_api_key": "another-accounts",
    "azure_api_version": "2025-01-01",
    "azure_api_key": "any",
    "anthropic_base_url": "http://127.0.0.1:9",
    "anthropic_api_key": "any",
    "allow_insecure_http": True,
    "request_timeout_s": 19,
    "context_tokens": 8192,
    "prices": {MODEL: {"input": 1, "output": 1}},
    "device": "cpu",
    "dtype": "float32",
    "engine": "torch",
    "engine_batch_tokens": 64,
    "engine_memory_gb": 1.0,
    "engine_instances": "per_episode",
    "deterministic": True,
    "model_revision": "main",
    "trust_remote_code": True,
    "max_attempts": 1,
    "retry_total_s": 0,
    "stop_grace_s": 0,
    "store_password": "any",
    "limits_password": "any",
    "store_text": False,
    "store_wait_s": 0,
    "cluster_address": "tcp://127.0.0.1:9",
    "secrets_reader": "os:getenv",
    "budget_usd": 1.0,
    "budget_tokens": 10**6,
    "budget_calls": 100,
    "no_repeat_ngram": None,
    "repetition_penalty": None,
}
"""Settings that change no answer of a hosted model; another value of each."""
OF_ALL_STAGES: dict[str, Any] = {
    "model": "gpt-5.6-sol",
    "openai_api": "responses",
    "reasoning_effort": "low",
    "summary_max_tokens": 300,
    "system_prompt": "Be brief.",
    "temperature": 0.5,
    "top_p": 0.5,
    "seed": 1,
    "repeat": 2,
}
OF_SOME_STAGES: dict[str, Any] = {
    "chunk_tokens": (128, {"map", "reduce"}),
    "chunk_overlap_tokens": (40, {"map", "reduce"}),
    "direct_prompt": ("{text}\nSum up.", {"direct"}),
    "map_prompt": ("Bees dance, and tell each other of flowers.\n{text}", {"map", "reduce"}),
    "reduce_prompt": ("{text}\nSum up.", {"reduce"}),
}
ELSEWHERE = {
    "provider",
    "openai_base_url",
    "azure_endpoint",
    "episode_backend",
    "limits_url",
    "store_url",
    "reuse",
    "budget_name",
}
"""Looked at in tests of their own, or in need of another setting."""


def test_of_every_setting_it_is_known_whether_it_matters() -> None:
    """A new setting is put among those that change an answer, or among those that do not."""
    sorted_out = [*NO_MATTER, *OF_ALL_STAGES, *OF_SOME_STAGES, *ELSEWHERE]
    assert sorted(sorted_out) == sorted(Config.model_fields)


def test_all_settings_that_do_not_matter_together_change_nothing(server: ApiServer, tmp_path: Path) -> None:
    """Another schedule, other limits, time-outs, keys and prices ask for nothing anew."""
    first = run(two(), hosted(server))
    other = hosted(server, **NO_MATTER, limits_url=f"sqlite:///{tmp_path}/limits.db", budget_name="b")
    again = run(two(), other)
    assert (requests(server), texts(again)) == (5, texts(first))


@pytest.mark.parametrize("name", NO_MATTER)
def test_a_setting_that_does_not_matter_changes_nothing(server: ApiServer, name: str) -> None:
    """Each of them alone, as well."""
    run(two(), hosted(server))
    run(two(), hosted(server, **{name: NO_MATTER[name]}))
    assert requests(server) == 5


@pytest.mark.filterwarnings("ignore:gpt.* takes no")
@pytest.mark.parametrize("name", OF_ALL_STAGES)
def test_a_setting_that_matters_asks_anew(server: ApiServer, name: str) -> None:
    """Every call is made again, and once more the settings of before are found as they were."""
    run(two(), hosted(server))
    other = run(two(), hosted(server, **{name: OF_ALL_STAGES[name]}))
    assert (made(other), requests(server)) == (ALL, 10)
    run(two(), hosted(server))
    run(two(), hosted(server, **{name: OF_ALL_STAGES[name]}))
    assert requests(server) == 10


@pytest.mark.parametrize("name", OF_SOME_STAGES)
def test_a_setting_of_a_stage_asks_that_stage_anew(server: ApiServer, name: str) -> None:
    """The other stages' calls are taken, and of this one those whose question is still the same."""
    value, stages = OF_SOME_STAGES[name]
    first = run(two(), hosted(server))
    other = run(two(), hosted(server, **{name: value}))
    calls = other.calls
    assert set(calls["stage"][~calls["reused"]]) == stages
    assert set(calls["stage"][calls["reused"]]) >= set(ALL) - stages
    assert requests(server) == len(first.calls) + (~calls["reused"]).sum()


def test_another_server_is_asked_anew(server: ApiServer) -> None:
    """The same model at another address may be another one."""
    run(two(), hosted(server))
    with ApiServer(requests_per_minute=10**6, latency=0.0, reply_words=5) as other:
        run(two(), hosted(other))
        assert requests(other) == 5
    assert requests(server) == 5


def test_the_same_text_is_asked_once_of_each_stage() -> None:
    """What is asked twice within a run is asked once: equal episodes, equal chunks."""
    twin = Episode.from_text("twin", episode("a").text)
    done, asked = go([episode("a"), twin, episode("l", 2), episode("m", 3, topic="l")])
    assert asked.stages == {"direct": 1, "map": 3, "reduce": 2}
    assert done.counts() == {"ok": 4}
    assert done.reused.calls == 3


def test_an_answer_of_one_stage_is_none_of_another() -> None:
    """Under one cap a whole text and an equal chunk are the same words, and still two questions."""
    double = Episode.from_text("double", f"{episode('a').text}\n{episode('a').text}")
    _, asked = go([episode("a"), double], summary_max_tokens=64)
    assert asked.stages == {"direct": 1, "map": 1, "reduce": 1}


# Reuse within a run's own starts, and none


def stopped_run(count: int, *, before: int = 0, **given: Any) -> None:
    """Start a run of four episodes and stop it after some, beside those that it finds."""
    stop = threading.Event()
    calls = itertools.count(1)
    done, _ = go(
        [episode(f"e{n}") for n in range(4)],
        then=lambda request: stop.set() if next(calls) == count else None,
        told={"stop": stop},
        **given,
    )
    assert (done.counts()["ok"], done.reused.calls) == (before + count, before)


def whole_run(**given: Any) -> int:
    """Run the same four episodes to their end; return how many were asked about."""
    _, asked = go([episode(f"e{n}") for n in range(4)], **given)
    return len(asked.requests)


def test_an_unfinished_start_is_gone_on_with() -> None:
    """With ``run`` all starts since the last end count, and after an end all is asked anew."""
    stopped_run(1, reuse="run")
    stopped_run(2, before=1, reuse="run")
    assert whole_run(reuse="run") == 1
    assert whole_run(reuse="run") == 4
    stopped_run(2, reuse="run")
    assert whole_run(reuse="run") == 2


def test_a_failed_episode_leaves_a_run_unfinished() -> None:
    """A start of which an episode failed is gone on with, at what failed."""

    def broken(request: Request, attempt: int) -> Exception | None:
        return RequestRejected("no") if request.episode_id == "e2" else None

    assert whole_run(reuse="run", faults=broken) == 4
    assert whole_run(reuse="run") == 1
    assert whole_run(reuse="run") == 4


@pytest.mark.parametrize(
    "other",
    [
        {"summary_batch_size": 2},
        {"max_attempts": 3},
        {"chunk_tokens": 33},
        {"repeat": 2},
        {"openai_requests_per_minute": 7},
    ],
    ids=lambda other: next(iter(other)),
)
def test_another_run_is_no_start_of_this_one(other: dict[str, Any]) -> None:
    """With ``run`` a start under other settings, of another repeat or with another schedule is not taken."""
    stopped_run(2, **other)
    assert whole_run(reuse="run") == 4


def test_other_episodes_are_another_run() -> None:
    """With ``run`` the same settings on one episode more, or in another order, are another run."""
    stopped_run(2)
    more = [episode(f"e{n}") for n in range(5)]
    for episodes in (more, more[3::-1]):
        _, asked = go(episodes, reuse="run")
        assert len(asked.requests) == len(episodes)


@pytest.mark.parametrize(
    "free",
    [{"stop_grace_s": 1}, {"store_wait_s": 1}, {"budget_calls": 10}, {"reuse": "all"}, {"store_text": True}],
    ids=lambda free: next(iter(free)),
)
def test_what_is_no_part_of_a_run_may_differ_between_its_starts(free: dict[str, Any]) -> None:
    """With ``run`` a start is gone on with under another budget, grace time or way of keeping."""
    stopped_run(2, **{"reuse": "run", **free})
    assert whole_run(reuse="run") == 2


def test_a_finished_run_is_never_taken_by_run() -> None:
    """With ``run`` the answers of complete runs are not taken, and those with ``all`` are."""
    assert whole_run() == 4
    assert whole_run(reuse="run") == 4
    assert whole_run(reuse="all") == 0


def test_within_its_own_start_a_run_takes_its_answers() -> None:
    """With ``run`` what is asked twice by one start is asked once."""
    twin = Episode.from_text("twin", episode("a").text)
    _, asked = go([episode("a"), twin], reuse="run")
    assert len(asked.requests) == 1


def test_none_asks_everything(server: ApiServer) -> None:
    """With ``none`` nothing is taken, twice in one run neither, and what is answered is kept for others."""
    twins = [episode("a"), Episode.from_text("twin", episode("a").text)]
    for number in (1, 2):
        done = run(twins, hosted(server, reuse="none"))
        assert (requests(server), done.reused.calls) == (2 * number, 0)
    assert run(twins, hosted(server)).reused.calls == 2
    assert requests(server) == 4


# At once


@pytest.mark.parametrize("reuse", ["all", "run"])
def test_equal_requests_in_flight_are_made_once(arrivals: Arrivals, reuse: str) -> None:
    """While one thread asks, those with the same question wait for its answer."""
    twins = [Episode.from_text(f"e{n}", episode("a").text) for n in range(4)]
    done, asked = go(twins, then=lambda r: arrivals.wait_for(4), summary_batch_size=4, reuse=reuse)
    assert (len(asked.requests), done.counts(), done.reused.calls) == (1, {"ok": 4}, 3)


def test_equal_chunks_in_flight_are_made_once(arrivals: Arrivals) -> None:
    """It holds for the chunks of one episode as well."""
    line = " ".join(["word"] * 30)
    twins = Episode.from_text("e", "\n".join([line] * 4))
    done, asked = go([twins], then=lambda r: arrivals.wait_for(4), summary_chunk_parallelism=4)
    assert (asked.stages, done.reused.calls) == ({"map": 1, "reduce": 1}, 3)


def test_equal_requests_are_sent_once() -> None:
    """A server of 50 ms hears one of eight equal questions."""
    twins = [Episode.from_text(f"e{n}", episode("a").text) for n in range(8)]
    with ApiServer(requests_per_minute=10**6, latency=0.05, reply_words=5) as slow:
        done = run(twins, hosted(slow, summary_batch_size=8))
        assert (requests(slow), done.counts(), done.reused.calls) == (1, {"ok": 8}, 7)


def test_two_runs_at_once_ask_once(arrivals: Arrivals) -> None:
    """Equal requests of two runs in one process are made once, by whichever comes first."""

    def start(number: int) -> tuple[Run, Asked]:
        return go([episode("a", 3)], then=lambda r: arrivals.wait_for(2), max_attempts=1 + number)

    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(start, range(2)))
    assert sum((asked.stages for _, asked in both), Counter()) == {"map": 3, "reduce": 1}
    assert sum(done.reused.calls for done, _ in both) == 4
    assert texts(both[0][0]) == texts(both[1][0])


def test_measurements_at_once_do_not_wait_for_each_other() -> None:
    """With ``run`` two different runs with one question ask it side by side."""
    meeting = threading.Barrier(2)

    def start(number: int) -> tuple[Run, Asked]:
        return go(
            [episode("a")],
            then=lambda request: meeting.wait(PATIENCE_S),
            max_attempts=1 + number,
            reuse="run",
        )

    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(start, range(2)))
    assert [(len(asked.requests), done.counts()) for done, asked in both] == [(1, {"ok": 1})] * 2


def test_with_none_equal_requests_are_made_side_by_side() -> None:
    """With ``none`` nobody waits for another's answer."""
    meeting = threading.Barrier(3)
    twins = [Episode.from_text(f"e{n}", episode("a").text) for n in range(3)]
    done, asked = go(twins, then=lambda r: meeting.wait(PATIENCE_S), summary_batch_size=3, reuse="none")
    assert (len(asked.requests), done.counts()) == (3, {"ok": 3})


def test_when_the_first_fails_one_of_the_others_asks(arrivals: Arrivals) -> None:
    """A failure is nobody's answer: the next one asks, and the rest take what it gets."""
    twins = [Episode.from_text(f"e{n}", episode("a").text) for n in range(4)]
    refusals = iter([RequestRejected("no"), RequestRejected("no")])
    done, asked = go(
        twins,
        then=lambda r: arrivals.wait_for(4),
        faults=lambda request, attempt: next(refusals, None),
        summary_batch_size=4,
    )
    assert (len(asked.requests), done.counts(), done.reused.calls) == (3, {"failed": 2, "ok": 2}, 1)


def test_when_the_first_breaks_off_one_of_the_others_asks(arrivals: Arrivals) -> None:
    """A program's mistake in a provider wakes those who wait as well."""
    twins = [Episode.from_text(f"e{n}", episode("a").text) for n in range(3)]
    mistakes = iter([TypeError("of the program")])
    done, asked = go(
        twins,
        then=lambda r: arrivals.wait_for(3),
        faults=lambda request, attempt: next(mistakes, None),
        summary_batch_size=3,
    )
    assert (len(asked.requests), done.counts()) == (2, {"failed": 1, "ok": 2})


def test_a_stop_ends_the_waiting_for_anothers_answer(arrivals: Arrivals) -> None:
    """Who waits for an answer is let go by a stop while the one who asks is still at it."""
    stop, enough = threading.Event(), threading.Semaphore(0)
    twins = [Episode.from_text(f"e{n}", episode("a").text) for n in range(4)]

    def ended(record: Any) -> None:
        if record.summary.status is Status.CANCELLED:
            enough.release()

    def then(request: Request) -> None:
        arrivals.wait_for(4)
        stop.set()
        for _ in range(3):
            assert enough.acquire(timeout=PATIENCE_S)

    done, asked = go(twins, then=then, summary_batch_size=4, told={"stop": stop, "on_episode": ended})
    assert (len(asked.requests), done.counts()) == (1, {"ok": 1, "cancelled": 3})
    cancelled = done.calls[done.calls["status"] == "cancelled"]
    assert list(cancelled["attempts"]) == [0, 0, 0]


def test_a_kept_answer_needs_no_admission(server: ApiServer) -> None:
    """With the quota used up a kept call comes back at once, and a new one waits."""
    tight = hosted(server, openai_requests_per_minute=1, summary_batch_size=2)
    assert run([episode("kept")], tight).counts() == {"ok": 1}
    stop = threading.Event()
    done = run([episode("new"), episode("kept")], tight, stop=stop, on_episode=lambda record: stop.set())
    assert [record.summary.status for record in done.records] == ["cancelled", "ok"]
    assert requests(server) == 1


# What is no answer


def test_without_texts_nothing_is_kept_of_them_and_nothing_taken(
    server: ApiServer, tmp_path: Path, sqlite_url: str
) -> None:
    """With ``store_text=False`` no word of a transcript or a reply is on disk, and all is asked again."""
    config = hosted(server, store_url=sqlite_url, store_text=False)
    episodes = [Episode.from_text("e", "Zanzibar\n" * 200), Episode.from_text("f", "Quagga quagga.")]
    first = run(episodes, config)
    assert first.counts() == {"ok": 2}
    assert "anzibar" in "".join(record.summary.text for record in first.records)
    run(episodes, config)
    assert requests(server) == 2 * len(first.calls)
    for when in ("open", "closed"):
        kept = b"".join(path.read_bytes() for path in tmp_path.glob("runs.db*"))
        assert b"gpt-5.6-luna" in kept, when
        assert b"anzibar" not in kept, when
        assert b"uagga" not in kept, when
        close_stores()


def test_what_was_kept_with_its_texts_is_taken_by_runs_without(server: ApiServer) -> None:
    """A run that keeps no texts takes those of others, and leaves none."""
    run(two(), hosted(server))
    again = run(two(), hosted(server, store_text=False))
    assert (requests(server), again.reused.calls) == (5, 5)


def test_replies_of_ones_own_are_never_taken() -> None:
    """A script with replies of its own may give others each time, and so may a class made of it."""

    class Shouting(ScriptedSummarizationProvider):
        def generate(self, request: Request) -> Reply:
            asked.requests.append(request)
            return super().generate(request)

    asked = Asked()
    config = Config(provider="scripted")
    for number in (1, 2):
        run([episode("a")], provider=Shouting(config))
        assert len(asked.requests) == number
    told = ScriptedSummarizationProvider(config, replies=lambda request: "Yes.", latency_s=asked)
    for number in (3, 4):
        done = run([episode("a")], provider=told)
        assert (len(asked.requests), done.reused.calls) == (number, 0)
    run([episode("a")], provider=ScriptedSummarizationProvider(config, latency_s=asked))
    assert len(asked.requests) == 5


ASKED: list[Request] = []
"""What providers of one's own were asked; not in their classes, of whose digest it would be a part."""


class Own(SummarizationProvider):
    """A provider that somebody has just written."""

    name = "own"
    default_model = "m"

    def generate(self, request: Request) -> Reply:
        ASKED.append(request)
        return Reply("A summary.", Usage(1, 2, counter="words"))


def newer(body: str = "A summary.", **members: Any) -> type[Own]:
    """Return the class as it is after its code was changed."""
    source = (
        "def generate(self, request):\n"
        "    asked.append(request)\n"
        f"    return Reply({body!r}, Usage(1, 2, counter='words'))\n"
    )
    names: dict[str, Any] = {"Reply": Reply, "Usage": Usage, "asked": ASKED}
    exec(source, names)
    members = {"name": "own", "default_model": "m", "generate": names["generate"], **members}
    return type("Own", (SummarizationProvider,), members)


def asked_by(kind: type[Any]) -> int:
    """Return how often a class is asked in a run of its own."""
    ASKED.clear()
    assert run([episode("a")], provider=kind(Config(provider="own"))).counts() == {"ok": 1}
    return len(ASKED)


def test_an_own_provider_is_taken_until_its_code_changes() -> None:
    """The same code again asks nothing; a changed method does, and so does another name or model."""
    assert asked_by(Own) == 1
    assert asked_by(Own) == 0
    assert asked_by(newer()) == 1
    assert asked_by(newer()) == 0
    assert asked_by(newer("Another one.")) == 1
    assert asked_by(newer(helper=lambda self: 1)) == 1
    assert asked_by(newer(helper=lambda self: 2)) == 1
    assert asked_by(newer(helper=property(lambda self: 3))) == 1
    assert asked_by(newer(helper=staticmethod(lambda: 4))) == 1
    assert asked_by(newer(name="other")) == 1
    assert asked_by(newer(default_model="other")) == 1
    assert asked_by(newer()) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"helper": lambda self, style="short": style},
        {"helper": lambda self, style="long": style},
        {"helper": lambda self, *, style="short": style},
        {"style": "short"},
        {"style": ("short", 3)},
    ],
)
def test_defaults_and_constants_are_code(change: dict[str, Any]) -> None:
    """A method's defaults and a class's own values change answers as its code does."""
    assert asked_by(newer(helper=lambda self, style="": style, style="")) == 1
    assert asked_by(newer(**{"helper": lambda self, style="": style, "style": "", **change})) == 1


def test_code_is_the_same_in_every_process() -> None:
    """An own provider's answers are found by the next process, whatever its hashes are."""
    script = (
        "from toolkit.providers.base import SummarizationProvider, code_digest\n"
        "class Own(SummarizationProvider):\n"
        "    def generate(self, request):\n"
        "        return request.stage in {'a', 'b', 'c', 'd', 'e'}\n"
        "print(code_digest(Own))"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "12"
    ]
    assert found[0] == found[1]


def test_a_class_made_of_a_hosted_provider_is_another(server: ApiServer) -> None:
    """Who changes what an answer is makes a provider of its own, whose answers are not the other's."""

    class Shouting(OpenAISummarizationProvider):
        def generate(self, request: Request) -> Reply:
            return replace(reply := super().generate(request), text=reply.text.upper())

    plain = run([episode("a")], hosted(server))
    with Shouting(hosted(server)) as shouting:
        loud = run([episode("a")], provider=shouting)
    assert requests(server) == 2
    assert texts(loud)[0][0] == texts(plain)[0][0].upper()


def test_who_says_what_its_answers_depend_on_is_believed() -> None:
    """With an ``identity`` of its own a provider is taken across changes of its code, or not at all."""
    assert asked_by(newer("One.", identity=lambda self: {"own": 1})) == 1
    assert asked_by(newer("Two.", identity=lambda self: {"own": 1})) == 0
    assert asked_by(newer("Two.", identity=lambda self: {"own": 2})) == 1
    unknown = newer(identity=lambda self: None)
    assert [asked_by(unknown), asked_by(unknown)] == [1, 1]


def test_nobodys_answers_are_not_taken_within_a_run() -> None:
    """A provider of which nobody knows what its answers depend on is asked for each of two equal texts."""
    kind = newer(identity=lambda self: None)
    ASKED.clear()
    twins = [episode("a"), Episode.from_text("twin", episode("a").text)]
    run(twins, provider=kind(Config(provider="own")))
    assert len(ASKED) == 2


@pytest.mark.parametrize("reason", StopReason)
def test_an_answer_is_one_however_it_ended(reason: StopReason) -> None:
    """A reply that was cut, refused or empty was paid for, and the same question would bring it again."""

    def generate(self: Any, request: Request) -> Reply:
        ASKED.append(request)
        text = "" if reason in (StopReason.EMPTY, StopReason.REASONING) else "It is. It was"
        return Reply(text, Usage(1, 2, counter="words"), reason)

    kind = newer(generate=generate)
    ASKED.clear()
    first, again = (run([episode("a")], provider=kind(Config(provider="own"))) for _ in range(2))
    assert (len(ASKED), again.reused.calls) == (1, 1)
    assert texts(again) == texts(first)
    assert list(again.calls["stop_reason"]) == [reason.value]


@pytest.mark.parametrize("error", [RequestRejected("no"), TransientError("no"), ValueError("no")])
def test_a_failure_is_never_taken(error: Exception) -> None:
    """A call that failed is made by each run anew, until it goes well."""
    for _ in range(2):
        done, asked = go([episode("a")], faults=lambda request, attempt: error, max_attempts=1)
        assert (done.counts(), len(asked.requests)) == ({"failed": 1}, 1)
    assert len(go([episode("a")])[1].requests) == 1
    assert len(go([episode("a")])[1].requests) == 0


def test_a_cancelled_call_is_never_taken() -> None:
    """A call that a stop broke off is made anew."""
    stop = threading.Event()

    def broken(request: Request, attempt: int) -> Exception | None:
        stop.set()
        return TransientError("no")

    done, _ = go([episode("a")], faults=broken, told={"stop": stop})
    assert list(done.calls["status"]) == ["cancelled"]
    assert len(go([episode("a")])[1].requests) == 1


# Any text

AWKWARD = {
    "half": "\ud83d half \udc1d",
    "null": "nu\0ll",
    "emoji": "🐝👩‍🚀 e\u0301",
    "long": "x" * 300_000,
    "quotes": "'; DROP TABLE calls; -- \" \\ %s :x {text}",
    "marks": "\u202e\u2028\u0085\ufeff\x1b[31m",
}


@pytest.mark.parametrize("name", AWKWARD)
def test_any_text_is_kept_and_taken_again(store_url: str, name: str) -> None:
    """Ids, titles, transcripts and replies of whatever characters are kept, and their answers found."""
    awkward = AWKWARD[name]
    asked = Asked()
    config = Config(provider="scripted", store_url=store_url, chunk_tokens=32)
    lines = [Episode.from_text("x", f"Zero{n} {'word ' * 28}").turns[0] for n in range(2)]
    whole = Episode(
        f"id {awkward}",
        tuple(type(line)(f"{awkward} {line.text}", speaker=awkward[:50]) for line in lines),
        title=f"title {awkward}",
    )
    first, again = (
        run([whole], provider=ScriptedSummarizationProvider(config, latency_s=asked)) for _ in range(2)
    )
    assert first.counts() == {"ok": 1}
    assert asked.stages["map"] > 1
    assert len(asked.requests) == sum(made(first).values())
    assert again.reused.calls == len(first.calls)
    assert texts(again) == texts(first)


def test_a_reply_is_used_as_it_is_kept() -> None:
    """Where a reply has characters that no database takes, the summary of it is found again as well."""

    def generate(self: Any, request: Request) -> Reply:
        ASKED.append(request)
        if type(self).broken and request.chunk_index == 1:
            raise RequestRejected("not this one")
        return Reply(f"A \0 and \ud800, at {request.prompt[-80:]}", Usage(1, 2, counter="words"))

    kind = newer(generate=generate, broken=True)
    ASKED.clear()
    config = Config(provider="own", chunk_tokens=32)
    partial, again = (run([episode("a", 3)], provider=kind(config)) for _ in range(2))
    assert (partial.counts(), texts(again)) == ({"partial": 1}, texts(partial))
    assert len(ASKED) == sum(made(partial).values()) + 1


@pytest.mark.parametrize("end", ["\0", "\ud83d"])
def test_ids_that_are_kept_as_one_are_refused(end: str) -> None:
    """Of two ids that differ only in what no database takes each would be found with the other's calls."""
    strange = [Episode.from_text(f"e{last}", f"Hill{last!r}.") for last in ("\ufffd", end)]
    with pytest.raises(ConfigError, match="two episodes have the id"):
        go(strange)


def test_a_run_whose_generator_broke_has_not_come_to_its_end() -> None:
    """With reuse="run" the next start goes on from there."""

    def broken() -> Iterator[Episode]:
        yield Episode.from_text("a", "Rain fell.")
        raise OSError("the disk is gone")

    config = Config(provider="scripted", reuse="run")
    with pytest.raises(RunInterrupted):
        run(broken(), config, progress=False)
    assert run(iter([Episode.from_text("a", "Rain fell.")]), config, progress=False).reused.calls == 1


# Whatever is run in whatever order

topics = st.lists(st.sampled_from("abc"), min_size=1, max_size=4)
"""An episode: a chunk a topic, so that episodes have chunks in common."""
schedules = st.fixed_dictionaries(
    {
        "summary_batch_size": st.integers(1, 3),
        "summary_chunk_parallelism": st.integers(1, 3),
        "max_attempts": st.integers(1, 4),
        "store_wait_s": st.integers(0, 60),
        "stop_grace_s": st.sampled_from([0, 30]),
        "budget_calls": st.none() | st.just(10**6),
    }
)


@settings(max_examples=40, deadline=None)
@given(
    pool=st.lists(topics, min_size=1, max_size=5),
    runs=st.lists(st.tuples(st.sets(st.integers(0, 4)), schedules, st.integers(1, 6)), max_size=5),
)
def test_every_question_is_asked_once(pool: list[list[str]], runs: list[Any]) -> None:
    """Over any sequence of runs, stopped or not, a provider sees each distinct question once."""
    close_stores()
    lines = {topic: episode(topic).text for topic in "abc"}
    library = [
        Episode.from_text(f"e{n}", "\n".join(lines[topic] for topic in chunks))
        for n, chunks in enumerate(pool)
    ]
    seen: list[tuple[str, Stage]] = []
    for chosen, schedule, patience in [*runs, (set(range(5)), {}, 10**6)]:
        stop = threading.Event()
        ended = itertools.count(1)
        told = {
            "stop": stop,
            "on_episode": lambda record, e=ended, p=patience, s=stop: s.set() if next(e) >= p else None,
        }
        episodes = [library[n] for n in sorted(chosen) if n < len(library)]
        _, asked = go(episodes, told=told, **{k: v for k, v in schedule.items() if v is not None})
        seen += [(request.prompt, request.stage) for request in asked.requests]
    assert len(seen) == len(set(seen))
    close_stores()
    _, fresh = go(library)
    assert set(seen) == {(request.prompt, request.stage) for request in fresh.requests}


def test_of_made_calls_no_two_have_one_key(sqlite_url: str) -> None:
    """Rows of calls that were made have a key each, whatever was reused beside them."""
    for _ in range(3):
        go([episode("a", 3), episode("b")], store_url=sqlite_url)
    with store_at(read_address(sqlite_url)).reading() as connection:
        rows = connection.execute(schema.calls.select()).all()
    made_keys = [row.key for row in rows if not row.reused]
    assert (len(made_keys), len(set(made_keys)), len(rows)) == (5, 5, 15)
