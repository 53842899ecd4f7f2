"""Runs over episodes: how many at a time, what a failure or Ctrl-C leaves, and that nothing is lost."""

from __future__ import annotations

import io
import itertools
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from toolkit.clock import ManualClock
from toolkit.config import Config
from toolkit.errors import ConfigError, ModelUnavailable, RequestRejected, RunInterrupted, StoreError
from toolkit.gate import EpisodeGate
from toolkit.limits import Cause, Limiter, LimitSettings, Standing
from toolkit.progress import Progress
from toolkit.protocols import SummarizeParams
from toolkit.providers import registry
from toolkit.providers.scripted import ScriptedSummarizationProvider
from toolkit.records import Episode, EpisodeRecord, Request, Stage, Status, Summary
from toolkit.runs import Run
from toolkit.workflow import RunWarning, run

RunScripted = Callable[..., Run]
MakeEpisodes = Callable[..., list[Episode]]
PATIENCE_S = 60


class InFlight:
    """A scripted reply that counts those under way; ``width`` of them have to meet before any goes on."""

    def __init__(self, width: int) -> None:
        self._meeting = threading.Barrier(width)
        self._lock = threading.Lock()
        self._now = 0
        self.peak = 0

    def __call__(self, request: Request) -> str:
        with self._lock:
            self._now += 1
            self.peak = max(self.peak, self._now)
        try:
            if request.stage is not Stage.REDUCE:
                self._meeting.wait(PATIENCE_S)
        finally:
            with self._lock:
                self._now -= 1
        return "Done."


@pytest.mark.parametrize("width", [1, 2, 5])
def test_batch_size_is_the_number_of_episodes_at_a_time(
    width: int, run_scripted: RunScripted, make_episodes: MakeEpisodes
) -> None:
    """So many episodes meet, so the width is reached, and never more are under way."""
    script = InFlight(width)
    done = run_scripted(make_episodes(4 * width), script={"replies": script}, summary_batch_size=width)
    assert done.counts() == {"ok": 4 * width}
    assert script.peak == width


@pytest.mark.parametrize("width", [1, 2, 3])
def test_chunk_parallelism_is_the_number_of_requests_of_an_episode(
    width: int, run_scripted: RunScripted, make_episodes: MakeEpisodes
) -> None:
    """Within one episode so many chunks meet and no more, whatever the number of episodes at a time."""
    script = InFlight(width)
    done = run_scripted(
        make_episodes(1, lines=6),
        script={"replies": script},
        summary_batch_size=4,
        summary_chunk_parallelism=width,
    )
    assert done.counts() == {"ok": 1}
    assert list(done.calls["stage"]).count("map") == 6
    assert script.peak == width


def test_both_levels_multiply(run_scripted: RunScripted, make_episodes: MakeEpisodes) -> None:
    """Two episodes of three chunks at a time have six requests in flight: neither level eats the other."""
    script = InFlight(6)
    episodes = make_episodes(4, lines=3)
    done = run_scripted(
        episodes, script={"replies": script}, summary_batch_size=2, summary_chunk_parallelism=3
    )
    assert done.counts() == {"ok": 4}
    assert script.peak == 6


class Breaking(ScriptedSummarizationProvider):
    """A provider whose code is wrong for one episode."""

    def summarize(self, text: str, params: Any = None) -> Summary:
        if SummarizeParams.of(params).episode_id == "e1":
            raise ZeroDivisionError("a bug")
        return super().summarize(text, params)


@pytest.mark.parametrize("width", [1, 3])
def test_failing_episode_stays_alone(
    width: int, run_scripted: RunScripted, make_episodes: MakeEpisodes
) -> None:
    """A bug or an error for one episode is that episode's own; the others are summarized."""

    def faults(request: Request, attempt: int) -> Exception | None:
        return RequestRejected("no") if request.episode_id == "e3" else None

    provider = Breaking(Config(provider="scripted", chunk_tokens=32), faults=faults, clock=ManualClock())
    done = run_scripted(make_episodes(5, lines=2), provider=provider, summary_batch_size=width)
    assert list(done.episodes["status"]) == ["ok", "failed", "ok", "failed", "ok"]
    assert done.summary("e1").error == "ZeroDivisionError: a bug"
    assert "chunk 1 of 2" in (done.summary("e3").error or "")
    assert not done.interrupted


def test_order_is_the_inputs(run_scripted: RunScripted, make_episodes: MakeEpisodes) -> None:
    """Rows stand in the order of the episodes, though these end in the opposite one."""
    ended = [threading.Event() for _ in range(4)] + [threading.Event()]
    ended[4].set()
    order: list[str] = []

    def replies(request: Request) -> str:
        assert ended[int(request.episode_id[1]) + 1].wait(PATIENCE_S)
        return "Done."

    def on_episode(record: EpisodeRecord) -> None:
        order.append(record.episode_id)
        ended[int(record.episode_id[1])].set()

    done = run_scripted(
        make_episodes(4),
        script={"replies": replies},
        kwargs={"on_episode": on_episode},
        summary_batch_size=4,
    )
    assert order == ["e3", "e2", "e1", "e0"]
    assert list(done.episodes["episode_id"]) == ["e0", "e1", "e2", "e3"]


def test_on_episode_is_called_once_for_each(run_scripted: RunScripted, make_episodes: MakeEpisodes) -> None:
    """Each record is reported once, failed ones too, and it is the one in the run."""
    seen: list[EpisodeRecord] = []
    provider = Breaking(Config(provider="scripted", chunk_tokens=32))
    done = run_scripted(
        make_episodes(30), provider=provider, kwargs={"on_episode": seen.append}, summary_batch_size=4
    )
    assert sorted(map(id, seen)) == sorted(map(id, done.records))
    assert len(seen) == 30


@pytest.mark.parametrize("width", [1, 3])
def test_broken_on_episode_costs_no_result(
    width: int, run_scripted: RunScripted, make_episodes: MakeEpisodes
) -> None:
    """An error in the user's own callback stops the run and hands over what was paid for already."""
    calls = iter(range(100))

    def broken(record: EpisodeRecord) -> None:
        if next(calls) == 4:
            raise OSError("the disk is full")

    with pytest.raises(RunInterrupted, match="on_episode raised OSError: the disk is full") as caught:
        run_scripted(make_episodes(40), kwargs={"on_episode": broken}, summary_batch_size=width)
    kept = caught.value.run
    assert isinstance(kept, Run)
    assert len(kept.records) == 40
    counts = kept.counts()
    assert 5 <= counts["ok"] <= 5 + 2 * width
    assert (caught.value.done, caught.value.remaining) == (counts["ok"], counts["cancelled"])


@pytest.mark.parametrize("width", [1, 3])
def test_generator_is_read_as_the_work_goes_on(
    width: int, run_scripted: RunScripted, make_episodes: MakeEpisodes
) -> None:
    """Of a long generator only a little is read ahead: transcripts need not fit into memory together."""
    read = finished = ahead = 0
    lock = threading.Lock()

    def episodes() -> Iterator[Episode]:
        nonlocal read, ahead
        for episode in make_episodes(60):
            with lock:
                read += 1
                ahead = max(ahead, read - finished)
            yield episode

    def on_episode(record: EpisodeRecord) -> None:
        nonlocal finished
        with lock:
            finished += 1

    done = run_scripted(episodes(), kwargs={"on_episode": on_episode}, summary_batch_size=width)
    assert done.counts() == {"ok": 60}
    assert [record.episode_id for record in done.records] == [f"e{n}" for n in range(60)]
    assert ahead <= 3 * width + 1


@pytest.mark.parametrize("width", [1, 2])
def test_broken_generator_keeps_what_is_done(
    width: int, run_scripted: RunScripted, make_episodes: MakeEpisodes
) -> None:
    """The episodes before the generator's error are summarized and come with the exception."""

    def episodes() -> Iterator[Episode]:
        yield from make_episodes(3)
        raise OSError("the disk is gone")

    with pytest.raises(RunInterrupted, match="OSError: the disk is gone") as caught:
        run_scripted(episodes(), summary_batch_size=width)
    kept = caught.value.run
    assert isinstance(kept, Run)
    assert kept.counts() == {"ok": 3}
    assert (caught.value.done, caught.value.remaining) == (3, None)
    assert isinstance(caught.value.__cause__, OSError)


def test_duplicate_id_in_a_generator_keeps_what_is_done(
    run_scripted: RunScripted, make_episodes: MakeEpisodes
) -> None:
    """What a list's check finds before the start, a generator's finds on the way: same words, work kept."""
    episodes = (episode for episode in make_episodes(2) + make_episodes(1))
    with pytest.raises(RunInterrupted, match="two episodes have the id 'e0'") as caught:
        run_scripted(episodes)
    assert isinstance(caught.value.__cause__, ConfigError)
    assert caught.value.done == 2
    assert str(caught.value).endswith("Of the episodes 2 ended, an unknown number did not.")


EPISODE = Episode.from_text("e", "Rain fell.")
WRONG: dict[str, tuple[Any, str]] = {
    "twice": ([EPISODE, EPISODE], "two episodes have the id 'e'"),
    "text in a list": ([EPISODE, "Rain fell."], "str is no Episode"),
    "a path": ("data/episodes", "load_episodes"),
    "one episode": (EPISODE, "list of Episode"),
    "nothing": (None, "list of Episode"),
    "bytes": (b"Rain", "list of Episode"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_list_of_episodes_is_refused(name: str, run_scripted: RunScripted) -> None:
    """A mistake in the input is told before anything is asked or paid for."""
    asked: list[Request] = []

    def replies(request: Request) -> str:
        asked.append(request)
        return "Done."

    given, words = WRONG[name]
    with pytest.raises(ConfigError, match=words):
        run_scripted(given, script={"replies": replies})
    assert asked == []


@pytest.mark.parametrize("nothing", [[], (), iter(())], ids=["list", "tuple", "generator"])
def test_no_episodes_make_an_empty_run(nothing: Iterable[Episode], run_scripted: RunScripted) -> None:
    """A folder that turned out empty is no crash."""
    done = run_scripted(nothing)
    assert (len(done.episodes), len(done.calls), done.counts(), done.makespan_s) == (0, 0, {}, 0.0)
    assert not done.interrupted


def test_time_is_the_clocks(run_scripted: RunScripted, make_episodes: MakeEpisodes) -> None:
    """Three episodes of one call of two seconds take six: makespan and totals come from the clock given."""
    clock = ManualClock()
    done = run_scripted(make_episodes(3), script={"latency_s": 2.0, "clock": clock}, kwargs={"clock": clock})
    assert done.makespan_s == 6.0
    assert list(done.episodes["total_s"]) == [2.0] * 3
    assert list(done.episodes["service_s"]) == [2.0] * 3
    assert [record.started_at - done.records[0].started_at for record in done.records] == [0.0, 2.0, 4.0]


def test_stop_keeps_the_done_and_marks_the_rest(
    run_scripted: RunScripted, make_episodes: MakeEpisodes
) -> None:
    """After ``stop`` the call under way may end, none starts, and each episode has its row all the same."""
    stop = threading.Event()
    asked: list[str] = []

    def replies(request: Request) -> str:
        asked.append(request.episode_id)
        if request.episode_id == "e2":
            stop.set()
        return "Done."

    done = run_scripted(make_episodes(6), script={"replies": replies}, kwargs={"stop": stop})
    assert list(done.episodes["status"]) == ["ok"] * 3 + ["cancelled"] * 3
    assert set(done.episodes["error"].dropna()) == {"the run was stopped"}
    assert asked == ["e0", "e1", "e2"]
    assert done.interrupted


@pytest.mark.parametrize("width", [1, 3])
def test_stop_ends_the_reading_of_a_generator(
    width: int, run_scripted: RunScripted, make_episodes: MakeEpisodes
) -> None:
    """A generator without end is not read on after ``stop``; what was read of it has its row."""
    stop = threading.Event()
    read = itertools.count()

    def episodes() -> Iterator[Episode]:
        for number in read:
            yield Episode.from_text(f"e{number}", "Rain fell.")

    def on_episode(record: EpisodeRecord) -> None:
        if record.episode_id == "e5":
            stop.set()

    done = run_scripted(episodes(), kwargs={"stop": stop, "on_episode": on_episode}, summary_batch_size=width)
    assert done.interrupted
    assert 6 <= len(done.records) <= next(read) <= 7 + 4 * width


def test_stop_in_the_middle_of_an_episode_cancels_it(
    run_scripted: RunScripted, make_episodes: MakeEpisodes
) -> None:
    """An episode with chunks still to ask is cancelled, not passed off as a summary of its first ones."""
    stop = threading.Event()

    def replies(request: Request) -> str:
        if request.chunk_index == 1:
            stop.set()
        return "Done."

    done = run_scripted(make_episodes(2, lines=5), script={"replies": replies}, kwargs={"stop": stop})
    assert list(done.episodes["status"]) == ["cancelled"] * 2
    assert list(done.calls["status"]) == ["ok"] * 2 + ["cancelled"] * 3
    assert done.episodes["summary"].isna().all()


class Counted(ScriptedSummarizationProvider):
    """A provider that counts how often it was closed, and may fail to get ready."""

    closed = 0
    missing = False

    def prepare(self) -> None:
        if self.missing:
            raise ModelUnavailable("m", ["nowhere"], "Look elsewhere.")

    def close(self) -> None:
        type(self).closed += 1


@pytest.fixture
def _counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counted, "closed", 0)
    monkeypatch.setitem(registry.PROVIDERS, "counted", f"{__name__}:Counted")


@pytest.mark.usefixtures("_counted")
def test_own_provider_is_closed_and_a_given_one_is_not(make_episodes: MakeEpisodes) -> None:
    """Who made it closes it: a provider that a notebook holds can be used for the next run."""
    config = Config(provider="counted")
    run(make_episodes(1), config, provider=Counted(config))
    assert Counted.closed == 0
    run(make_episodes(1), config)
    assert Counted.closed == 1


@pytest.mark.usefixtures("_counted")
def test_missing_model_is_told_before_any_episode(
    make_episodes: MakeEpisodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is one error, not one for each episode, and the provider is closed."""
    monkeypatch.setattr(Counted, "missing", True)
    with pytest.raises(ModelUnavailable):
        run(make_episodes(3), Config(provider="counted"))
    assert Counted.closed == 1


class Limited(ScriptedSummarizationProvider):
    """A provider with a limiter, which breaks where the test says."""

    def quota_key(self) -> str:
        return f"test {id(self)}"

    def limits(self) -> LimitSettings:
        return LimitSettings(requests_per_minute=600)


@pytest.mark.parametrize("step", ["events", "quota_shares"])
def test_broken_limiter_costs_no_result(
    step: str, make_episodes: MakeEpisodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is told after the work of how the limits were used is missing then, and a warning says so."""

    def broken(self: Limiter, since: float = 0.0) -> None:
        raise StoreError("the file of the limits is gone")

    provider = Limited(Config(provider="scripted", limits_url="memory://"))
    monkeypatch.setattr(Limiter, step, broken)
    with pytest.warns(
        RunWarning, match=rf"limiter\.{step} raised StoreError: the file of the limits is gone"
    ):
        done = run(make_episodes(3), provider=provider)
    assert done.counts() == {"ok": 3}
    assert (done.limits.empty, done.quota_shares) == (step == "events", {})
    assert done.stopped_because is None


@pytest.mark.usefixtures("_counted")
def test_provider_that_cannot_be_closed_costs_no_result(
    make_episodes: MakeEpisodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The episodes are done, and a warning tells of the rest."""

    def broken(self: Counted) -> None:
        raise OSError("no such handle")

    monkeypatch.setattr(Counted, "close", broken)
    with pytest.warns(RunWarning, match=r"provider\.close raised OSError: no such handle"):
        done = run(make_episodes(3), Config(provider="counted"))
    assert done.counts() == {"ok": 3}


@pytest.mark.usefixtures("_counted")
def test_where_warnings_are_errors_they_cost_no_result(
    make_episodes: MakeEpisodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in this suite: what the warning would have said stands in the run."""

    def broken(self: Counted) -> None:
        raise OSError("no such handle")

    monkeypatch.setattr(Counted, "close", broken)
    done = run(make_episodes(3), Config(provider="counted"))
    assert done.counts() == {"ok": 3}
    assert "provider.close raised OSError: no such handle" in (done.stopped_because or "")


def test_warning_comes_with_an_interrupted_run(make_episodes: MakeEpisodes) -> None:
    """Two things went wrong: the exception carries the run, and the warning is given too."""
    provider = Limited(Config(provider="scripted", limits_url="memory://"))

    def broken(record: EpisodeRecord) -> None:
        provider.limiter().events = None  # type: ignore[union-attr, method-assign, assignment]
        raise OSError("the disk is full")

    with (
        pytest.warns(RunWarning, match=r"limiter\.events raised TypeError"),
        pytest.raises(RunInterrupted, match="the disk is full") as caught,
    ):
        run(make_episodes(3), provider=provider, on_episode=broken)
    assert isinstance(caught.value.run, Run)
    assert caught.value.run.counts() == {"ok": 1, "cancelled": 2}


class Terminal(io.StringIO):
    """A standard error that breaks when it is told, as one does that is closed or whose disk is full."""

    error: Exception | None = None

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self.error is not None:
            raise self.error
        return super().write(text)


@pytest.mark.parametrize("shown", [True, None])
def test_closed_standard_error_costs_no_result(
    shown: bool | None, make_episodes: MakeEpisodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nobody to draw a bar for."""
    terminal = Terminal()
    terminal.close()
    monkeypatch.setattr(sys, "stderr", terminal)
    done = run(make_episodes(3), Config(provider="scripted"), progress=shown)
    assert done.counts() == {"ok": 3}
    assert done.stopped_because is None


def test_terminal_that_goes_away_costs_no_result(
    make_episodes: MakeEpisodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the bar with it and not the episodes: no call fails over it, and a warning tells of it."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)

    def on_episode(record: EpisodeRecord) -> None:
        terminal.error = RuntimeError("the terminal is gone")

    with pytest.warns(RunWarning, match="the progress bar raised RuntimeError: the terminal is gone"):
        done = run(make_episodes(3, lines=2), Config(provider="scripted"), on_episode=on_episode)
    assert done.counts() == {"ok": 3}


def test_note_of_a_long_wait_without_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a bar a wait is told of in a line; that nobody can read it is no error of the run."""
    clock = ManualClock()
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    standing = Standing(Cause.TOKENS, clock.epoch() + 60, 2)
    progress = Progress(3, shown=False, clock=clock, waits=lambda: standing)
    terminal.close()
    progress.look()
    progress.look()
    assert isinstance(progress.trouble, ValueError)


def test_limiter_that_cannot_be_asked_costs_no_result(
    make_episodes: MakeEpisodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bar shows what a run waits for; if that is not to be had, there is no bar any more."""
    monkeypatch.setattr(sys, "stderr", Terminal())

    def broken(self: Limiter) -> None:
        raise StoreError("the file of the limits is gone")

    monkeypatch.setattr(Limiter, "standing", broken)
    provider = Limited(Config(provider="scripted", limits_url="memory://"))
    with pytest.warns(RunWarning, match="the progress bar raised StoreError"):
        done = run(make_episodes(3), provider=provider)
    assert done.counts() == {"ok": 3}


class Exiting(ScriptedSummarizationProvider):
    """A provider that wants to end the program."""

    def generate(self, request: Request) -> Any:
        if request.episode_id == "e2":
            sys.exit("bye")
        return super().generate(request)


@pytest.mark.parametrize("width", [1, 2])
def test_exit_in_an_episode_costs_no_result(width: int, make_episodes: MakeEpisodes) -> None:
    """What is no Exception ends the work; the run as far as it came is carried all the same."""
    provider = Exiting(Config(provider="scripted", summary_batch_size=width))
    with pytest.raises(RunInterrupted, match="SystemExit: bye") as caught:
        run(make_episodes(6), provider=provider)
    kept = caught.value.run
    assert isinstance(kept, Run)
    assert len(kept.records) == 6
    assert set(kept.counts()) <= {"ok", "cancelled"}
    assert width == 2 or kept.counts()["ok"] == 2


def test_error_of_on_episode_is_told_though_a_call_hangs(make_episodes: MakeEpisodes) -> None:
    """The grace time is over before the work is, and the reason of the stop is not forgotten over that."""
    hangs, may_end = threading.Event(), threading.Event()

    def replies(request: Request) -> str:
        if request.episode_id == "e1":
            hangs.set()
            assert may_end.wait(PATIENCE_S)
        else:
            assert hangs.wait(PATIENCE_S)
        return "Done."

    def broken(record: EpisodeRecord) -> None:
        raise OSError("the disk is full")

    config = Config(provider="scripted", summary_batch_size=2, stop_grace_s=0)
    provider = ScriptedSummarizationProvider(config, replies=replies)
    try:
        with pytest.raises(RunInterrupted, match="on_episode raised OSError: the disk is full") as caught:
            run(make_episodes(2), provider=provider, on_episode=broken)
    finally:
        may_end.set()
    assert isinstance(caught.value.run, Run)
    assert caught.value.run.counts() == {"ok": 1, "cancelled": 1}
    for thread in threading.enumerate():
        if thread.name == "job":
            thread.join(PATIENCE_S)


def test_run_is_kept_and_its_answers_are_taken_again(make_episodes: MakeEpisodes, tmp_path: Path) -> None:
    """The second of two equal runs asks nothing: its calls come from the store that the first has filled."""
    config = Config(provider="scripted", store_url=f"sqlite:///{tmp_path}/runs.db", chunk_tokens=32)
    first = run(make_episodes(3, lines=3), config)
    second = run(make_episodes(3, lines=3), config)
    assert not first.calls["reused"].any()
    assert second.calls["reused"].all()
    assert list(second.episodes["summary"]) == list(first.episodes["summary"])


def test_config_of_a_given_provider_is_the_runs(make_episodes: MakeEpisodes) -> None:
    """Without a config of its own a run takes the provider's, its parallelism too, and says so."""
    script = InFlight(3)
    config = Config(provider="scripted", summary_batch_size=3)
    done = run(make_episodes(6), provider=ScriptedSummarizationProvider(config, replies=script))
    assert done.config is config
    assert (script.peak, done.counts()) == (3, {"ok": 6})


def test_config_and_provider_must_agree(make_episodes: MakeEpisodes) -> None:
    """A setting that the provider was not made with would have no effect and still stand in the run."""
    provider = ScriptedSummarizationProvider(Config(provider="scripted", chunk_tokens=64))
    with pytest.raises(ConfigError, match="chunk_tokens=32, but the provider that is given was made with 64"):
        run(make_episodes(1), Config(provider="scripted", chunk_tokens=32), provider=provider)
    wider = Config(provider="scripted", chunk_tokens=64, summary_batch_size=2, summary_chunk_parallelism=2)
    done = run(make_episodes(3), wider, provider=provider)
    assert done.counts() == {"ok": 3}
    assert done.config == wider
    assert run(make_episodes(1), Config(provider="scripted"), provider=provider).config.chunk_tokens == 64


def test_gate_is_resized_while_the_run_goes_on(
    run_scripted: RunScripted, make_episodes: MakeEpisodes
) -> None:
    """One episode at a time until the gate is widened, then three: joblib's own width stays as it was."""
    gate = EpisodeGate(1)
    wide = InFlight(3)
    lock = threading.Lock()
    alone = 0

    def replies(request: Request) -> str:
        nonlocal alone
        with lock:
            alone += 1
            narrow = alone <= 3
        if not narrow:
            return wide(request)
        if alone == 3:
            gate.resize(3)
        return "Done."

    done = run_scripted(
        make_episodes(12), script={"replies": replies}, kwargs={"gate": gate}, summary_batch_size=3
    )
    assert done.counts() == {"ok": 12}
    assert wide.peak == 3


class Waiting:
    """Threads that each wait for a place in a gate, hold it, and log when they got it."""

    def __init__(self, gate: EpisodeGate, count: int) -> None:
        self._gate = gate
        self.log: list[str] = []
        self.may_leave = threading.Event()
        self.threads = [threading.Thread(target=self._enter) for _ in range(count)]
        for thread in self.threads:
            thread.start()
        # Until each of them waits, or got in, which the log shows: from outside nothing else tells it.
        while len(self.log) + len(gate._changed._waiters) < count:  # type: ignore[attr-defined]
            pass

    def _enter(self) -> None:
        with self._gate.episode():
            self.log.append("entered")
            assert self.may_leave.wait(PATIENCE_S)

    def join(self) -> None:
        self.may_leave.set()
        for thread in self.threads:
            thread.join(PATIENCE_S)


@pytest.mark.parametrize("width", [1, 3])
def test_full_gate_lets_nobody_in_until_somebody_leaves(width: int) -> None:
    """As many as its width are inside, the next one waits, and gets the place that is left."""
    gate = EpisodeGate(width)
    with ExitStack() as inside:
        for _ in range(width):
            inside.enter_context(gate.episode())
        waiting = Waiting(gate, 1)
        waiting.log.append("left")
    waiting.join()
    assert waiting.log == ["left", "entered"]


def test_widened_gate_lets_the_waiting_in_at_once() -> None:
    """Those who wait get the new places without anybody having to leave first."""
    gate = EpisodeGate(1)
    everybody_in = threading.Barrier(3)

    def enter() -> None:
        with gate.episode():
            everybody_in.wait(PATIENCE_S / 6)

    with gate.episode():
        threads = [threading.Thread(target=enter) for _ in range(2)]
        for thread in threads:
            thread.start()
        while len(gate._changed._waiters) < 2:  # type: ignore[attr-defined]
            pass
        gate.resize(3)
        everybody_in.wait(PATIENCE_S / 6)
    for thread in threads:
        thread.join(PATIENCE_S)


def test_narrowed_gate_waits_until_it_is_kept() -> None:
    """After narrowing from two to one, the next enters only when both who were inside have left."""
    gate = EpisodeGate(2)
    with ExitStack() as first, ExitStack() as second:
        first.enter_context(gate.episode())
        second.enter_context(gate.episode())
        gate.resize(1)
        assert gate.width == 1
        waiting = Waiting(gate, 1)
        first.close()
        # The one who waits was woken; when it waits again, or is in, it has had its chance.
        while not (waiting.log or gate._changed._waiters):  # type: ignore[attr-defined]
            pass
        waiting.log.append("second leaves")
        second.close()
    waiting.join()
    assert waiting.log == ["second leaves", "entered"]


def test_gate_place_is_free_after_an_error() -> None:
    """An episode that raises gives its place back; otherwise the run would hang at the next one."""
    gate = EpisodeGate(1)

    def fail() -> None:
        with gate.episode():
            raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            fail()


@pytest.mark.parametrize("width", [0, -1])
def test_gate_has_a_place(width: int) -> None:
    """A gate without a place would hang for ever."""
    with pytest.raises(ValueError, match=f"width={width}"):
        EpisodeGate(width)
    gate = EpisodeGate(2)
    with pytest.raises(ValueError, match=f"width={width}"):
        gate.resize(width)
    assert gate.width == 2


def test_all_statuses_of_a_run_are_counted(run_scripted: RunScripted, make_episodes: MakeEpisodes) -> None:
    """The counts name what there is, and what there is not stays out."""

    def faults(request: Request, attempt: int) -> Exception | None:
        return RequestRejected("no") if request.chunk_index == 0 and request.episode_id == "e1" else None

    done = run_scripted(make_episodes(3, lines=2), script={"faults": faults})
    assert done.counts() == {"ok": 2, "partial": 1}
    assert done.summary("e1").status is Status.PARTIAL
