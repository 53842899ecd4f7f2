"""Bars that show how far something is: in a terminal, in a notebook, and as lines of a log."""

from __future__ import annotations

import html
import math
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache
from typing import Any

from toolkit.harmless import for_terminal

TEXT_COLUMNS = 100
"""Width of a bar where nobody can be asked how much room there is."""


class Bar(ABC):
    """A bar that is drawn anew now and then, and at its end; it may be shown from any thread.

    Whatever goes wrong in drawing (a terminal that is gone, say) ends the drawing and nothing else.

    Parameters
    ----------
    total : float or None
        What all of it is; None if nobody knows.
    unit : str
        What it counts, if the text does not say so itself.
    now : callable
        Monotonic seconds.

    Attributes
    ----------
    trouble : Exception or None
        What went wrong.
    """

    every_s: float = 0.2
    """Seconds between two drawings, at least."""

    def __init__(self, total: float | None, unit: str, now: Callable[[], float]) -> None:
        count = f"{{n_fmt}}/{{total_fmt}} {unit} " if unit else ""
        self.total = total
        self.done = 0.0
        self.text = ""
        self.trouble: Exception | None = None
        # In the terms of tqdm. Of an endless one the bar is blank, but makes a line of the right width.
        self.words_format, self.bar_format = (
            ("{desc} [{elapsed}]", "{desc} [{elapsed}]{bar}")
            if total is None
            else (
                f"{{percentage:.0f}}% {count}{{desc}} [{{elapsed}}<{{remaining}}]",
                f"{{percentage:3.0f}}%|{{bar}}| {count}{{desc}} [{{elapsed}}<{{remaining}}]",
            )
        )
        self._now = now
        self._began = now()
        self._drawn_at = -math.inf
        self._is_over = False
        self._drawing_lock = threading.Lock()

    def show(self, done: float, text: str, *, at_once: bool = False) -> None:
        """Say how far it is, and a few words; it is drawn if that is due, or ``at_once``."""
        with self._drawing_lock:
            self.done, self.text = done, for_terminal(text)
            if at_once or self._now() - self._drawn_at >= self.every_s:
                self._drawn_at = self._now()
                self._try(self.draw)

    def close(self) -> None:
        """Draw what was said last, and leave it there; nothing is drawn after that."""
        with self._drawing_lock:
            self._try(self.draw)
            self._try(self.leave)
            self._is_over = True

    def abandon(self) -> None:
        """Draw nothing more."""
        self._is_over = True

    def _try(self, step: Callable[[], object]) -> None:
        """Do a step of drawing; the first one that fails is the last one."""
        if self._is_over:
            return
        try:
            step()
        except Exception as error:
            self.trouble = error
            self.abandon()

    def leave(self) -> None:  # noqa: B027 (most have nothing to do)
        """Let what is printed next stand below it."""

    @abstractmethod
    def draw(self) -> None:
        """Draw it as it is now."""

    def words(self) -> str:
        """Return what it says, without a bar."""
        return self._line(self.words_format, None)

    def line(self, columns: int) -> str:
        """Return the bar as a line of text."""
        return self._line(self.bar_format, columns)

    def _line(self, layout: str, columns: int | None) -> str:
        from tqdm import tqdm

        elapsed_s = self._now() - self._began
        total: Any = self.total  # None is documented, and not in its type
        return tqdm.format_meter(
            self.done,
            total,
            elapsed_s,
            columns,
            prefix=self.text,
            bar_format=layout,
        ).strip()


class TerminalBar(Bar):
    """A line of a terminal that is written over; several at a time take several lines."""

    def __init__(self, total: float | None, unit: str, now: Callable[[], float]) -> None:
        super().__init__(total, unit, now)
        self._bar: Any = None
        self._try(self._open)

    def _open(self) -> None:
        # It knows of other bars and of lines that are printed meanwhile. When to draw is our own affair: tqdm
        # would not draw a bar that stands still, and why it does is what is to be seen then.
        self._bar = _line_kind()(total=self.total, bar_format=self.bar_format, dynamic_ncols=True)

    def draw(self) -> None:
        """Write over the line."""
        self._bar.n = self.done
        self._bar.set_description_str(self.text, refresh=False)
        self._bar.refresh()

    def leave(self) -> None:
        """Go on in the next line."""
        # Below a bar that has ended meanwhile its last state would stand a second time.
        self._bar.clear()
        self._bar.close()

    def abandon(self) -> None:
        """Draw nothing more, not when tqdm's bar is collected either."""
        super().abandon()
        if self._bar is not None:
            self._bar.disable = True


@cache
def _line_kind() -> Any:
    from tqdm import tqdm

    class Line(tqdm):  # type: ignore[type-arg]
        """A bar of tqdm's that gives back the lock of all bars of the process if it cannot be drawn.

        Tqdm's own keeps it, and the next bar would wait for it for ever.
        """

        def refresh(self, nolock: bool = False, lock_args: Any = None) -> None:
            with self.get_lock():  # type: ignore[no-untyped-call]
                super().refresh(nolock=True)

        def clear(self, nolock: bool = False) -> None:
            with self.get_lock():  # type: ignore[no-untyped-call]
                super().clear(nolock=True)

    return Line


class NotebookBar(Bar):
    """An output of a cell that is replaced.

    It is no widget: it needs nothing of the front end, is text where there is no HTML, and a notebook that is
    saved or was run by a program keeps its last state.
    """

    def __init__(self, total: float | None, unit: str, now: Callable[[], float]) -> None:
        super().__init__(total, unit, now)
        self._output: Any = None
        # In the thread that the cell runs in: what others display may be taken for another cell's.
        self._try(self.draw)

    def draw(self) -> None:
        """Replace the output."""
        from IPython.display import display

        data = {"text/plain": self.line(TEXT_COLUMNS), "text/html": self._html()}
        if self._output is None:
            self._output = display(data, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._output.update(data, raw=True)

    def _html(self) -> str:
        told = html.escape(self.words())
        if self.total is None:
            return told
        return (
            f'<progress max="{max(self.total, 1)}" value="{self.done:.3f}" aria-label="progress" '
            f'style="width: 14em; max-width: 30%; vertical-align: middle"></progress> {told}'
        )


class LogBar(Bar):
    """Lines of a file, few enough to leave it readable."""

    every_s = 30.0

    def draw(self) -> None:
        """Write a line."""
        if sys.stderr is not None:
            print(f"toolkit: {self.words()}", file=sys.stderr, flush=True)


def make_bar(total: float | None, unit: str = "", now: Callable[[], float] = time.monotonic) -> Bar:
    """Open the bar that is right for where this runs; the parameters are those of `Bar`."""
    kind = NotebookBar if in_notebook() else TerminalBar if on_terminal() else LogBar
    return kind(total, unit, now)


def is_shown(shown: bool | None) -> bool:
    """Whether to draw; None: in a notebook, or if standard error is a terminal.

    Where standard error is closed there is nobody to draw for.
    """
    return on_terminal() or in_notebook() if shown is None else shown and (_is_open() or in_notebook())


def on_terminal() -> bool:
    """Say whether standard error is a terminal."""
    return _is_open() and sys.stderr.isatty()


def _is_open() -> bool:
    return sys.stderr is not None and not getattr(sys.stderr, "closed", False)


def in_notebook() -> bool:
    """Say whether this process is a notebook's kernel, without importing IPython."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None
