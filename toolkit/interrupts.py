"""Ctrl-C, and what stands for it, while there is something to lose.

Python runs the handler of a signal in the main thread, between any two steps of what that does. So work is
done in a thread of its own, which nothing breaks into, and the main thread only waits for it.
"""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from enum import Enum, auto
from queue import Empty, SimpleQueue
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

Result = TypeVar("Result")

LOOK_S = 0.1
"""How often to look for signals: Python misses one that comes in the instant in which it falls asleep."""
STOPPING = "Stopping: calls under way may end, no new one starts. Once more to stop at once."
_JOB = "job"


class _Event(Enum):
    PRESSED = auto()
    ENDED = auto()


class _Handling:
    """A block in which signals are handled here, and after which they are whose they were before."""

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}

    def take(self, number: int, handler: Callable[[int, FrameType | None], object]) -> None:
        """Handle a signal; outside the main thread, which alone is told of signals, do nothing."""
        if threading.current_thread() is threading.main_thread():
            self._before[number] = signal.getsignal(number)
            signal.signal(number, handler)

    def give_back(self) -> None:
        """Give all signals back; it may be called again, and from a handler that breaks into it."""
        for number, handler in self._before.items():
            # None: it was not set from Python, and cannot be set back from there.
            signal.signal(number, signal.default_int_handler if handler is None else handler)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.give_back()


class Interrupts(_Handling):
    """What Ctrl-C does to a block of code that works and hands over what came of it.

    Before ``work`` it does what it did outside. During ``work`` the first Ctrl-C sets ``stop``, so that calls
    under way may end and no new one starts, and the second one, or the end of a grace time, ends the waiting.
    After that it does nothing until the block is left: what was done must not be lost on the last steps.

    Parameters
    ----------
    stop : threading.Event
    now : callable
        Monotonic seconds, in which the grace time is counted.
    """

    def __init__(self, stop: threading.Event, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._stop = stop
        self._now = now

    def work(
        self, job: Callable[[], Result], *, grace_s: Callable[[], float] = lambda: math.inf
    ) -> Result | None:
        """Do a job; return its result, or None if it was left to itself.

        Parameters
        ----------
        job : callable
            Done in a thread of its own.
        grace_s : callable
            Seconds that the job may still take once ``stop`` is set, by whomever; asked for then, and again
            as long as it is infinity.
        """
        # Of all queues and locks only this queue may be used in the handler of a signal.
        events: SimpleQueue[_Event] = SimpleQueue()
        outcome: Future[Result] = Future()
        outcome.add_done_callback(lambda outcome: events.put(_Event.ENDED))
        self.take(signal.SIGINT, lambda number, frame: events.put(_Event.PRESSED))
        threading.Thread(target=_fulfil, args=(outcome, job), name=_JOB, daemon=True).start()
        pressed_before = False
        until = math.inf
        while self._now() < until or outcome.done():
            event = _next(events)
            if event is _Event.ENDED:
                return outcome.result()
            if event is _Event.PRESSED:
                self._stop.set()
                if pressed_before:
                    return None
                pressed_before = True
                tell(STOPPING)
            if self._stop.is_set() and math.isinf(until):
                until = self._now() + grace_s()
        return None


def job_goes_on() -> bool:
    """Say whether a job that was left to itself is still at it."""
    return any(thread.name == _JOB for thread in threading.enumerate())


class Signals(_Handling):
    """What ends a command: Ctrl-C, and SIGTERM and SIGHUP, which are taken for it unless they are ignored.

    The first one raises KeyboardInterrupt and gives them back, so that the next one ends whatever that led
    to. While ``hold`` is set, because there is something to lose, none does anything. `Interrupts` within
    the block goes first.

    Attributes
    ----------
    hold : bool
    status : int
        The exit status of the signal that came: 130, 143 or 129.
    """

    def __init__(self) -> None:
        super().__init__()
        self.hold = False
        self.status = 128 + signal.SIGINT

    def _came(self, number: int, frame: FrameType | None) -> None:
        if number != signal.SIGINT:
            self.status = 128 + number
            signal.raise_signal(signal.SIGINT)
        elif not self.hold:
            self.give_back()
            raise KeyboardInterrupt

    def __enter__(self) -> Self:
        self.take(signal.SIGINT, self._came)
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP.
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                self.take(number, self._came)
        return self


def _fulfil(outcome: Future[Result], job: Callable[[], Result]) -> None:
    try:
        outcome.set_result(job())
    except BaseException as error:
        outcome.set_exception(error)


def _next(events: SimpleQueue[_Event]) -> _Event | None:
    try:
        return events.get(timeout=LOOK_S)
    except Empty:
        return None


def tell(text: str) -> None:
    """Print on a line of its own below the progress bar; not through tqdm, whose lock a thread may hold."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError):  # It is a pipe that nobody reads, or closed.
            print(f"\n{text}", file=sys.stderr, flush=True)
