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
from typing import Any, Self

from toolkit.clock import Clock
from toolkit.limits import Cause, Standing
from toolkit.records import CallRecord, EpisodeRecord, Status

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


class Progress:
    """Counts what happens and shows it as one bar, whose length is episodes and parts of them.

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
        self._bar = _bar(episodes) if _is_shown(shown) else None
        self._waits = waits
        self._told_until = -math.inf
        self._silent = shown is False
        self._ended = threading.Event()
        self._looker = threading.Thread(target=self._look_now_and_then, name="progress", daemon=True)

    def planned(self, episode_id: str, calls: int) -> None:
        """Take note that an episode needs so many more calls."""
        with self._lock:
            self._planned[episode_id] = self._planned.get(episode_id, 0) + calls
            self.calls_planned += calls
            self._draw()

    def called(self, record: CallRecord) -> None:
        """Count a call that ended."""
        if record.status is Status.CANCELLED:
            return
        with self._lock:
            done = self._finished_calls
            done[record.episode_id] = done.get(record.episode_id, 0) + 1
            self.calls += 1
            self.output_tokens += record.output_tokens or 0
            self._draw()

    def finished(self, record: EpisodeRecord) -> None:
        """Count an episode that ended."""
        with self._lock:
            self.episodes += record.summary.status is not Status.CANCELLED
            self._planned.pop(record.episode_id, None)
            self._finished_calls.pop(record.episode_id, None)
            self._draw()

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

    def _draw(self) -> None:
        if self._bar is None:
            return
        seconds = self._clock.now() - self._began
        rate = self.output_tokens / seconds if seconds > 0 else 0.0
        of = "" if self._total is None else f"/{self._total}"
        self._bar.n = round(self.done_share, 3)
        parts = [
            f"{self.episodes}{of} episodes",
            f"{self.calls}/{self.calls_planned} chunks",
            f"{rate:.0f} tokens/s",
        ]
        if standing := self._waits():
            parts.append(describe_wait(standing))
        self._bar.set_description_str(", ".join(parts), refresh=False)
        # update() draws at most every mininterval seconds.
        self._bar.update(0)

    def look(self) -> None:
        """Show what the run waits for: in the bar, else a line for each long wait on standard error."""
        if self._bar is not None:
            with self._lock:
                self._draw()
            return
        standing = self._waits()
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
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()


def describe_wait(standing: Standing) -> str:
    """Say what a run waits for, and until when by the wall clock of this machine."""
    text = f"{standing.waiting} waiting for {_CAUSES[standing.cause]}"
    if math.isinf(standing.until):
        return text
    return f"{text} until {time.strftime('%H:%M:%S', time.localtime(math.ceil(standing.until)))}"


def _is_shown(shown: bool | None) -> bool:
    if shown is not None:
        return shown
    return sys.stderr.isatty() or _in_notebook()


def _in_notebook() -> bool:
    """Say whether this process is a notebook's kernel, without importing IPython."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and "IPKernelApp" in shell.config


def _bar(episodes: int | None) -> Any:
    if _in_notebook():
        from tqdm.notebook import tqdm as bar
    else:
        from tqdm import tqdm as bar  # type: ignore[assignment]
    layout = (
        "{percentage:3.0f}%|{bar}| {desc} [{elapsed}<{remaining}]"
        if episodes is not None
        else "{desc} [{elapsed}]"
    )
    return bar(total=episodes, bar_format=layout, dynamic_ncols=True, mininterval=0.2)
