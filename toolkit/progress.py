"""The progress of a run, in a terminal or a notebook: episodes, chunks, tokens per second, time left.

And what it waits for: a run that stands still says why, and when it goes on.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self

from toolkit.bars import Bar, is_shown, make_bar
from toolkit.clock import Clock
from toolkit.limits import Cause, Standing
from toolkit.records import CallRecord, EpisodeRecord, Status
from toolkit.wording import counted

LOOK_S = 0.5
"""How often to look whether the run waits."""
LONG_WAIT_S = 10.0
"""Without a bar, a wait is told of if it is at least so long."""
_CAUSES = {
    Cause.REQUESTS: "the limit on requests",
    Cause.TOKENS: "the limit on tokens",
    Cause.SLOTS: "a free slot",
    Cause.COOLDOWN: "the server, which asked to wait",
}


class Snapshot(NamedTuple):
    """How far a run is.

    Attributes
    ----------
    state : {"running", "stopping", "done", "failed"}
        Stopping: no new call starts. Failed: `RunHandle.wait` raises.
    episodes : int
        Those that are done.
    episodes_total : int or None
        None for a generator, whose end nobody knows.
    calls, calls_planned : int
        Those that ended, and those that are known to be needed so far; reducing adds to them.
    output_tokens : int
    elapsed_s : float
    eta_s : float or None
        Seconds that the rest takes at the pace so far; None if nothing is done or the total is not known.
    waits_for : str or None
        What it waits for and until when by the wall clock; None if nobody waits.
    """

    state: str
    episodes: int
    episodes_total: int | None
    calls: int
    calls_planned: int
    output_tokens: int
    elapsed_s: float
    eta_s: float | None
    waits_for: str | None

    def __repr__(self) -> str:
        parts = [
            f"{self.state}: {_done(self.episodes, self.episodes_total)}",
            f"{self.calls}/{self.calls_planned} calls",
            counted(self.output_tokens, "output token"),
            f"{self.elapsed_s:.0f} s",
            *([] if self.eta_s is None else [f"about {self.eta_s:.0f} s left"]),
            *([] if self.waits_for is None else [self.waits_for]),
        ]
        return f"<{', '.join(parts)}>"


def _done(episodes: int, total: int | None) -> str:
    return counted(episodes, "episode") if total is None else f"{episodes}/{total} episodes"


class Progress:
    """Counts what happens and shows it as one bar, whose length is episodes and parts of them.

    Whatever goes wrong in showing it (standard error is closed, say) ends the showing and nothing else.

    Parameters
    ----------
    episodes : int or None
        How many there will be; None for a generator, whose end nobody knows.
    shown : bool or None
        Whether to draw; None: in a notebook, or if standard error is a terminal.
    clock : Clock
    waits : callable
        Says what the limiter's first in line waits for; None if nobody waits.
    """

    def __init__(
        self,
        episodes: int | None,
        *,
        shown: bool | None,
        clock: Clock,
        waits: Callable[[], Standing | None] = lambda: None,
    ) -> None:
        self._total = episodes
        self._clock = clock
        self._began = clock.now()
        self._lock = threading.Lock()
        self._planned: dict[str, int] = {}
        self._finished_calls: dict[str, int] = {}
        self.episodes = 0
        self.calls = 0
        self.calls_planned = 0
        self.output_tokens = 0
        self._ended_at: float | None = None
        self._trouble: Exception | None = None
        self._bar: Bar | None = make_bar(episodes, now=clock.now) if is_shown(shown) else None
        self._waits = waits
        self._told_until = -math.inf
        self._told_trouble = ""
        self._silent = shown is False
        self._ended = threading.Event()
        self._looker = threading.Thread(target=self._look_now_and_then, name="progress", daemon=True)

    def planned(self, episode_id: str, calls: int) -> None:
        """Take note that an episode needs so many more calls."""
        with self._lock:
            self._planned[episode_id] = self._planned.get(episode_id, 0) + calls
            self.calls_planned += calls
            self._show(self._draw)

    def called(self, record: CallRecord) -> None:
        """Count a call that ended."""
        if record.status is Status.CANCELLED:
            return
        with self._lock:
            done = self._finished_calls
            done[record.episode_id] = done.get(record.episode_id, 0) + 1
            self.calls += 1
            # A text that is kept as a whole brings calls that nobody planned.
            self.calls_planned = max(self.calls_planned, self.calls)
            self.output_tokens += record.output_tokens or 0
            self._show(self._draw)

    def finished(self, record: EpisodeRecord) -> None:
        """Count an episode that ended."""
        with self._lock:
            self.episodes += record.summary.status is not Status.CANCELLED
            self._planned.pop(record.episode_id, None)
            self._finished_calls.pop(record.episode_id, None)
            self._show(self._draw)

    @property
    def done_share(self) -> float:
        """Episodes done, with the done parts of those that run.

        One more call than is planned is expected of each, because reducing follows mapping.
        """
        parts = (
            self._finished_calls.get(episode_id, 0) / (planned + 1)
            for episode_id, planned in self._planned.items()
        )
        return self.episodes + sum(parts)

    def under_way(self) -> dict[str, tuple[int, int]]:
        """Return of each episode that is worked on how many calls ended, and how many are planned so far."""
        with self._lock:
            done = self._finished_calls
            return {name: (done.get(name, 0), planned) for name, planned in self._planned.items()}

    def snapshot(self, state: str) -> Snapshot:
        """Return the figures as they are now; ``state`` is what its owner knows."""
        standing = self._waits() if self._ended_at is None else None
        with self._lock:
            end = self._clock.now() if self._ended_at is None else self._ended_at
            elapsed_s, done, eta_s = end - self._began, self.done_share, None
            if self._total is not None and done > 0:
                eta_s = elapsed_s * max(0.0, self._total - done) / done if self._ended_at is None else 0.0
            return Snapshot(
                state,
                self.episodes,
                self._total,
                self.calls,
                self.calls_planned,
                self.output_tokens,
                elapsed_s,
                eta_s,
                standing and describe_wait(standing),
            )

    @property
    def trouble(self) -> Exception | None:
        """What went wrong in showing it; None if nothing did."""
        return self._trouble or (None if self._bar is None else self._bar.trouble)

    def _show(self, step: Callable[[], object]) -> None:
        """Do a step of showing; the first one that fails is the last one."""
        if self._trouble is not None:
            return
        try:
            step()
        except Exception as error:
            self._trouble = error
            if self._bar is not None:
                self._bar.abandon()

    def _draw(self) -> None:
        if self._bar is None:
            return
        seconds = self._clock.now() - self._began
        rate = self.output_tokens / seconds if seconds > 0 else 0.0
        standing = self._waits()
        parts = [
            # First, because it must be there in a narrow terminal too, where the end is cut.
            *([describe_wait(standing)] if standing else []),
            _done(self.episodes, self._total),
            f"{self.calls}/{self.calls_planned} chunks",
            f"{rate:.0f} tokens/s",
        ]
        self._bar.show(round(self.done_share, 3), ", ".join(parts))

    def look(self) -> None:
        """Show what the run waits for: in the bar, else a line for each long wait on standard error."""
        self._show(self._look)

    def _look(self) -> None:
        if self._bar is not None:
            with self._lock:
                self._draw()
            return
        standing = self._waits()
        trouble = standing.trouble if standing else ""
        if trouble and trouble != self._told_trouble:
            print(f"toolkit: {trouble}", file=sys.stderr, flush=True)
        self._told_trouble = trouble
        if standing is None or math.isinf(standing.until) or standing.until <= self._told_until:
            return
        if standing.until - self._clock.epoch() >= LONG_WAIT_S:
            self._told_until = standing.until + LONG_WAIT_S
            print(f"toolkit: {describe_wait(standing)}", file=sys.stderr, flush=True)

    def _look_now_and_then(self) -> None:
        while not self._ended.wait(LOOK_S):
            self.look()

    def __enter__(self) -> Self:
        if not self._silent:
            self._looker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._looker.ident is not None:
            self._looker.join()
        with self._lock:
            self._ended_at = self._clock.now()
            if self._bar is not None:
                self._bar.close()  # What is not waited for does not draw it anew.


def describe_wait(standing: Standing) -> str:
    """Say what a run waits for, and until when by the wall clock of this machine."""
    if standing.trouble:
        return standing.trouble
    text = f"{standing.waiting} waiting for {_CAUSES[standing.cause]}"
    if math.isinf(standing.until):
        return text
    return f"{text} until {time.strftime('%H:%M:%S', time.localtime(math.ceil(standing.until)))}"
