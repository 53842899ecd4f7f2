"""Ctrl-C and other signals: a first one drains, a second one ends at once, what is done is kept."""

from __future__ import annotations

import io
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pandas as pd
import pytest

import toolkit
from toolkit.clock import ManualClock
from toolkit.config import Config
from toolkit.errors import QuotaExhausted
from toolkit.interrupts import LOOK_S, Interrupts, Signals
from toolkit.limits import StopEvent
from toolkit.providers import registry
from toolkit.providers.scripted import ScriptedSummarizationProvider
from toolkit.records import Episode, Reply, Request
from toolkit.runs import Run
from toolkit.testing import ApiServer
from toolkit.workflow import run

RunScripted = Callable[..., Run]
MakeEpisodes = Callable[..., list[Episode]]
PATIENCE_S = 60
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be sent SIGINT there")
ROOT = Path(toolkit.__file__).parents[1]


@pytest.fixture
def sigint_handler() -> Iterator[Callable[[int, FrameType | None], None]]:
    """Install a handler for SIGINT that fails the test if it is reached, as the one to be put back."""

    def mine(number: int, frame: FrameType | None) -> None:
        raise AssertionError("the run let a SIGINT through")

    before = signal.signal(signal.SIGINT, mine)
    yield mine
    signal.signal(signal.SIGINT, before)


def wait_for_jobs() -> None:
    """Wait for what was left to itself; the store that it uses is closed at the test's end."""
    for thread in threading.enumerate():
        if thread.name == "job":
            thread.join(PATIENCE_S)


def test_ctrl_c_keeps_what_is_done(
    run_scripted: RunScripted,
    make_episodes: MakeEpisodes,
    sigint_handler: object,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The first SIGINT is no traceback: done episodes are returned and the handler before is put back."""

    def replies(request: Request) -> str:
        if request.episode_id == "e1":
            signal.raise_signal(signal.SIGINT)
            assert request.cancelled is not None
            assert request.cancelled.wait(PATIENCE_S)
        return "Done."

    done = run_scripted(make_episodes(4), script={"replies": replies})
    assert list(done.episodes["status"]) == ["ok", "ok", "cancelled", "cancelled"]
    assert done.interrupted
    assert signal.getsignal(signal.SIGINT) is sigint_handler
    assert "Stopping" in capsys.readouterr().err


@POSIX
def test_ctrl_c_reaches_working_threads(
    run_scripted: RunScripted, make_episodes: MakeEpisodes, sigint_handler: object
) -> None:
    """With episodes in threads each request under way is told, and those not begun never are."""
    meeting = threading.Barrier(2)

    def replies(request: Request) -> str:
        if meeting.wait(PATIENCE_S) == 0:
            os.kill(os.getpid(), signal.SIGINT)
        assert request.cancelled is not None
        assert request.cancelled.wait(PATIENCE_S)
        return "Done."

    done = run_scripted(make_episodes(9), script={"replies": replies}, summary_batch_size=2)
    assert list(done.episodes["status"]) == ["ok"] * 2 + ["cancelled"] * 7
    assert done.interrupted
    assert signal.getsignal(signal.SIGINT) is sigint_handler


@POSIX
@pytest.mark.parametrize(("episodes_at_a_time", "chunks_at_a_time"), [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("lazy", [False, True], ids=["list", "generator"])
def test_second_ctrl_c_does_not_wait_for_calls(
    lazy: bool,
    episodes_at_a_time: int,
    chunks_at_a_time: int,
    run_scripted: RunScripted,
    make_episodes: MakeEpisodes,
    sigint_handler: object,
) -> None:
    """A call that hangs holds one up for two Ctrl-C, not until its timeout, and is not heard of again."""
    may_end = threading.Event()
    meeting = threading.Barrier(episodes_at_a_time * chunks_at_a_time)
    reported: list[str] = []

    def replies(request: Request) -> str:
        if request.episode_id == "e0":
            return "Done."
        if meeting.wait(PATIENCE_S) == 0:
            os.kill(os.getpid(), signal.SIGINT)
            assert request.cancelled is not None
            assert request.cancelled.wait(PATIENCE_S)
            os.kill(os.getpid(), signal.SIGINT)
        assert may_end.wait(PATIENCE_S)
        return "Done."

    episodes = make_episodes(1) + make_episodes(3, lines=2)[1:]
    try:
        done = run_scripted(
            (episode for episode in episodes) if lazy else episodes,
            script={"replies": replies},
            kwargs={"on_episode": lambda record: reported.append(record.episode_id)},
            summary_batch_size=episodes_at_a_time,
            summary_chunk_parallelism=chunks_at_a_time,
        )
        assert not may_end.is_set()
    finally:
        may_end.set()
    wait_for_jobs()
    assert reported == ["e0"]
    statuses = list(done.episodes["status"])
    assert statuses[0] == "ok"
    assert set(statuses[1:]) == {"cancelled"}
    # Of a generator at least what was under way has its row.
    assert episodes_at_a_time <= len(statuses[1:]) <= 2
    assert done.interrupted
    assert signal.getsignal(signal.SIGINT) is sigint_handler


def test_interrupted_episode_does_not_wait_for_its_chunks(
    run_scripted: RunScripted, make_episodes: MakeEpisodes
) -> None:
    """A KeyboardInterrupt out of one chunk ends the run while another one's call still hangs."""
    may_end = threading.Event()
    meeting = threading.Barrier(2)

    def replies(request: Request) -> str:
        meeting.wait(PATIENCE_S)
        if request.chunk_index == 0:
            raise KeyboardInterrupt
        assert may_end.wait(PATIENCE_S / 6)
        return "Done."

    done = run_scripted(make_episodes(2, lines=2), script={"replies": replies}, summary_chunk_parallelism=2)
    assert any(thread.name.startswith("chunk") for thread in threading.enumerate())
    may_end.set()
    assert done.counts() == {"cancelled": 2}
    assert done.interrupted


def test_runs_outside_the_main_thread(run_scripted: RunScripted, make_episodes: MakeEpisodes) -> None:
    """Signal handlers can be set in the main thread only; a run in another one works without."""
    runs: list[Run] = []
    thread = threading.Thread(target=lambda: runs.append(run_scripted(make_episodes(2))))
    thread.start()
    thread.join(PATIENCE_S)
    assert [done.counts() for done in runs] == [{"ok": 2}]


def test_signal_in_the_last_steps_costs_no_result(sigint_handler: object) -> None:
    """From the end of the work to that of the block Ctrl-C does nothing; then it is the caller's again."""
    with Interrupts(threading.Event()) as interrupts:
        result = interrupts.work(lambda: "done")
        signal.raise_signal(signal.SIGINT)
    assert result == "done"
    assert signal.getsignal(signal.SIGINT) is sigint_handler


def test_error_of_the_work_is_the_callers(sigint_handler: object) -> None:
    """What goes wrong in the thread of the work is raised where it was asked for."""
    with pytest.raises(ZeroDivisionError), Interrupts(threading.Event()) as interrupts:
        interrupts.work(lambda: 1 / 0)
    assert signal.getsignal(signal.SIGINT) is sigint_handler


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_break_in_unless_they_are_held(name: str, sigint_handler: object) -> None:
    """With something to lose none does anything; with nothing the first one is a KeyboardInterrupt."""
    number = getattr(signal, name, None)
    if number is None:
        pytest.skip(f"there is no {name} here")
    before = signal.getsignal(number)
    signals = Signals()
    signals.hold = True
    with signals:
        signal.raise_signal(number)
        signals.hold = False
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signals.status == 128 + number
    assert signal.getsignal(number) is before
    assert signal.getsignal(signal.SIGINT) is sigint_handler


class Presses:
    """A clock for a grace time, and a job that ends when it is told."""

    def __init__(self) -> None:
        self.now = 100.0
        self.looks = 0
        self.may_end = threading.Event()

    def __call__(self) -> float:
        """Go on by ten seconds at each look."""
        self.looks += 1
        self.now += 10.0
        return self.now

    def job(self) -> str:
        assert self.may_end.wait(PATIENCE_S)
        return "done"


def test_work_is_left_to_itself_at_the_end_of_its_grace_time() -> None:
    """Once ``stop`` is set, by whomever, a job that hangs is waited for so long and no longer."""
    stop, time = threading.Event(), Presses()
    stop.set()
    with Interrupts(stop, time) as interrupts:
        assert interrupts.work(time.job, grace_s=lambda: 45.0) is None
    time.may_end.set()
    # It begins at the first look, and there are three more within it.
    assert time.now <= 110.0 + 45.0 + 20.0


def test_grace_time_begins_with_the_stop() -> None:
    """However long the work has taken before, it has the whole of it."""
    stop, time = threading.Event(), Presses()
    asked_at: list[float] = []

    def grace_s() -> float:
        asked_at.append(time.now)
        time.may_end.set()
        return 1000.0

    class Stopping(Presses):
        def __call__(self) -> float:
            if time.looks == 5:
                stop.set()
            return time()

    with Interrupts(stop, Stopping()) as interrupts:
        assert interrupts.work(time.job, grace_s=grace_s) == "done"
    assert asked_at
    assert asked_at[0] >= 150.0


def test_drain_has_no_grace_time() -> None:
    """Without end the job is waited for, and asked about again, since a second reason may have one."""
    stop, time = threading.Event(), Presses()
    stop.set()
    asked = 0

    def grace_s() -> float:
        nonlocal asked
        asked += 1
        if asked == 3:
            time.may_end.set()
        return math.inf

    with Interrupts(stop, time) as interrupts:
        assert interrupts.work(time.job, grace_s=grace_s) == "done"
    assert asked >= 3


def test_what_is_done_in_time_is_taken_though_the_time_is_over() -> None:
    """A job that ended while nobody looked is not thrown away for a clock that is late."""
    stop, time = threading.Event(), Presses()
    stop.set()
    with Interrupts(stop, time) as interrupts:

        def grace_s() -> float:
            time.may_end.set()
            for thread in threading.enumerate():
                if thread.name == "job":
                    thread.join(PATIENCE_S)
            return 0.0

        assert interrupts.work(time.job, grace_s=grace_s) == "done"


class Hanging:
    """Replies by script: at once for ``e0``; the others hang until they are told, and the clock goes on."""

    def __init__(self, clock: ManualClock, go_on_s: float = 31.0) -> None:
        self._clock = clock
        self._go_on_s = go_on_s
        self.stop = StopEvent()
        self.may_end = threading.Event()

    def __call__(self, request: Request) -> str:
        if request.episode_id != "e0":
            self.stop.set()
            while not self.may_end.wait(0.2):  # Until somebody has looked when the grace begins.
                self._clock.advance(self._go_on_s)
        return "Done."


def test_run_is_handed_over_at_the_end_of_the_grace_time(
    run_scripted: RunScripted, make_episodes: MakeEpisodes
) -> None:
    """A request that hangs is a ``cancelled`` row then; it is not waited for until its timeout."""
    clock = ManualClock()
    hanging = Hanging(clock)
    try:
        done = run_scripted(
            make_episodes(3),
            script={"replies": hanging},
            kwargs={"clock": clock, "stop": hanging.stop},
            stop_grace_s=30,
        )
    finally:
        hanging.may_end.set()
    assert list(done.episodes["status"]) == ["ok", "cancelled", "cancelled"]
    assert done.interrupted
    wait_for_jobs()


def test_drain_for_a_fatal_error_waits_for_what_is_paid(
    run_scripted: RunScripted, make_episodes: MakeEpisodes
) -> None:
    """No quota is left: calls under way take what they take, since nobody waits for the prompt."""
    clock = ManualClock()
    meeting = threading.Barrier(2)

    def faults(request: Request, attempt: int) -> Exception | None:
        meeting.wait(PATIENCE_S)
        return QuotaExhausted("no money left") if request.episode_id == "e1" else None

    def replies(request: Request) -> str:
        assert request.cancelled is not None
        assert request.cancelled.wait(PATIENCE_S)
        for _ in range(5):
            clock.advance(1000.0)
            threading.Event().wait(2 * LOOK_S / 5)
        return "Done."

    done = run_scripted(
        make_episodes(2),
        script={"replies": replies, "faults": faults, "clock": clock},
        kwargs={"clock": clock},
        stop_grace_s=0,
        summary_batch_size=2,
    )
    assert list(done.episodes["status"]) == ["ok", "failed"]
    assert "no money left" in (done.stopped_because or "")


def test_what_a_call_brings_after_the_run_is_reused_by_the_next(
    tmp_path: Path, make_episodes: MakeEpisodes
) -> None:
    """It is paid for: its thread commits it as long as the process lives, and nobody asks for it again."""
    asked: list[str] = []
    may_end, asking = threading.Event(), threading.Event()

    class Late(ScriptedSummarizationProvider):
        closed = 0

        def generate(self, request: Request) -> Reply:
            asked.append(request.episode_id)
            if len(asked) == 2:
                stop.set()
                assert may_end.wait(PATIENCE_S)
            assert not type(self).closed
            return super().generate(request)

        def identity(self) -> Mapping[str, Any]:
            return {"late": 1}

        def close(self) -> None:
            type(self).closed += 1
            asking.set()

    stop = StopEvent()
    config = Config(provider="late", store_url=f"sqlite:///{tmp_path}/runs.db", stop_grace_s=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.PROVIDERS, "late", "late:Late")
        patch.setitem(sys.modules, "late", SimpleNamespace(Late=Late))  # type: ignore[misc]
        patch.setattr(Late, "name", "late")
        first = run(make_episodes(3), config, stop=stop)
        # The provider is closed by the last one who needs it.
        assert Late.closed == 0
        may_end.set()
        assert asking.wait(PATIENCE_S)
        assert Late.closed == 1
        Late.closed = 0
        second = run(make_episodes(3), config)
    assert list(first.episodes["status"]) == ["ok", "cancelled", "cancelled"]
    assert asked == ["e0", "e1", "e2"]
    assert list(second.calls["reused"]) == [True, True, False]
    assert second.counts() == {"ok": 3}


@pytest.mark.parametrize("what", ["closed", "None"])
def test_note_without_standard_error(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is closed, or there is none as in a program without a console: the run is stopped all the same."""
    broken = io.StringIO()
    broken.close()
    monkeypatch.setattr(sys, "stderr", broken if what == "closed" else None)
    stop = threading.Event()
    with Interrupts(stop) as interrupts:

        def job() -> str:
            signal.raise_signal(signal.SIGINT)
            assert stop.wait(PATIENCE_S)
            return "done"

        assert interrupts.work(job) == "done"


# A script of one's own, whose requests hang, and that is pressed Ctrl-C or comes to the end of its grace.
SCRIPT = """
import os, signal, sys, threading
import toolkit as tk
signal.signal(signal.SIGINT, signal.default_int_handler)
class Hanging(tk.ScriptedSummarizationProvider):
    def generate(self, request):
        os.write(1, b"asked\\n")
        threading.Event().wait()
episodes = [tk.Episode.from_text(f"e{n}", "\\n".join(["It rained again."] * 40)) for n in range(4)]
chosen = dict(pair.split("=") for pair in sys.argv[1:])
config = tk.Config(provider="scripted", store_url="memory://", chunk_tokens=32, **chosen)
run = tk.run(episodes, provider=Hanging(config))
print(run.counts(), flush=True)
"""


@pytest.mark.slow
@POSIX
@pytest.mark.parametrize("widths", [(1, 1), (2, 1), (1, 2), (2, 3)], ids=str)
@pytest.mark.parametrize("presses", [1, 2])
def test_script_ends_with_its_run(presses: int, widths: tuple[int, int]) -> None:
    """After a second Ctrl-C, or one and no grace, no thread that hangs at a request holds the process up."""
    settings = [
        f"summary_batch_size={widths[0]}",
        f"summary_chunk_parallelism={widths[1]}",
        f"stop_grace_s={0 if presses == 1 else 600}",
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *settings],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            for _ in range(widths[0] * widths[1]):
                assert process.stdout.readline() == "asked\n"
            process.send_signal(signal.SIGINT)
            assert process.stderr.readline() == "\n"
            assert "Stopping" in process.stderr.readline()
            if presses == 2:
                process.send_signal(signal.SIGINT)
            printed, told = process.communicate(timeout=PATIENCE_S / 2)
        finally:
            process.kill()
    assert (printed, told, process.returncode) == ("{'cancelled': 4}\n", "", 0)


# A command whose provider answers for "bees", and for the others says that it waits before it does so.
COMMAND = r"""
import os, sys, threading
from toolkit import cli
from toolkit.providers.openai import OpenAISummarizationProvider
from toolkit.providers.registry import PROVIDERS
from toolkit.providers.scripted import ScriptedSummarizationProvider

class Waiting:
    def generate(self, request):
        if request.episode_id == "bees":
            return ScriptedSummarizationProvider().generate(request)
        os.write(1, b"waiting\n")
        self.wait(request)
        return super().generate(request)

class UntilStopped(Waiting, ScriptedSummarizationProvider):
    def wait(self, request):
        request.cancelled.wait()

class UntilTold(Waiting, ScriptedSummarizationProvider):
    def wait(self, request):
        sys.stdin.readline()

class ForEver(Waiting, ScriptedSummarizationProvider):
    def wait(self, request):
        threading.Event().wait()

class ForTheServer(Waiting, OpenAISummarizationProvider):
    def wait(self, request):
        pass

class ForTheModel(Waiting, ScriptedSummarizationProvider):
    def prepare(self):
        os.write(1, b"waiting\n")
        sys.stdin.readline()

PROVIDERS.update({kind.__name__: f"__main__:{kind.__name__}" for kind in Waiting.__subclasses__()})
cli.program()
"""


class Command:
    """``toolkit run`` in a process of its own, over the transcripts of a folder."""

    def __init__(self, shows: Path, provider: str, *settings: str, ignoring: int | None = None) -> None:
        self.out = shows.parent / "out"

        def prepare() -> None:
            # A suite that runs in the background ignores SIGINT, and so would its children.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            if ignoring is not None:
                signal.signal(ignoring, signal.SIG_IGN)

        given = [argument for setting in settings for argument in ("--set", setting)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, "run", shows, "--provider", provider, "--out", self.out, *given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            preexec_fn=prepare,
        )
        self.printed = self.told = ""

    def read_until(self, line: str, count: int = 1) -> None:
        """Read what is printed until so many lines of it have come."""
        assert self.process.stdout is not None
        while count:
            read = self.process.stdout.readline()
            assert read, f"it ended; on standard error: {self.process.stderr and self.process.stderr.read()}"
            self.printed += read
            count -= read.strip() == line

    def read_note(self, words: str) -> None:
        """Read what is told on standard error until these words have come."""
        assert self.process.stderr is not None
        while words not in self.told:
            read = self.process.stderr.readline()
            assert read, self.told
            self.told += read

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, within_s: float = PATIENCE_S) -> int:
        """Read on to the end and return the exit status."""
        printed, told = self.process.communicate(timeout=within_s)
        self.printed, self.told = self.printed + printed, self.told + told
        assert "Traceback" not in self.told
        return self.process.returncode

    def statuses(self) -> list[str]:
        return list(pd.read_csv(self.out / "episodes.csv")["status"])


StartCommand = Callable[..., Command]


@pytest.fixture
def shows(tmp_path: Path) -> Path:
    """Make a folder of four transcripts, of which "bees" comes first and needs one call."""
    folder = tmp_path / "shows"
    folder.mkdir()
    (folder / "bees.txt").write_text("Mara: Bees dance.\n")
    for name in ("hill", "pond", "rain"):
        lines = "\n".join(f"Mara: The {name} is {'very ' * 60}wet, part {n}." for n in range(3))
        (folder / f"{name}.txt").write_text(lines)
    return folder


@pytest.fixture
def command(shows: Path) -> Iterator[StartCommand]:
    """Start the command: ``command("scripted", "summary_batch_size=2")``; it ends with the test."""
    with ExitStack() as processes:

        def start(provider: str, *settings: str, ignoring: int | None = None) -> Command:
            started = Command(shows, provider, *settings, ignoring=ignoring)
            processes.enter_context(started.process)
            processes.callback(started.process.kill)
            return started

        yield start


@POSIX
def test_second_ctrl_c_ends_the_command_at_once(command: StartCommand) -> None:
    """With nine requests at a server that never answers: what is done is saved, and nothing comes after."""
    with ApiServer(faults={"hang": 1.0}) as server:
        run = command(
            "ForTheServer",
            f"openai_base_url={server.base_url}",
            "openai_max_concurrent_requests=9",
            "openai_requests_per_minute=600",
            "limits_url=memory://",
            "request_timeout_s=600",
            "summary_batch_size=3",
            "summary_chunk_parallelism=3",
            "chunk_tokens=100",
        )
        run.read_until("waiting", 9)
        run.send(signal.SIGINT)
        run.read_note("Stopping")
        run.send(signal.SIGINT)
        assert run.end(within_s=PATIENCE_S / 2) == 130
    assert run.statuses() == ["ok", "cancelled", "cancelled", "cancelled"]
    assert run.printed.splitlines()[-2].startswith("Files: ")


@pytest.mark.slow
@POSIX
@pytest.mark.parametrize("at_a_time", [1, 2])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_first_signal_drains_the_command(name: str, at_a_time: int, command: StartCommand) -> None:
    """Calls under way may end, no new one starts, what is done is saved, and the status names the signal."""
    run = command("UntilStopped", f"summary_batch_size={at_a_time}")
    run.read_until("waiting", at_a_time)
    run.send(getattr(signal, name))
    assert run.end() == 128 + getattr(signal, name)
    assert "Stopping" in run.told
    assert run.statuses() == ["ok"] * (1 + at_a_time) + ["cancelled"] * (3 - at_a_time)
    assert f"{1 + at_a_time} of 4 episodes" in run.printed


@pytest.mark.slow
@POSIX
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_command_ends_with_its_grace_time(name: str, command: StartCommand) -> None:
    """A request that hangs holds a signalled command up for ``stop_grace_s``; what is done is saved."""
    run = command("ForEver", "stop_grace_s=0")
    run.read_until("waiting")
    run.send(getattr(signal, name))
    assert run.end(within_s=PATIENCE_S / 2) == 128 + getattr(signal, name)
    assert run.statuses() == ["ok"] + ["cancelled"] * 3


@pytest.mark.slow
@POSIX
def test_what_is_ignored_stays_ignored(command: StartCommand) -> None:
    """A run under ``nohup`` goes on when its terminal is closed."""
    run = command("UntilTold", ignoring=signal.SIGHUP)
    run.read_until("waiting")
    run.send(signal.SIGHUP)
    assert run.process.stdin is not None
    run.process.stdin.write("go on\n" * 100)
    assert run.end() == 0
    assert run.statuses() == ["ok"] * 4


@pytest.mark.slow
@POSIX
def test_ctrl_c_without_end_costs_no_file(shows: Path, command: StartCommand) -> None:
    """However often and fast it is pressed, even while files are written: each of them is there and whole."""
    for n in range(300):
        (shows / f"a{n}.txt").write_text("Mara: Rain fell.\n")
    run = command("scripted")
    run.read_until("Mara: Rain fell.")
    with suppress(ProcessLookupError):
        while run.process.poll() is None:
            run.send(signal.SIGINT)
    # The last one may find all done, and end the process by itself.
    assert run.end() in (130, -signal.SIGINT)
    assert len(run.statuses()) == 304
    files = ["attempts.csv", "calls.csv", "episodes.csv", "summaries.md"]
    assert sorted(path.name for path in run.out.iterdir()) == files
    assert (run.out / "summaries.md").read_text().count("\n## ") == 304


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the size of a pipe can be set there only")
def test_reader_that_does_not_read_holds_nothing_up(shows: Path, command: StartCommand) -> None:
    """``toolkit run … | less``, and nobody pages on: Ctrl-C is heard, and what is done is in the files."""
    import fcntl
    import termios

    for n in range(300):
        (shows / f"a{n}.txt").write_text(f"Mara: {'Rain fell and fell ' * 20}\n")
    run = command("scripted")
    assert run.process.stdout is not None
    size = fcntl.fcntl(run.process.stdout, fcntl.F_SETPIPE_SZ, 4096)
    unread = b"\0" * 4
    while int.from_bytes(unread, sys.byteorder) < size - 400:  # A summary more does not fit in.
        unread = fcntl.ioctl(run.process.stdout, termios.FIONREAD, unread)
    run.send(signal.SIGINT)
    run.read_note("Stopping")
    run.send(signal.SIGINT)
    while not (run.out / "attempts.csv").exists():
        assert run.process.poll() is None
    with suppress(ProcessLookupError):
        while run.process.poll() is None:
            run.send(signal.SIGINT)
    assert run.end() in (130, -signal.SIGINT)
    assert "ok" in run.statuses()


@POSIX
def test_ctrl_c_before_the_work_leaves_nothing(command: StartCommand) -> None:
    """While a model is still made ready there is nothing to keep: one line, and no folder."""
    run = command("ForTheModel")
    run.read_until("waiting")
    run.send(signal.SIGINT)
    assert run.end() == 130
    assert run.told.splitlines()[1:] == ["toolkit: interrupted"]
    assert not run.out.exists()
