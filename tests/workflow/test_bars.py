"""Bars where people see them: terminals of several widths, notebooks, logs, inside a running event loop."""

from __future__ import annotations

import asyncio
import io
import os
import re
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from toolkit.bars import Bar, LogBar, TerminalBar, make_bar
from toolkit.clock import ManualClock
from toolkit.limits import Cause, Standing
from toolkit.progress import Progress, describe_wait
from toolkit.records import Episode
from toolkit.runs import Run

RunScripted = Callable[..., Run]
MakeEpisodes = Callable[..., list[Episode]]

SCRIPT = """
import toolkit as tk

def work(count=3, **how):
    text = "\\n".join(f"Line {n} has these nine words and no more." for n in range(40))
    episodes = [tk.Episode.from_text(f"e{n}", text) for n in range(count)]
    config = tk.Config(
        provider="scripted", store_url="memory://", chunk_tokens=64,
        summary_batch_size=2, summary_chunk_parallelism=2,
    )
    provider = tk.ScriptedSummarizationProvider(config, latency_s=0.1)
    given = (episode for episode in episodes) if how.pop("endless", False) else episodes
    return tk.run(given, config, provider=provider, **how)

"""
"""A run of a second whose bar moves."""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONIOENCODING": "utf-8"}


def in_terminal(code: str, columns: int) -> tuple[str, list[str]]:
    """Run code in a terminal; return all that it wrote, and what is on the screen at the end."""
    pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
    import fcntl
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT + code], stdin=slave, stdout=slave, stderr=slave, env=environment()
    )
    os.close(slave)
    written = b""
    try:
        while piece := os.read(master, 65_536):
            written += piece
    except OSError:  # The other end is closed.
        pass
    os.close(master)
    assert process.wait(60) == 0, written.decode()
    return written.decode(), screen(written.decode(), columns)


def screen(written: str, columns: int) -> list[str]:
    """Return the lines that a terminal shows: it wraps, and knows the moves that bars make."""
    rows: list[list[str]] = [[]]
    row = column = 0
    for piece in re.findall(r"\x1b\[A|\r|\n|[^\x1b]", written):
        if piece == "\x1b[A":
            row -= 1
        elif piece == "\r":
            column = 0
        elif piece == "\n":
            row += 1
        else:
            if column == columns:
                row, column = row + 1, 0
            while len(rows) <= row:
                rows.append([])
            rows[row] += " " * (column + 1 - len(rows[row]))
            rows[row][column] = piece
            column += 1
    return ["".join(line).rstrip() for line in rows]


@pytest.mark.parametrize("columns", [120, 40])
def test_bar_is_one_line_of_a_terminal(columns: int) -> None:
    """It moves in its line, fills it at the end, and the next output stands below it, however wide it is."""
    written, shown = in_terminal("work(); print('after')", columns)
    assert [line for line in shown if line][1:] == ["after"]
    assert shown[0].startswith("100%|")
    assert "3/3 episodes" in shown[0]
    shares = [int(share) for share in re.findall(r"(\d+)%\|", written)]
    assert shares == sorted(shares)
    assert len(set(shares)) > 2


def test_bar_without_an_end_is_one_line_too() -> None:
    """A generator's bar is wider than the terminal and must not leave its earlier states above it."""
    _, shown = in_terminal("work(endless=True); print('after')", 30)
    assert [line for line in shown if line] == [shown[0], "after"]
    assert shown[0].startswith("3 episodes, ")


def test_two_bars_at_a_time_leave_a_line_each() -> None:
    """Two runs in two threads of one terminal do not write into each other's line."""
    code = (
        "from threading import Thread\nimport time\n"
        "runs = [Thread(target=work, args=(count,)) for count in (3, 4)]\n"
        "for each in runs: each.start(); time.sleep(0.1)\n"
        "for each in runs: each.join()\n"
    )
    _, shown = in_terminal(code, 100)
    ends = [re.search(r"(\d)/(\d) episodes", line) for line in shown if line]
    assert sorted(end.groups() for end in ends if end) == [("3", "3"), ("4", "4")]
    assert len(ends) == 2


def test_bar_in_a_terminal_inside_a_running_event_loop() -> None:
    """In a coroutine, and in a thread that one waits for, it is the same bar."""
    code = (
        "import asyncio\n"
        "async def main():\n"
        "    work()\n"
        "    ticks = asyncio.create_task(ticking())\n"
        "    await asyncio.to_thread(work)\n"
        "    ticks.cancel()\n"
        "async def ticking():\n"
        "    while True: await asyncio.sleep(0.01)\n"
        "asyncio.run(main())\n"
    )
    _, shown = in_terminal(code, 100)
    lines = [line for line in shown if line]
    assert len(lines) == 2
    assert all(line.startswith("100%|") and "3/3 episodes" in line for line in lines)


@pytest.mark.parametrize(("how", "expected"), [("", 0), ("progress=True", 1)])
def test_bar_in_a_file_is_lines_of_text(how: str, expected: int, tmp_path: Path) -> None:
    """Unasked there is none; asked for, whole lines that an editor shows, and no control characters."""
    log = tmp_path / "log.txt"
    with log.open("wb") as file:
        subprocess.run(
            [sys.executable, "-c", f"{SCRIPT}work({how})"], check=True, stderr=file, env=environment()
        )
    lines = log.read_text(encoding="utf-8").splitlines()
    assert all(line.isprintable() for line in lines)
    assert len([line for line in lines if "100% 3/3 episodes" in line]) == expected
    assert bool(lines) == bool(expected)


def test_bar_inside_a_running_event_loop(
    run_scripted: RunScripted, make_episodes: MakeEpisodes, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run in a coroutine shows its progress and ends."""

    async def main() -> Run:
        return run_scripted(make_episodes(3), kwargs={"progress": True})

    assert asyncio.run(main()).counts() == {"ok": 3}
    assert "3/3 episodes" in capsys.readouterr().err


class Drawn(Bar):
    """A bar that writes down what it draws."""

    every_s = 1.0

    def __init__(self, total: float | None, unit: str, now: Callable[[], float]) -> None:
        super().__init__(total, unit, now)
        self.lines: list[str] = []

    def draw(self) -> None:
        self.lines.append(self.words())


def test_bar_is_drawn_now_and_then_and_at_its_end() -> None:
    """A thousand calls a second are not a thousand drawings, and the last state is never left out."""
    clock = ManualClock()
    bar = Drawn(100, "", clock.now)
    for step in range(1, 51):
        bar.show(step, f"{step} done")
        clock.advance(0.125)
    assert [line.split()[1] for line in bar.lines] == ["1", "9", "17", "25", "33", "41", "49"]
    bar.close()
    assert bar.lines[-1].startswith("50% 50 done [00:06")


def test_a_bar_that_cannot_be_drawn_is_left_alone() -> None:
    """The terminal is gone, and what is done goes on: the bar fails once, and says with what."""
    bar = Drawn(3, "", ManualClock().now)
    bar.every_s = 0.0
    bar.lines = None  # type: ignore[assignment]
    bar.show(1, "one")
    failed = bar.trouble
    assert isinstance(failed, AttributeError)
    bar.show(2, "two")
    bar.close()
    assert bar.trouble is failed


def test_a_bar_that_cannot_be_drawn_keeps_no_other_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock of all bars of the process is given back: the next one is drawn from whichever thread."""
    monkeypatch.setattr(sys, "stderr", Unwritable())
    bar = TerminalBar(10, "", lambda: 0.0)
    assert isinstance(bar.trouble, OSError)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    drawn = threading.Thread(target=lambda: TerminalBar(10, "", lambda: 0.0).close(), daemon=True)
    drawn.start()
    drawn.join(10)
    assert not drawn.is_alive()


class Unwritable(io.StringIO):
    """Standard error of somebody who has left."""

    def write(self, text: str) -> int:
        raise OSError("broken pipe")


def test_a_bar_that_was_closed_stays_as_it_is() -> None:
    """Calls that nobody waited for may end later, and must not draw over what stands there by then."""
    bar = Drawn(2, "", ManualClock().now)
    bar.show(1, "one")
    bar.close()
    drawn = list(bar.lines)
    bar.show(2, "two", at_once=True)
    bar.close()
    assert bar.lines == drawn


def test_a_bar_that_stands_still_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """It tells the time, and why it stands, though nothing more is done."""
    clock = ManualClock()
    waits: list[Standing] = []
    made: list[Drawn] = []

    def make(total: float | None, unit: str = "", now: Callable[[], float] = clock.now) -> Drawn:
        made.append(Drawn(total, unit, now))
        return made[-1]

    monkeypatch.setattr("toolkit.progress.make_bar", make)
    progress = Progress(2, shown=True, clock=clock, waits=lambda: waits[0] if waits else None)
    progress.look()
    clock.advance(1.0)
    waits.append(Standing(Cause.COOLDOWN, clock.epoch() + 40.0, 12))
    progress.look()
    assert len(made[0].lines) == 2
    # 79 columns: what a terminal of 80 has for a bar.
    assert describe_wait(waits[0]) in made[0].line(79)


def test_description_is_harmless() -> None:
    """A model's name with an escape sequence does not reach the terminal as one."""
    bar = Drawn(2, "cells", ManualClock().now)
    bar.show(1, "model=\x1b]0;owned\x07\x1b[31mred")
    assert bar.lines == ["50% 1/2 cells model=red [00:00<?]"]


def test_bar_of_a_captured_process_is_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    """With neither a terminal nor a notebook, a line stands for a bar, and no more than two a minute."""
    clock = ManualClock()
    bar = make_bar(4, "cells", clock.now)
    assert isinstance(bar, LogBar)
    for step in range(4):
        bar.show(step, "x=1")
        clock.advance(10.0)
    assert capsys.readouterr().err.splitlines() == [
        "toolkit: 0% 0/4 cells x=1 [00:00<?]",
        "toolkit: 75% 3/4 cells x=1 [00:30<00:10]",
    ]


NOTEBOOK = [
    SCRIPT + "work();",
    "import asyncio\nawait asyncio.to_thread(work);",
    "work(endless=True);",
    "work(progress=False);",
    "work(4);",
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_bar_in_a_notebook_is_text_and_html_without_a_widget(tmp_path: Path) -> None:
    """In a plain kernel, whose loop runs, each run leaves one output: its last state."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in NOTEBOOK])
    resources = {"metadata": {"path": str(tmp_path)}}
    began = time.perf_counter()
    NotebookClient(notebook, timeout=120, resources=resources).execute(env=environment())
    print(f"{time.perf_counter() - began:.1f} s")
    for cell, ends in zip(
        notebook.cells, ("3/3 episodes", "3/3 episodes", "3 episodes", None, "4/4 episodes"), strict=True
    ):
        shown = [output.get("data", {}) for output in cell.outputs]
        assert len(shown) == (ends is not None), cell.outputs
        for data in shown:
            assert set(data) == {"text/plain", "text/html"}
            assert ends in data["text/plain"]
            assert ends in data["text/html"]
            assert ("<progress" in data["text/html"]) == ("/" in ends)
            assert ("100%|" in data["text/plain"]) == ("/" in ends)
    assert "widgets" not in notebook.metadata
