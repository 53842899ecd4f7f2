"""Runs in the background: what their handle shows, how it steers them, and that they are in nobody's way."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import toolkit
from toolkit import frames
from toolkit.clock import ManualClock
from toolkit.config import Config
from toolkit.errors import ConfigError, ModelUnavailable, RunInterrupted, StoreError, ToolkitError
from toolkit.handle import LIMITS, SCHEDULE, RunHandle, start
from toolkit.limits import LimitSettings
from toolkit.providers import registry
from toolkit.providers.scripted import ScriptedSummarizationProvider
from toolkit.records import Episode, EpisodeRecord, Request
from toolkit.runs import Run

MakeEpisodes = Callable[..., list[Episode]]
PATIENCE_S = 60
ROOT = Path(toolkit.__file__).parents[1]


class Script:
    """Replies that come when the test lets them; those for ``e0`` at once."""

    def __init__(
        self, *, holds: Callable[[Request], bool] = lambda request: request.episode_id != "e0"
    ) -> None:
        self._holds = holds
        self._lock = threading.Condition()
        self._now = 0
        self.peak = 0
        self.asked: list[Request] = []
        self.may_go_on = threading.Event()

    def __call__(self, request: Request) -> str:
        with self._lock:
            self._now += 1
            self.peak = max(self.peak, self._now)
            self.asked.append(request)
            self._lock.notify_all()
        if self._holds(request):
            assert self.may_go_on.wait(PATIENCE_S)
        with self._lock:
            self._now -= 1
        return "Done."

    def wait_asked(self, count: int) -> None:
        """Wait until so many requests have come."""
        with self._lock:
            assert self._lock.wait_for(lambda: len(self.asked) >= count, PATIENCE_S)


@pytest.fixture
def script() -> Iterator[Script]:
    """Make a script whose replies all come at the test's end at the latest."""
    made = Script()
    yield made
    made.may_go_on.set()


@pytest.fixture(autouse=True)
def _runs_end() -> Iterator[None]:
    """Wait for the runs of a test, which use a store that is closed then."""
    yield
    for thread in threading.enumerate():
        if thread.name.startswith(("run ", "job")):
            thread.join(PATIENCE_S)


def begin(
    episodes: Any,
    replies: Callable[[Request], str] | None = None,
    *,
    kwargs: dict[str, Any] | None = None,
    **settings: Any,
) -> RunHandle:
    """Start a run by script over episodes whose chunks are lines."""
    config = Config(provider="scripted", **{"chunk_tokens": 32, **settings})
    return start(episodes, provider=ScriptedSummarizationProvider(config, replies=replies), **(kwargs or {}))


def test_start_comes_back_before_the_work_is_done(make_episodes: MakeEpisodes, script: Script) -> None:
    """The episodes go on behind the caller's back, and ``wait`` gives what ``run`` would, each time."""
    handle = begin(make_episodes(3), script)
    script.wait_asked(2)
    assert handle.progress.state == "running"
    script.may_go_on.set()
    done = handle.wait()
    assert isinstance(done, Run)
    assert (done.id, done.counts(), done.interrupted) == (handle.id, {"ok": 3}, False)
    assert handle.wait() is done
    assert handle.progress.state == "done"


def test_progress_tells_how_far_it_is(make_episodes: MakeEpisodes) -> None:
    """Of four episodes of ten seconds one is done: ten seconds are over and thirty are left."""
    clock = ManualClock()
    script = Script(holds=lambda request: request.episode_id == "e1")
    config = Config(provider="scripted")
    provider = ScriptedSummarizationProvider(config, replies=script, latency_s=10.0, clock=clock)
    handle = start(make_episodes(4), provider=provider, clock=clock)
    script.wait_asked(2)
    seen = handle.progress
    script.may_go_on.set()
    assert seen[:6] == ("running", 1, 4, 1, 2, 1)
    assert seen.elapsed_s == 20.0
    assert seen.eta_s == 60.0
    assert repr(seen) == "<running: 1/4 episodes, 1/2 calls, 1 output token, 20 s, about 60 s left>"
    handle.wait()
    clock.advance(1000.0)
    assert handle.progress[:7] == ("done", 4, 4, 4, 4, 4, 40.0)
    assert handle.progress.eta_s == 0.0


def test_progress_of_a_generator_has_no_total(make_episodes: MakeEpisodes, script: Script) -> None:
    """Nobody knows its end, and so not how long it takes."""
    handle = begin((episode for episode in make_episodes(3)), script)
    script.wait_asked(2)
    assert (handle.progress.episodes_total, handle.progress.eta_s) == (None, None)
    assert "running: 1 episode, " in repr(handle)


def test_frames_hold_what_has_ended_so_far(make_episodes: MakeEpisodes) -> None:
    """Calls of an episode that goes on are rows already, with the declared columns and types."""
    script = Script(holds=lambda request: (request.episode_id, request.chunk_index) == ("e1", 2))
    handle = begin(make_episodes(3, lines=4), script)
    script.wait_asked(8)
    now = handle.frames()
    assert list(now.episodes["episode_id"]) == ["e0"]
    assert list(now.calls["episode_id"]) == ["e0"] * 5 + ["e1"] * 2
    assert list(now.attempts["call_id"]) == list(now.calls["call_id"])
    script.may_go_on.set()
    done = handle.wait()
    after = handle.frames()
    assert after.calls is done.calls
    for early, late in zip(now, after, strict=True):
        assert dict(early.dtypes) == dict(late.dtypes)
    assert now.calls.equals(after.calls.head(7))


def test_frames_of_a_run_without_any_end_are_empty(make_episodes: MakeEpisodes) -> None:
    """All columns are there before the first row, so that a plot may be prepared."""
    script = Script(holds=lambda request: True)
    handle = begin(make_episodes(1), script)
    script.wait_asked(1)
    now = handle.frames()
    script.may_go_on.set()
    assert [len(frame) for frame in now] == [0, 0, 0]
    assert list(now.calls.columns) == [column.name for column in frames.CALLS]


def test_frames_are_grown_and_not_made_anew(
    make_episodes: MakeEpisodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for every second they cost what is new: each record becomes a row once."""
    rows: list[int] = []
    make = frames.calls_frame

    def counting(run_id: str, records: Any) -> Any:
        rows.append(sum(len(record.summary.calls) for record in records))
        return make(run_id, records)

    monkeypatch.setattr("toolkit.handle.frames.calls_frame", counting)
    gates = [threading.Event() for _ in range(3)]
    script = Script()

    def replies(request: Request) -> str:
        number = int(request.episode_id[1])
        answer = script(request) if number == 0 else "Done."
        script.asked.append(request)
        assert gates[number].wait(PATIENCE_S)
        return answer

    ended = threading.Semaphore(0)
    handle = begin(make_episodes(3), replies, kwargs={"on_episode": lambda record: ended.release()})
    for gate in gates[:2]:
        gate.set()
        assert ended.acquire(timeout=PATIENCE_S)
        first, second = handle.frames(), handle.frames()
        assert first.calls.equals(second.calls)
    assert rows == [1, 1]
    first.calls["model"] = "spoilt"
    assert "spoilt" not in set(handle.frames().calls["model"])
    gates[2].set()
    handle.wait()


def test_stop_keeps_the_done_and_marks_the_rest(make_episodes: MakeEpisodes, script: Script) -> None:
    """The call under way may end, none starts, and the run that comes says that it was stopped."""
    handle = begin(make_episodes(4), script)
    script.wait_asked(2)
    assert handle.stop() is None
    assert handle.progress.state == "stopping"
    script.may_go_on.set()
    done = handle.stop(wait=True)
    assert done is not None
    assert done.counts() == {"ok": 2, "cancelled": 2}
    assert done.interrupted
    assert handle.progress.state == "done"
    assert len(script.asked) == 2


def test_stop_waits_as_long_as_its_grace(make_episodes: MakeEpisodes) -> None:
    """A call that hangs is given up when ``stop_grace_s`` are over, by the run's own clock."""
    clock = ManualClock()
    script = Script(holds=lambda request: True)
    config = Config(provider="scripted", stop_grace_s=30)
    handle = start(
        make_episodes(2), provider=ScriptedSummarizationProvider(config, replies=script), clock=clock
    )
    script.wait_asked(1)
    handle.stop()
    while True:  # When the grace began nobody tells; it is over 30 s later.
        clock.advance(31)
        try:
            done = handle.wait(0.2)
            break
        except TimeoutError:
            assert clock.now() < 31 * 5 * PATIENCE_S
    assert done.counts() == {"cancelled": 2}
    script.may_go_on.set()


def test_waiting_has_a_bound(make_episodes: MakeEpisodes, script: Script) -> None:
    """The error says that the run goes on, how far it is, and what can be done."""
    handle = begin(make_episodes(2), script)
    script.wait_asked(2)
    with pytest.raises(TimeoutError, match=r"within 0 s and goes on: <running: 1/2 episodes.*stop\(\)"):
        handle.wait(timeout_s=0)
    script.may_go_on.set()
    assert handle.wait(timeout_s=PATIENCE_S).counts() == {"ok": 2}


class Pressing(threading.Event):
    """The event that ``wait`` waits for, on which somebody presses Ctrl-C so many times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self._times = times

    def wait(self, timeout: float | None = None) -> bool:
        if self._times:
            self._times -= 1
            signal.raise_signal(signal.SIGINT)
        return super().wait(timeout)


@pytest.fixture
def _python_interrupts() -> Iterator[None]:
    """Have Ctrl-C be a KeyboardInterrupt: a suite that runs in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_python_interrupts")
def test_ctrl_c_in_wait_stops_the_run_and_returns_it(
    make_episodes: MakeEpisodes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An interrupt of the kernel costs no result: calls under way end, and ``wait`` returns the run."""
    may_begin = threading.Event()

    def replies(request: Request) -> str:
        assert may_begin.wait(PATIENCE_S)
        if request.episode_id == "e1":
            assert request.cancelled is not None
            assert request.cancelled.wait(PATIENCE_S)
        return "Done."

    handle = begin(make_episodes(4), replies)
    monkeypatch.setattr(handle, "_ended", Pressing(1))
    may_begin.set()
    done = handle.wait()
    assert done.interrupted
    assert done.counts()["cancelled"] >= 2
    assert "Stopping" in capsys.readouterr().err


@pytest.mark.usefixtures("_python_interrupts")
def test_second_ctrl_c_in_wait_gives_the_prompt_back(
    make_episodes: MakeEpisodes, monkeypatch: pytest.MonkeyPatch, script: Script
) -> None:
    """The run is not lost by that: it can be waited for again."""
    handle = begin(make_episodes(3), script)
    script.wait_asked(2)
    monkeypatch.setattr(handle, "_ended", Pressing(2))
    with pytest.raises(KeyboardInterrupt):
        handle.wait()
    assert handle.progress.state == "stopping"
    script.may_go_on.set()
    assert handle.wait().counts() == {"ok": 2, "cancelled": 1}


# Steering


def test_more_episodes_at_a_time_than_at_the_start(make_episodes: MakeEpisodes, script: Script) -> None:
    """From one to four: the three that are missing begin while the first one still works."""
    handle = begin(make_episodes(9), script)
    script.wait_asked(2)
    handle.retune(summary_batch_size=4)
    script.wait_asked(5)
    assert len(script.asked) == script.peak + 1 == 5
    assert handle.config.summary_batch_size == 4
    script.may_go_on.set()
    done = handle.wait()
    assert done.counts() == {"ok": 9}
    assert [record.episode_id for record in done.records] == [f"e{n}" for n in range(9)]
    assert script.peak == 4


def test_wider_run_does_not_read_a_generator_far_ahead(make_episodes: MakeEpisodes, script: Script) -> None:
    """What is read and not begun are a few for each worker, also after the widening."""
    read = 0

    def episodes() -> Iterator[Episode]:
        nonlocal read
        for episode in make_episodes(100):
            read += 1
            yield episode

    handle = begin(episodes(), script)
    script.wait_asked(2)
    assert read <= 3
    handle.retune(summary_batch_size=3)
    script.wait_asked(4)
    handle.stop()
    script.may_go_on.set()
    handle.wait()
    assert read <= 3 * 3 + 1


def test_fewer_episodes_at_a_time(make_episodes: MakeEpisodes) -> None:
    """Running ones end; after that no more than the new width are under way."""
    script = Script(holds=lambda request: request.episode_id in ("e0", "e1", "e2"))
    handle = begin(make_episodes(20), script, summary_batch_size=3)
    script.wait_asked(3)
    handle.retune(summary_batch_size=1)
    script.peak = 0
    late = Script(holds=lambda request: False)
    script._holds = lambda request: late(request) == "" or request.episode_id in ("e0", "e1", "e2")
    script.may_go_on.set()
    assert handle.wait().counts() == {"ok": 20}
    assert late.peak == 1
    assert len(late.asked) == 17


def test_chunk_parallelism_holds_for_later_episodes(make_episodes: MakeEpisodes) -> None:
    """The episode under way goes on as it began; the next one has three requests in flight."""
    script = Script(holds=lambda request: request.stage == "map")
    handle = begin(make_episodes(2, lines=3), script)
    script.wait_asked(1)
    handle.retune(summary_chunk_parallelism=3)
    script.may_go_on.set()
    done = handle.wait()
    workers = done.calls[done.calls["stage"] == "map"].groupby("episode_id")["worker"].unique()
    assert not any(name.startswith("chunk") for name in workers["e0"])
    assert all(name.startswith("chunk") for name in workers["e1"])
    assert handle.config.summary_chunk_parallelism == 3


class Limited(ScriptedSummarizationProvider):
    """A provider by script whose quota is that of the config, one for each instance."""

    def quota_key(self) -> str:
        return f"test {id(self)}"

    def limits(self) -> LimitSettings:
        return LimitSettings(
            requests_per_minute=self.config.openai_requests_per_minute,
            max_concurrent=self.config.openai_max_concurrent_requests,
        )


def limited(make_episodes: MakeEpisodes, count: int, **settings: Any) -> tuple[RunHandle, Limited]:
    config = Config(provider="scripted", limits_url="memory://", **settings)
    provider = Limited(config)
    return start(make_episodes(count), provider=provider), provider


def test_limits_are_changed_while_calls_wait_for_them(make_episodes: MakeEpisodes) -> None:
    """At two a minute the third of nine calls waits half a minute; with a higher limit all are done at once.

    The later episodes, which ask for the limiter anew, do not set it back.
    """
    handle, provider = limited(make_episodes, 9, openai_requests_per_minute=2)
    limiter = provider.limiter()
    assert limiter is not None
    while limiter.standing() is None:
        pass
    assert "waiting for the limit on requests until" in repr(handle.progress)
    handle.retune(openai_requests_per_minute=6000)
    done = handle.wait(PATIENCE_S / 3)
    assert done.counts() == {"ok": 9}
    assert limiter.settings.requests_per_minute == 6000
    assert list(done.limits["event"]).count("retuned") == 1
    assert handle.config.openai_requests_per_minute == provider.config.openai_requests_per_minute == 6000
    assert done.config.openai_requests_per_minute == 2


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no setting": ({"colour": "red"}, "'colour' cannot be changed while a run goes on; summary_batch_size, "),
    "the model": ({"model": "other"}, "openai_requests_per_minute, .* can"),
    "out of range": ({"summary_batch_size": 0}, "summary_batch_size"),
    "no number": ({"openai_requests_per_minute": "many"}, "openai_requests_per_minute"),
    "of another provider": ({"anthropic_requests_per_minute": 7}, "has no effect on provider 'scripted'"),
    "one of two": ({"openai_requests_per_minute": 70, "anthropic_requests_per_minute": 7}, "no effect"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_retuned_is_refused(name: str, make_episodes: MakeEpisodes) -> None:
    """Nothing is changed then, not the settings beside the wrong one either."""
    handle, provider = limited(make_episodes, 9, openai_requests_per_minute=2)
    config, settings = handle.config, provider.limits()
    given, words = WRONG[name]
    with pytest.raises(ConfigError, match=words):
        handle.retune(**{"summary_chunk_parallelism": 5, **given})
    limiter = provider.limiter()
    assert limiter is not None
    assert handle.config is config
    assert provider.limits() == limiter.settings == settings
    handle.stop(wait=True)
    with pytest.raises(ConfigError, match="has ended"):
        handle.retune(summary_batch_size=2)


def test_provider_without_limits_has_none_to_retune(make_episodes: MakeEpisodes, script: Script) -> None:
    """A limit that nothing reads would look as if it were in force."""
    handle = begin(make_episodes(2), script)
    with pytest.raises(ConfigError, match="no effect"):
        handle.retune(openai_requests_per_minute=7)


def test_all_that_can_be_retuned_are_settings() -> None:
    """The lists name fields of the config and no other."""
    assert set(SCHEDULE + LIMITS) <= set(Config.model_fields)


# In nobody's way


def test_two_runs_at_once(make_episodes: MakeEpisodes) -> None:
    """A cell that is run twice starts two runs, each with its own episodes and its own stop."""
    meeting = threading.Barrier(2)

    def replies(request: Request) -> str:
        meeting.wait(PATIENCE_S)
        return "Done."

    handles = [begin(make_episodes(3), replies, reuse="none") for _ in range(2)]
    assert [handle.wait(PATIENCE_S).counts() for handle in handles] == [{"ok": 3}] * 2
    assert handles[0].id != handles[1].id


def test_dropped_handle_stops_nothing(make_episodes: MakeEpisodes) -> None:
    """Who does not keep it gets the episodes done all the same."""
    seen: list[str] = []
    all_done = threading.Event()

    def on_episode(record: EpisodeRecord) -> None:
        seen.append(record.episode_id)
        if len(seen) == 5:
            all_done.set()

    script = Script(holds=lambda request: True)
    begin(make_episodes(5), script, kwargs={"on_episode": on_episode})
    gc.collect()
    script.may_go_on.set()
    assert all_done.wait(PATIENCE_S)


def test_works_in_a_running_event_loop(make_episodes: MakeEpisodes) -> None:
    """A notebook's cells run in one: the handle can be waited for in it and beside it."""

    async def cell() -> tuple[Run, Run]:
        first, second = begin(make_episodes(3)), begin(make_episodes(3))
        return first.wait(PATIENCE_S), await asyncio.to_thread(second.wait, PATIENCE_S)

    assert [done.counts() for done in asyncio.run(cell())] == [{"ok": 3}] * 2


SCRIPT = """
import os, toolkit as tk
class Hanging(tk.ScriptedSummarizationProvider):
    def generate(self, request):
        os.write(1, b"asked\\n")
        __import__("threading").Event().wait()
episodes = [tk.Episode.from_text(f"e{n}", "\\n".join(["It rained again."] * 40)) for n in range(4)]
config = tk.Config(provider="scripted", store_url="memory://", chunk_tokens=32, stop_grace_s=0, **SETTINGS)
handle = tk.start(episodes, provider=Hanging(config))
"""


@pytest.mark.parametrize("settings", [{}, {"summary_batch_size": 2, "summary_chunk_parallelism": 2}], ids=str)
@pytest.mark.parametrize(
    "end",
    ["", pytest.param("print(handle.stop(wait=True).counts())", marks=pytest.mark.slow)],
    ids=["runs", "stopped"],
)
def test_interpreter_does_not_wait_for_the_run(settings: dict[str, int], end: str) -> None:
    """A script that ends while requests hang ends at once, and says nothing about its threads."""
    width = settings.get("summary_batch_size", 1) * settings.get("summary_chunk_parallelism", 1)
    look = f"while len(handle._under_way.provider.seen) < {width}: pass\n"
    source = SCRIPT.replace("SETTINGS", repr(settings)).replace(
        'os.write(1, b"asked\\n")', "self.seen.append(request)"
    )
    source = source.replace("    def generate", "    seen = []\n    def generate")
    done = subprocess.run(
        [sys.executable, "-c", source + look + end],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=PATIENCE_S,
        check=True,
    )
    assert done.stderr == ""
    assert done.stdout == ("{'cancelled': 4}\n" if end else "")


# What goes wrong


class Missing(ScriptedSummarizationProvider):
    """A provider whose model cannot be had, which counts how often it was closed."""

    closed = 0

    def prepare(self) -> None:
        raise ModelUnavailable("m", ["nowhere"], "Look elsewhere.")

    def close(self) -> None:
        type(self).closed += 1


def test_what_is_known_before_the_work_is_told_by_start(
    make_episodes: MakeEpisodes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Episodes, settings, model, key and store: the cell that is wrong is the one that fails."""
    monkeypatch.setitem(registry.PROVIDERS, "missing", f"{__name__}:Missing")
    monkeypatch.setattr(Missing, "closed", 0)
    before = threading.active_count()
    with pytest.raises(ConfigError, match="load_episodes"):
        begin("data/episodes")
    with pytest.raises(ConfigError, match="two episodes"):
        begin(make_episodes(1) * 2)
    with pytest.raises(ModelUnavailable):
        start(make_episodes(1), Config(provider="missing"))
    assert Missing.closed == 1
    with pytest.raises(StoreError):
        begin(make_episodes(1), store_url=f"sqlite:///{tmp_path}")
    with pytest.raises(ToolkitError, match="openai_api_key"):
        start(make_episodes(1), Config(provider="openai", limits_url="memory://"))
    assert threading.active_count() == before


def test_broken_generator_is_told_by_wait(make_episodes: MakeEpisodes) -> None:
    """Each ``wait`` raises it, with the run as far as it came; the handle says that and why it failed."""

    def episodes() -> Iterator[Episode]:
        yield from make_episodes(2)
        raise OSError("the disk is gone")

    handle = begin(episodes())
    for _ in range(2):
        with pytest.raises(RunInterrupted, match="the disk is gone") as caught:
            handle.wait()
        assert isinstance(caught.value.run, Run)
        assert caught.value.run.counts() == {"ok": 2}
    assert handle.progress.state == "failed"
    assert "the disk is gone" in repr(handle)
    assert list(handle.frames().episodes["status"]) == ["ok"] * 2


def test_unexpected_error_is_told_by_wait(
    make_episodes: MakeEpisodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the toolkit itself is neither swallowed nor does it let ``wait`` hang."""

    def broken(self: object, interrupts: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("toolkit.handle.RunUnderWay.complete", broken)
    handle = begin(make_episodes(1))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        handle.wait()
    assert "failed" in repr(handle)


def test_repr_shows_no_secret(make_episodes: MakeEpisodes) -> None:
    """It stands in the output of a notebook."""
    config = Config(provider="scripted", openai_api_key="sk-secret")
    handle = start(make_episodes(1), config)
    handle.wait()
    assert repr(handle).startswith(f"<RunHandle {handle.id}: scripted/first-sentence, done: 1/1 episodes, ")
    assert "sk-secret" not in repr(handle) + repr(handle.config) + repr(handle.progress)
