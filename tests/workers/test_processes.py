"""Episodes on processes of this machine: the same run, whoever works on it."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import psutil
import pytest
from other_processes import episodes_of, kill, soon

from toolkit.archive import open_store
from toolkit.clock import ManualClock
from toolkit.config import Config
from toolkit.errors import (
    BudgetExceeded,
    ConfigError,
    MissingDependency,
    ModelUnavailable,
    RunInterrupted,
    ToolkitError,
    TranscriptError,
)
from toolkit.gate import EpisodeGate
from toolkit.handle import start
from toolkit.providers.registry import get_provider
from toolkit.records import Episode, EpisodeRecord
from toolkit.testing import ApiServer
from toolkit.workflow import run

IMPORTING = """
import builtins, importlib._bootstrap, sys, threading, time
from toolkit.backends import find_backend
from toolkit.config import Config

def watched(name, globals=None, *more):
    if (globals or {}).get("__name__", "").startswith("joblib"):
        if threading.current_thread() is asker:
            half.append(name)
        elif asker.ident is None:
            asker.start()
            while asker.is_alive() and not half and asker.ident not in importlib._bootstrap._blocking_on:
                time.sleep(0)
    return imported(name, globals, *more)

half, found = [], []
asker = threading.Thread(target=lambda: found.append(find_backend(Config())))
imported, builtins.__import__ = builtins.__import__, watched
import joblib
asker.join(60)
print(half, found)
"""
"""Asks for the backend in a second thread while the first is in the middle of importing joblib."""

# What of a frame depends on when and where it was made.
TIMES = ["run_id", "call_id", "started_at", "worker"]


def untimed(frame: Any) -> Any:
    times = [name for name in frame if name in TIMES or name.endswith("_s")]
    return frame.drop(columns=times)


@pytest.mark.parametrize("backend", ["processes", None])
def test_frames_are_those_of_threads(settings: dict[str, Any], backend: str | None) -> None:
    """But for who worked on what: there, processes do, of the config or of joblib's own setting."""
    episodes = episodes_of(5)
    told = {**settings, "provider": "extractive", "chunk_tokens": 64, "reuse": "none"}
    here = run(episodes, Config(**{**told, "episode_backend": "threads"}))
    with joblib.parallel_config(backend="loky"):
        there = run(episodes, Config(**{**told, "episode_backend": backend}))

    assert there.state == "complete"
    assert untimed(there.episodes).equals(untimed(here.episodes))
    by_chunk = ["episode_id", "stage", "chunk_index"]
    ours, theirs = (
        untimed(frame.sort_values(by_chunk, ignore_index=True)) for frame in (here.calls, there.calls)
    )
    assert theirs.equals(ours)
    assert here.episodes["worker"].isna().all()
    assert here.workers.empty
    workers = set(there.workers["worker"])
    assert set(there.episodes["worker"]) == set(there.calls["worker"]) <= workers
    assert os.getpid() not in set(there.workers["pid"])


@pytest.mark.slow
def test_what_is_kept_is_what_was_shown(hosted: dict[str, Any]) -> None:
    """The archive gives the run back as the driver had it, workers and limits included."""
    made = run(episodes_of(3), Config(**hosted))
    kept = open_store(hosted["store_url"]).run(made.id)

    assert kept.episodes.equals(made.episodes)
    assert kept.workers.equals(made.workers)
    assert kept.limits.equals(made.limits)
    assert (made.limits["event"] == "admitted").sum() == len(made.calls) == 12
    assert made.limits["t_s"].is_monotonic_increasing


def test_records_come_as_episodes_end(hosted: dict[str, Any]) -> None:
    """``on_episode`` is told of each in the driver, with its calls."""
    told: list[EpisodeRecord] = []
    made = run(episodes_of(4), Config(**hosted), on_episode=told.append)
    assert sorted(record.episode_id for record in told) == ["e0", "e1", "e2", "e3"]
    assert all(len(record.summary.calls) == 4 for record in told)
    assert [record.episode_id for record in made.records] == ["e0", "e1", "e2", "e3"]


def test_second_start_takes_what_the_first_kept(hosted: dict[str, Any], server: ApiServer) -> None:
    """Of workers too, whichever asked."""
    episodes = episodes_of(3)
    run(episodes, Config(**hosted))
    asked = len(server.journal())
    again = run(episodes, Config(**hosted))
    assert len(server.journal()) == asked
    assert again.reused.calls == 12
    assert open_store(hosted["store_url"]).run(again.id).calls.equals(again.calls)


def test_stop_reaches_the_workers(hosted: dict[str, Any], server: ApiServer) -> None:
    """No new call starts, those under way end, and what is not reached says why."""
    episodes = episodes_of(6, lines=8)
    handle = start(episodes, Config(**hosted))
    soon(lambda: len(server.journal()) >= 4, "call")
    done = handle.stop(wait=True)
    assert done is not None
    asked = len(server.journal())
    assert asked < 20
    assert done.state == "interrupted"
    assert len(done.records) == 6
    assert set(done.episodes["status"]) == {"cancelled"}
    assert set(done.episodes["error"]) == {"the run was stopped"}

    finished = run(episodes, Config(**hosted))
    assert finished.state == "complete"
    assert finished.reused.calls == (done.calls["status"] == "ok").sum() > 0
    # A run of 54 calls, of which none that was answered is asked again.
    assert len(server.journal()) <= 54 + (done.calls["status"] == "cancelled").sum()


@pytest.mark.slow
def test_lost_workers_episodes_are_done_again(hosted: dict[str, Any], server: ApiServer) -> None:
    """From the last call that was kept, which counts as what it was: made, by who is gone."""
    episodes = episodes_of(4, lines=12)
    told = Config(**{**hosted, "reuse": "none"})
    handle = start(episodes, told)

    def busy() -> int | None:
        calls = open_store(told.store_url).calls(handle.id)
        if len(calls) < 8:
            return None
        return int(calls["worker"].iloc[-1].rpartition(":")[2])

    lost = soon(busy, "worker that has made calls")
    kill(lost)
    made = handle.wait()

    assert made.state == "complete"
    assert len(made.calls) == 4 * 13
    assert not made.calls["reused"].any()
    by_lost = made.calls[made.calls["worker"].str.endswith(f":{lost}")]
    assert len(by_lost) > 0
    # At most the calls under way at the time were asked twice.
    assert len(server.journal()) <= 4 * 13 + 2
    assert made.calls["call_id"].is_unique


def test_trouble_of_a_worker_stops_the_run(hosted: dict[str, Any]) -> None:
    """What every call would meet is said once, whoever met it."""
    with ApiServer(requests_per_minute=60_000, faults=[None] * 5 + ["insufficient_quota"] * 50) as server:
        told = Config(**{**hosted, "openai_base_url": server.base_url})
        made = run(episodes_of(6), told)
    assert made.state == "stopped"
    assert made.stopped_kind == "QuotaExhausted"
    assert len(made.records) == 6


def test_model_that_no_worker_has_is_said_before_the_first_episode(settings: dict[str, Any]) -> None:
    """By the worker's own error."""
    told = Config(
        **{**settings, "provider": "transformers", "model": "/nowhere", "summary_chunk_parallelism": 1}
    )
    with pytest.raises(ModelUnavailable, match="/nowhere"):
        run(episodes_of(1), told)


@pytest.mark.slow
def test_generator_that_raises_keeps_what_is_done(hosted: dict[str, Any]) -> None:
    """And says so, as with threads."""

    def episodes() -> Any:
        yield from episodes_of(2)
        raise OSError("the disk is gone")

    with pytest.raises(RunInterrupted, match="the disk is gone") as caught:
        run(episodes(), Config(**hosted))
    assert len(caught.value.run.records) == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["store_url", "limits_url"])
def test_memory_is_not_shared(hosted: dict[str, Any], name: str) -> None:
    """What workers must share cannot be in the memory of one process."""
    with pytest.raises(ConfigError, match=f"{name}=memory:// is in this process alone"):
        run(episodes_of(1), Config(**{**hosted, name: "memory://"}))


def test_objects_of_this_process_are_refused(hosted: dict[str, Any]) -> None:
    """A provider and a clock are here, and the workers elsewhere."""
    config = Config(**hosted)
    with (
        get_provider(config) as provider,
        pytest.raises(ConfigError, match="provider= is an object of this process"),
    ):
        run(episodes_of(1), config, provider=provider)
    with pytest.raises(ConfigError, match="clock= is of this process"):
        run(episodes_of(1), config, clock=ManualClock())
    with pytest.raises(ConfigError, match="gate= bounds the threads of this process"):
        run(episodes_of(1), config, gate=EpisodeGate(1))


@pytest.mark.slow
def test_limits_stay_as_they_are_while_workers_work(hosted: dict[str, Any]) -> None:
    """What cannot reach them is refused; what can, does."""
    handle = start(episodes_of(4, lines=12), Config(**hosted))
    with pytest.raises(ConfigError, match="openai_requests_per_minute cannot be changed while other"):
        handle.retune(openai_requests_per_minute=7)
    with pytest.raises(ConfigError, match="summary_batch_size cannot be changed while other"):
        handle.retune(summary_batch_size=3)
    handle.retune(summary_chunk_parallelism=4)
    handle.wait()


def test_secrets_are_in_no_pickle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A worker has them from its environment, or from who its config names."""
    (tmp_path / "keys_of_the_lab.py").write_text(
        "def read(name):\n    return 'sk-otter-2' if name == 'openai_api_key' else None\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-otter-1")
    config = Config(provider="openai", secrets_reader="keys_of_the_lab:read")
    pickled = pickle.dumps(config)
    assert b"otter" not in pickled
    assert pickle.loads(pickled).openai_api_key.get_secret_value() == "sk-otter-1"

    monkeypatch.delenv("OPENAI_API_KEY")
    assert pickle.loads(pickled).openai_api_key is None
    found = pickle.loads(pickled).with_secrets()
    assert found.openai_api_key.get_secret_value() == "sk-otter-2"
    assert found.anthropic_api_key is None
    assert b"otter" not in pickle.dumps(found)


def test_reader_of_secrets_that_is_not_there() -> None:
    """Says so where it is needed."""
    config = Config(provider="openai", secrets_reader="no_such_module:read")
    with pytest.raises(ConfigError, match="secrets_reader='no_such_module:read' raised ModuleNotFoundError"):
        config.with_secrets()


def test_reader_of_secrets_that_fails_in_a_worker(hosted: dict[str, Any]) -> None:
    """Is told of before the first episode, and by its kind alone: its words may hold what it read."""
    told = {**hosted, "secrets_reader": "json:loads"}
    with pytest.raises(ConfigError, match="'json:loads' raised JSONDecodeError when asked for") as caught:
        run(episodes_of(1), Config(**told))
    assert "Expecting value" not in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("wrong", ["model"]),
        TranscriptError("broken", path="a.txt", line=3),
        MissingDependency("engine 'openvino'", "openvino-genai", "openvino"),
        BudgetExceeded("spent"),
        ModelUnavailable("tiny", ["here: nothing"], "Look there."),
        RunInterrupted("stopped", 3, 4),
    ],
)
def test_errors_travel(error: ToolkitError) -> None:
    """With their words and all that they know."""
    there = pickle.loads(pickle.dumps(error))
    assert type(there) is type(error)
    assert str(there) == str(error)
    assert vars(there) == vars(error)


@pytest.mark.slow
def test_retuned_width_reaches_the_workers(hosted: dict[str, Any]) -> None:
    """For episodes that start from then on."""
    handle = start(episodes_of(8, lines=8), Config(**hosted))
    handle.retune(summary_chunk_parallelism=8)
    made = handle.wait()
    last = made.calls[made.calls["episode_id"] == "e7"].query("stage == 'map'")
    together = last["started_at"].max() - last["started_at"].min()
    assert together.total_seconds() < 0.2 * 7 / 2


@pytest.mark.slow
@pytest.mark.usefixtures("deadly")
def test_episode_that_takes_its_worker_with_it_fails_alone(settings: dict[str, Any]) -> None:
    """Those beside it are done again, and it is told from them by being tried with nothing else."""
    episodes = [Episode.from_text(f"e{n}", "poison" if n == 3 else "Bees dance.") for n in range(8)]
    made = run(episodes, Config(**{**settings, "provider": "deadly", "summary_batch_size": 3}))
    assert made.counts() == {"ok": 7, "failed": 1}
    (failed,) = (record for record in made.records if record.summary.status == "failed")
    assert failed.episode_id == "e3"
    assert "its worker was lost each time, at last with nothing else on it" in str(failed.summary.error)
    assert made.state == "incomplete"


@pytest.mark.slow
@pytest.mark.usefixtures("deadly")
def test_backend_that_loses_whatever_it_is_given_ends_the_run(settings: dict[str, Any]) -> None:
    """What was not tried is left for another start."""
    episodes = [Episode.from_text(f"e{n}", "poison") for n in range(9)]
    with pytest.raises(RunInterrupted, match="joblib's backend 'processes' raised TerminatedWorkerError"):
        run(episodes, Config(**{**settings, "provider": "deadly"}))


@pytest.mark.slow
@pytest.mark.filterwarnings("error::UserWarning")
def test_local_model_is_loaded_once_in_each_process(settings: dict[str, Any]) -> None:
    """It stays there, though joblib's pool takes what it takes for a leak, and shares the machine."""
    told = {**settings, "provider": "transformers", "summary_chunk_parallelism": 4, "summary_max_tokens": 16}
    made = run(episodes_of(6, lines=4), Config(**told))
    assert set(made.episodes["status"]) <= {"ok", "partial"}
    assert len(made.workers) <= 2
    assert made.workers["peak_rss_mb"].min() > 500


@pytest.mark.slow
def test_stop_that_does_not_wait_ends_the_processes(hosted: dict[str, Any]) -> None:
    """Calls under way have ``stop_grace_s``; after that nobody waits for them, nor for who makes them."""
    with ApiServer(requests_per_minute=60_000, latency=600.0) as server:
        told = {**hosted, "openai_base_url": server.base_url, "stop_grace_s": 0.2}
        handle = start(episodes_of(4), Config(**told))
        soon(lambda: server.score().requests >= 2, "call")
        made = handle.stop(wait=True)
        assert made is not None
        assert len(made.workers) == 2
        soon(lambda: not any(psutil.pid_exists(pid) for pid in made.workers["pid"]), "end of the processes")


def test_joblib_is_waited_for_while_another_thread_imports_it() -> None:
    """A run may be started while another's workers are at it: none sees the half of it."""
    told = subprocess.run([sys.executable, "-c", IMPORTING], capture_output=True, text=True, timeout=120)
    assert told.stdout == "[] [None]\n", told.stderr
