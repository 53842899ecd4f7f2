"""Ctrl-C and other signals: a first one drains, a second one ends at once, what is done is kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType

import pandas as pd
import pytest

import toolkit
from toolkit.interrupts import Interrupts, Signals
from toolkit.records import Episode, Request
from toolkit.runs import Run
from toolkit.testing import ApiServer

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
    for thread in threading.enumerate():
        if thread.name == "job":
            thread.join(PATIENCE_S)
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


# A command whose provider answers for "bees", and for the others says that it waits before it does so.
COMMAND = r"""
import os, sys
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
