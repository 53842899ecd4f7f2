"""``start``: a run in the background, so that a notebook stays usable, and ``RunHandle``, which steers it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from toolkit import frames
from toolkit.clock import Clock, SystemClock
from toolkit.config import Config
from toolkit.errors import ConfigError
from toolkit.interrupts import Interrupts, tell
from toolkit.limits import LimitEvent, StopEvent
from toolkit.progress import Snapshot
from toolkit.providers.base import SummarizationProvider
from toolkit.records import CallRecord, Episode, EpisodeRecord, Summary
from toolkit.runs import Run
from toolkit.workflow import RunUnderWay

if TYPE_CHECKING:
    import pandas as pd

Record = TypeVar("Record")

SCHEDULE = ("summary_batch_size", "summary_chunk_parallelism")
LIMITS = (
    "openai_max_concurrent_requests",
    "openai_requests_per_minute",
    "openai_tokens_per_minute",
    "anthropic_max_concurrent_requests",
    "anthropic_requests_per_minute",
    "anthropic_input_tokens_per_minute",
    "anthropic_output_tokens_per_minute",
)
"""What `RunHandle.retune` can change, besides the schedule."""
WAIT_LOOK_S = 0.2
"""How often ``wait`` looks for Ctrl-C, which does not wake a thread that waits without end everywhere."""
STOPPING = "Stopping: calls under way may end, no new one starts. Once more to wait no longer."


def start(
    episodes: Iterable[Episode],
    config: Config | None = None,
    *,
    provider: SummarizationProvider | None = None,
    on_episode: Callable[[EpisodeRecord], None] | None = None,
    clock: Clock | None = None,
) -> RunHandle:
    """Summarize episodes in the background, as ``run`` does; return at once.

    The model is made ready before this returns, so that what is wrong with the settings, the model or the
    store is told here. A run that nobody waits for goes on as long as the process does.

    Parameters
    ----------
    episodes : iterable of Episode
        A list, or a generator, which is read in the background as the work goes on.
    config : Config, optional
        By default that of ``provider``, if one is given.
    provider : SummarizationProvider, optional
        Used instead of the one that the config names; not closed at the end.
    on_episode : callable, optional
        Called with each episode's record as it ends, from the thread that worked on it.
    clock : Clock, optional

    Returns
    -------
    RunHandle

    Raises
    ------
    ConfigError
        If the episodes are none, two of a list have one id, or ``config`` or ``provider`` is none.
    ModelUnavailable
        If the provider's model cannot be had.
    StoreError
        If what the run does could not be kept.

    Examples
    --------
    >>> handle = tk.start(episodes, config)
    >>> handle.progress
    <running: 3/20 episodes, 17/31 calls, 2210 output tokens, 12 s, about 68 s left>
    >>> handle.retune(openai_requests_per_minute=100)
    >>> run = handle.wait()
    """
    stop = StopEvent()
    under_way = RunUnderWay(
        episodes,
        config,
        provider=provider,
        progress=False,
        on_episode=on_episode,
        stop=stop,
        gate=None,
        clock=clock or SystemClock(),
    )
    return RunHandle(under_way, stop)


class RunHandle:
    """A run that goes on in the background; made by ``start``.

    All methods may be called from any thread, before and after the run's end. A handle that is dropped
    stops nothing.

    Attributes
    ----------
    id : str
        That of the run.
    config : Config
        The settings in force.
    """

    def __init__(self, under_way: RunUnderWay, stop: threading.Event) -> None:
        self.id = under_way.id
        self.config = under_way.config
        self._under_way = under_way
        self._stop = stop
        self._error: BaseException | None = None
        self._ended = threading.Event()
        self._retuning_lock = threading.Lock()
        self._calls = _Growing[CallRecord](self._calls_frame)
        self._attempts = _Growing[CallRecord](self._attempts_frame)
        self._episodes = _Growing[tuple[int, EpisodeRecord]](self._episodes_frame)
        threading.Thread(target=self._complete, name=f"run {self.id}", daemon=True).start()

    def _complete(self) -> None:
        try:
            with Interrupts(self._stop, self._under_way.clock.now) as interrupts:
                self._under_way.complete(interrupts)
        except BaseException as error:
            self._error = error
        finally:
            self._ended.set()

    # Looking

    @property
    def progress(self) -> Snapshot:
        """How far the run is, now."""
        return self._under_way.progress.snapshot(self._state())

    def _state(self) -> str:
        if self._ended.is_set():
            return "failed" if self._error or self._under_way.failure else "done"
        return "stopping" if self._stop.is_set() else "running"

    def frames(self) -> Frames:
        """Return the frames as they are now: episodes that ended, and all calls that ended.

        Calls of episodes that go on are among them. What was there at the last time is not made anew, so
        that it may be asked for every second. After the end they are those of the run.
        """
        finished = self._under_way.finished
        if self._ended.is_set() and finished is not None:
            return Frames(finished.episodes, finished.calls, finished.attempts)
        work = self._under_way.work
        return Frames(
            self._episodes.frame(work.finished).sort_index().reset_index(drop=True),
            self._calls.frame(work.calls).sort_values("started_at", kind="stable", ignore_index=True),
            self._attempts.frame(work.calls).reset_index(drop=True),
        )

    def _episodes_frame(self, new: Sequence[tuple[int, EpisodeRecord]]) -> pd.DataFrame:
        provider = self._under_way.provider
        frame = frames.episodes_frame(self.id, [record for _, record in new], provider.name, provider.model)
        return frame.set_axis([number for number, _ in new], axis="index")

    def _calls_frame(self, new: Sequence[CallRecord]) -> pd.DataFrame:
        return frames.calls_frame(self.id, [_holding(new)])

    def _attempts_frame(self, new: Sequence[CallRecord]) -> pd.DataFrame:
        return frames.attempts_frame(self.id, [_holding(new)])

    def ended(self, since: int = 0) -> list[EpisodeRecord]:
        """Return the records of episodes that ended, in the order in which they did.

        Parameters
        ----------
        since : int
            Leave out so many, which have been seen.
        """
        return [record for _, record in self._under_way.work.finished[since:]]

    def calls(self, since: int = 0) -> list[CallRecord]:
        """Return the records of calls that ended, as `ended` does; also of episodes that have not."""
        return self._under_way.work.calls[since:]

    @property
    def under_way(self) -> dict[str, tuple[int, int]]:
        """Of the episodes that have begun to ask and have not ended: calls that ended, and those planned."""
        return self._under_way.progress.under_way()

    @property
    def quota(self) -> LimitEvent | None:
        """What counts towards the limits now, of all who draw from them; None where there is no limiter.

        Raises
        ------
        StoreError
            If the file that they share cannot be read.
        """
        return self._under_way.quota()

    # Steering

    def stop(self, wait: bool = False) -> Run | None:
        """Start no new call; those under way have ``config.stop_grace_s`` seconds to end.

        Parameters
        ----------
        wait : bool
            Whether to wait for that, as `wait` does, and return the run.
        """
        self._stop.set()
        return self.wait() if wait else None

    def wait(self, timeout_s: float | None = None) -> Run:
        """Wait for the run's end.

        A first Ctrl-C (in a notebook: an interrupt of the kernel) stops the run as `stop` does and goes on
        waiting for it, so that what is done is returned. A second one is a KeyboardInterrupt: the run ends
        in the background, and it can be waited for again.

        Parameters
        ----------
        timeout_s : float, optional
            Seconds to wait at most.

        Raises
        ------
        RunInterrupted
            If the generator of episodes or ``on_episode`` raises; the run as far as it came is its ``run``.
        TimeoutError
            If the time is over; the run goes on.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        is_asked = False
        while not self._ended.is_set():
            left_s = WAIT_LOOK_S if until is None else until - time.monotonic()
            if left_s <= 0:
                raise TimeoutError(
                    f"the run has not ended within {timeout_s:g} s and goes on: {self.progress!r}; "
                    "wait again, or end it with stop()"
                )
            try:
                self._ended.wait(min(left_s, WAIT_LOOK_S))
            except KeyboardInterrupt:
                if is_asked:
                    raise
                is_asked = True
                self._stop.set()
                tell(STOPPING)
        if self._error is not None:
            raise self._error
        return self._under_way.hand_over()

    def retune(self, **settings: Any) -> None:
        """Change settings while the run goes on.

        Parameters
        ----------
        **settings
            ``summary_batch_size``: episodes at a time; running ones go on. ``summary_chunk_parallelism``:
            for episodes that start from now on. ``openai_requests_per_minute``, ``openai_tokens_per_minute``,
            ``openai_max_concurrent_requests`` and those of Anthropic: at once, for all that draw from the
            same quota, and for the provider's further runs.

        Raises
        ------
        ConfigError
            If a setting cannot be changed now, is out of its range or means nothing to the provider, or if
            the run has ended; where other processes work on the episodes all but
            ``summary_chunk_parallelism`` cannot. Nothing is changed then.
        """
        for name in settings:
            if name not in SCHEDULE + LIMITS:
                raise ConfigError(
                    f"{name!r} cannot be changed while a run goes on; {', '.join(SCHEDULE + LIMITS)} can",
                    [name],
                )
        with self._retuning_lock:
            if self._ended.is_set():
                raise ConfigError(f"run {self.id} has ended; there is nothing to change any more")
            config = self.config.replace(**settings)
            limits = {name: settings[name] for name in LIMITS if name in settings}
            self._under_way.retune(config, limits)
            self.config = config

    def __repr__(self) -> str:
        provider = self._under_way.provider
        parts = [f"{provider.name}/{provider.model}", repr(self.progress)[1:-1]]
        if self._error is not None:
            parts.append(f"{type(self._error).__name__}: {self._error}")
        elif failure := self._under_way.failure:
            parts.append(str(failure))
        return f"<RunHandle {self.id}: {', '.join(parts)}>"


class Frames(NamedTuple):
    """The frames of a run that goes on; their columns are declared in ``toolkit.frames``."""

    episodes: pd.DataFrame
    calls: pd.DataFrame
    attempts: pd.DataFrame


class _Growing(Generic[Record]):
    """A frame of records that become more and never change: only new ones are made rows of."""

    def __init__(self, make: Callable[[Sequence[Record]], pd.DataFrame]) -> None:
        self._make = make
        self._frame: pd.DataFrame | None = None
        self._count = 0
        self._frame_lock = threading.Lock()

    def frame(self, records: Sequence[Record]) -> pd.DataFrame:
        """Return the frame of all records; it is not to be changed."""
        import pandas as pd

        with self._frame_lock:
            new = records[self._count :]
            if self._frame is None or self._count == 0:
                self._frame = self._make(new)
            elif new:
                self._frame = pd.concat([self._frame, self._make(new)])
            self._count += len(new)
            return self._frame


def _holding(calls: Sequence[CallRecord]) -> EpisodeRecord:
    """Return something that the functions of ``frames`` take calls from."""
    return EpisodeRecord("", "", 0, 0.0, 0.0, Summary("", calls=tuple(calls)))
