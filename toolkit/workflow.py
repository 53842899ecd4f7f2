"""``run``: episodes in parallel, through joblib, the same for every provider."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from toolkit.arguments import read_episodes
from toolkit.backends import find_backend
from toolkit.clock import Clock, SystemClock
from toolkit.config import Config
from toolkit.errors import ConfigError, RunInterrupted
from toolkit.gate import EpisodeGate
from toolkit.interrupts import Interrupts
from toolkit.keeping import Keeping
from toolkit.limits import LimitEvent, Standing, StopEvent
from toolkit.memory import PeakMemory
from toolkit.progress import Progress
from toolkit.providers.base import SummarizationProvider
from toolkit.providers.given import config_given
from toolkit.providers.registry import get_provider
from toolkit.records import Episode, EpisodeRecord, Status, WorkerRecord
from toolkit.runs import Run
from toolkit.work import Failure, Work

if TYPE_CHECKING:
    from toolkit.workers.team import Team

Result = TypeVar("Result")


def run(
    episodes: Iterable[Episode],
    config: Config | None = None,
    *,
    provider: SummarizationProvider | None = None,
    progress: bool | None = None,
    on_episode: Callable[[EpisodeRecord], None] | None = None,
    stop: threading.Event | None = None,
    gate: EpisodeGate | None = None,
    clock: Clock | None = None,
    part_of: str = "",
) -> Run:
    """Summarize episodes, ``config.summary_batch_size`` at a time.

    Parameters
    ----------
    episodes : iterable of Episode
        A list, or a generator, which is read as the work goes on.
    config : Config, optional
        By default that of ``provider``, if one is given.
    provider : SummarizationProvider, optional
        Used instead of the one that the config names; not closed at the end.
    progress : bool, optional
        Whether to show a progress bar; by default in notebooks and terminals.
    on_episode : callable, optional
        Called with each episode's record as it ends, from the thread that worked on it.
    stop : threading.Event, optional
        Set it to stop: no new call starts, and what is done is returned.
    gate : EpisodeGate, optional
        Bounds the episodes at a time and can be resized, within ``config.summary_batch_size`` workers.
    clock : Clock, optional
    part_of : str
        Name of a study. With ``config.reuse="run"`` only unfinished starts in that study are gone on with.

    Returns
    -------
    Run
        With a row for each episode, also for those that failed or were cancelled. A first Ctrl-C stops
        the run as ``stop`` does, and waits ``config.stop_grace_s`` for the calls that are under way; a second
        one does not wait for them. Every call that ended is in the store, and the next run takes it from
        there (``config.reuse``).

    Raises
    ------
    ConfigError
        If the episodes are none, two of a list have one id, or ``config`` or ``provider`` is none.
    ModelUnavailable
        If the provider's model cannot be had; before any episode starts.
    StoreError
        If what the run does could not be kept; before any episode starts.
    RunInterrupted
        If the generator of episodes or ``on_episode`` raises; the run as far as it came is its ``run``.
    """
    stop = stop or StopEvent()
    clock = clock or SystemClock()
    with Interrupts(stop, clock.now) as interrupts:
        under_way = RunUnderWay(
            episodes,
            config,
            provider=provider,
            progress=progress,
            on_episode=on_episode,
            stop=stop,
            gate=gate,
            clock=clock,
            part_of=part_of,
        )
        under_way.complete(interrupts)
        return under_way.hand_over()


class RunUnderWay:
    """A run from its preparation to its end, for whoever drives it: here, or in the background.

    Making one prepares everything, so that what is missing is known before the first episode; the
    parameters and what is raised are those of `run`.

    Attributes
    ----------
    id : str
    config : Config
    provider : SummarizationProvider
    clock : Clock
    gate : EpisodeGate
    progress : Progress
    work : Work
    finished : Run or None
        Once it is complete.
    failure : Failure or None
        Likewise; what `hand_over` raises.
    """

    def __init__(
        self,
        episodes: Iterable[Episode],
        config: Config | None,
        *,
        provider: SummarizationProvider | None,
        progress: bool | None,
        on_episode: Callable[[EpisodeRecord], None] | None,
        stop: threading.Event,
        gate: EpisodeGate | None,
        clock: Clock,
        part_of: str = "",
    ) -> None:
        config = config_given(config, provider)
        read = read_episodes(episodes)
        self._known = list(read) if isinstance(episodes, Sequence) else None
        self._episodes = read if self._known is None else self._known
        self._stop = stop
        self.clock = clock
        self._is_owner = provider is None
        self._has_begun = False
        self._troubles: list[str] = []
        self.config = config
        self.finished: Run | None = None
        self.failure: Failure | None = None
        self._peak = PeakMemory()
        self._team = _team(config, provider, gate, clock)
        if self._team is not None:
            self.provider = self._team.provider
        else:
            self.provider = get_provider(config) if provider is None else provider
        try:
            if self._team is None:
                self.provider.prepare()
            identity = self.provider.identity() if self._team is None else self._team.identity
            self._keeping = Keeping(self.provider, config, self._known, clock, part_of, identity=identity)
            # Workers have their own.
            self._limiter = self.provider.limiter(clock) if self._team is None else None
            self.id = self._keeping.keeper.run_id
            self.gate = gate or EpisodeGate(config.summary_batch_size)
            self.progress = Progress(
                None if self._known is None else len(self._known),
                shown=progress,
                clock=clock,
                waits=self._standing,
            )
            self.work = self._make_work(on_episode or (lambda record: None), is_part=bool(part_of))
        except BaseException:
            if self._is_owner:
                self.provider.close()
            if self._team is not None:
                self._team.end(is_over=True)
            raise

    def _make_work(self, on_episode: Callable[[EpisodeRecord], None], *, is_part: bool) -> Work:
        """Return what works on the episodes: threads here, or processes elsewhere."""
        told = self.progress, self.gate, self._stop, self.clock, on_episode
        if self._team is not None:
            return self._team.begin(self._keeping, *told, is_part=is_part)
        width = self.config.summary_chunk_parallelism
        return Work(self.provider, self._keeping.keeper, *told, width)

    def _standing(self) -> Standing | None:
        if self._team is not None:
            return self._team.standing()
        return self._limiter.standing() if self._limiter else None

    def complete(self, interrupts: Interrupts) -> None:
        """Work on the episodes and write down what came of them; `hand_over` gives it.

        The work is what costs: whatever goes wrong after it is told beside the run and does not take its
        place.
        """
        try:
            began_at, makespan_s = self._work(interrupts)
        except BaseException:
            if self._team is not None:
                self._team.end(is_over=False)
            raise
        finally:
            if self._is_owner:
                self._close()
        if self.progress.trouble is not None:
            self._note("the progress bar", self.progress.trouble)
        events: list[LimitEvent] = []
        shares: Mapping[str, float] = {}
        workers: list[WorkerRecord] = []
        if (team := self._team) is not None:
            events = self._after("the workers' limits", team.events, events)
            shares = self._after("the workers' quota", lambda: team.shares(events), shares)
            workers = self._after("the workers", lambda: team.end(is_over=self.work.over.is_set()), workers)
        if (limiter := self._limiter) is not None:
            events = self._after("limiter.events", lambda: limiter.events(since=began_at), events)
            shares = self._after("limiter.quota_shares", lambda: limiter.quota_shares(since=began_at), shares)
        finished = Run(
            id=self.id,
            config=self.config,
            provider=self.provider.name,
            model=self.provider.model,
            records=self.work.records(self._known),
            makespan_s=makespan_s,
            peak_rss_mb=self._peak.end(),
            environment=self._keeping.environment,
            interrupted=self._stop.is_set() and self.work.fatal is None,
            stopped_because=str(self.work.fatal) if self.work.fatal else None,
            stopped_kind=type(self.work.fatal).__name__ if self.work.fatal else None,
            limit_events=events,
            began_at=began_at,
            quota_shares=shares,
            store=self._keeping.shown,
            workers=workers,
        )
        self.failure, self.finished = self.work.failure, finished
        broken = self.failure is not None
        self._after("the store", lambda: self._keeping.end(finished, self.work.unreached(), broken), None)

    def _work(self, interrupts: Interrupts) -> tuple[float, float]:
        """Work on the episodes; return when that began, on the limiter's axis, and how long it took."""
        began = self.clock.now()
        began_at = self._limiter.now() if self._limiter else self.clock.epoch()
        with self.progress:
            self._has_begun = True
            interrupts.work(
                lambda: self.work.do(self._episodes, self.config.summary_batch_size),
                # A run that stops by itself has time: nobody waits to have the prompt back.
                grace_s=lambda: math.inf if self.work.fatal else self.config.stop_grace_s,
            )
            return began_at, self.clock.now() - began

    def retune(self, config: Config, limits: Mapping[str, int]) -> None:
        """Change the schedule to that of ``config``, and settings that say what the account may do.

        Raises
        ------
        ConfigError
            If one of them means nothing to the provider, or cannot reach those who work.
        """
        if self._team is not None:
            fixed = {**limits, "summary_batch_size": config.summary_batch_size}
            for name, value in fixed.items():
                if value != getattr(self.config, name):
                    raise ConfigError(
                        f"{name} cannot be changed while other processes work on the episodes; "
                        "summary_chunk_parallelism can",
                        [name],
                    )
            self._team.tell(chunk_parallelism=config.summary_chunk_parallelism)
            return
        if limits:
            self._retune_limits(limits)
        self.work.chunk_parallelism = config.summary_chunk_parallelism
        if config.summary_batch_size != self.gate.width:
            self.gate.resize(config.summary_batch_size)
            self.work.widen(config.summary_batch_size)

    def _retune_limits(self, limits: Mapping[str, int]) -> None:
        """Change limits of the provider, and so of its limiter."""
        provider, before = self.provider, self.provider.config
        try:
            for name, value in limits.items():
                settings = provider.limits()
                provider.config = provider.config.replace(**{name: value})
                if provider.limits() == settings and value != getattr(before, name):
                    raise ConfigError(f"{name} has no effect on provider {provider.name!r}", [name])
            # The provider has kept what its config said before.
            vars(provider).pop("_pool", None)
            provider.limiter(self.clock)
        except BaseException:
            provider.config = before
            vars(provider).pop("_pool", None)
            raise

    def quota(self) -> LimitEvent | None:
        """Return what counts towards the limits now; None where there is no limiter."""
        return None if self._limiter is None else self._limiter.snapshot()

    def hand_over(self) -> Run:
        """Return the complete run; raise the exception of code that was given to it.

        Raises
        ------
        RunInterrupted
            If there is one; with the run.
        """
        finished, failure = self.finished, self.failure
        assert finished is not None
        if self._troubles:
            text = f"The episodes of run {self.id} are kept, but after them {'; '.join(self._troubles)}"
            try:
                warnings.warn(text, RunWarning, stacklevel=3)
            except RunWarning:  # Warnings are errors here, and this one would take the run along.
                finished.stopped_because = finished.stopped_because or text
        if failure is None:
            return finished
        cancelled = finished.counts().get(Status.CANCELLED, 0)
        done = len(finished.records) - cancelled
        remaining = None if self._known is None else cancelled
        raise RunInterrupted(str(failure), done, remaining, finished) from failure.error

    def _after(self, source: str, step: Callable[[], Result], otherwise: Result) -> Result:
        """Do one of the steps after the work; an exception is noted."""
        try:
            return step()
        except Exception as error:
            self._note(source, error)
            return otherwise

    def _note(self, source: str, error: Exception) -> None:
        self._troubles.append(f"{source} raised {type(error).__name__}: {error}")

    def _close(self) -> None:
        """Close the provider, when the last call is over: what one still brings is kept for the next run."""
        if self.work.over.is_set() or not self._has_begun:
            self._after("provider.close", self.provider.close, None)
            return

        def close_later() -> None:
            self.work.over.wait()
            with suppress(Exception):  # There is nobody any more to be told.
                self.provider.close()

        threading.Thread(target=close_later, name="closing", daemon=True).start()


def _team(
    config: Config, provider: SummarizationProvider | None, gate: EpisodeGate | None, clock: Clock
) -> Team | None:
    """Return the processes that work on the episodes; None: threads of this process do."""
    backend = None if config.episode_backend == "threads" else find_backend(config)
    if backend is None:
        return None
    if provider is not None:
        backend.close()
        raise ConfigError(
            f"provider= is an object of this process, and the workers of joblib's backend "
            f"{backend.name!r} are others: each makes its own from the config. Name it in "
            "Config(provider=...), or set episode_backend='threads'",
            ["episode_backend"],
        )
    if gate is not None:
        backend.close()
        raise ConfigError(
            "gate= bounds the threads of this process, and episodes are worked on by others; leave it out, "
            "or set episode_backend='threads'",
            ["episode_backend"],
        )
    from toolkit.workers.team import Team  # Loads SQLAlchemy.

    try:
        return Team(backend, config, clock)
    except BaseException:
        backend.close()
        raise


class RunWarning(UserWarning):
    """Something went wrong after the work of a run; its episodes are as good as without that."""
