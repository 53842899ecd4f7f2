"""``run``: episodes in parallel, through joblib, the same for every provider."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from toolkit.clock import Clock, SystemClock
from toolkit.config import Config
from toolkit.errors import ConfigError, RunInterrupted, StoreError, ToolkitError
from toolkit.gate import EpisodeGate
from toolkit.interrupts import Interrupts
from toolkit.keeping import Keeping
from toolkit.limits import StopEvent
from toolkit.progress import Progress
from toolkit.protocols import SummarizeParams
from toolkit.providers.base import SummarizationProvider
from toolkit.providers.registry import get_provider
from toolkit.records import Episode, EpisodeRecord, Status, Summary
from toolkit.runs import Run

if TYPE_CHECKING:
    from toolkit.store.keeper import Keeper

_STOPPED = "the run was stopped"


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
        If the episodes are none, or two of a list have one id.
    ModelUnavailable
        If the provider's model cannot be had; before any episode starts.
    StoreError
        If what the run does could not be kept; before any episode starts.
    RunInterrupted
        If the generator of episodes or ``on_episode`` raises; the run as far as it came is its ``run``.
    """
    if config is None:
        config = Config() if provider is None else provider.config
    elif provider is not None:
        config = _agreed(config, provider)
    if isinstance(episodes, str | Episode) or not isinstance(episodes, Iterable):
        raise ConfigError("episodes must be a list of Episode objects; read files with load_episodes(...)")
    clock = clock or SystemClock()
    stop = stop or StopEvent()
    known = list(_checked(episodes)) if isinstance(episodes, Sequence) else None
    owned = get_provider(config) if provider is None else nullcontext(provider)
    with Interrupts(stop) as interrupts, owned as used:
        used.prepare()
        keeping = Keeping(used, config, known, clock)
        limiter = used.limiter(clock)
        waits = limiter.standing if limiter else lambda: None
        with Progress(None if known is None else len(known), shown=progress, clock=clock, waits=waits) as bar:
            gate = gate or EpisodeGate(config.summary_batch_size)
            work = _Work(used, config, bar, stop, gate, clock, keeping.keeper)
            work.on_episode = on_episode or (lambda record: None)
            began, began_at = clock.now(), limiter.now() if limiter else clock.epoch()
            source = _until(stop, _checked(episodes) if known is None else known)
            failure = interrupts.work(
                lambda: work.all(source, workers=config.summary_batch_size),
                # A run that stops by itself has time: nobody waits to have the prompt back.
                grace_s=lambda: math.inf if work.fatal else config.stop_grace_s,
            )
            makespan_s = clock.now() - began
            events = limiter.events(since=began_at) if limiter else []
            shares = limiter.quota_shares(since=began_at) if limiter else {}
    finished = Run(
        id=keeping.keeper.run_id,
        config=config,
        provider=used.name,
        model=used.model,
        records=work.records(known),
        makespan_s=makespan_s,
        interrupted=stop.is_set() and work.fatal is None,
        stopped_because=str(work.fatal) if work.fatal else None,
        limit_events=events,
        began_at=began_at,
        quota_shares=shares,
        store=keeping.shown,
    )
    keeping.end(finished, work.unreached())
    if failure is not None:
        reason = f"{failure.source} raised {type(failure.error).__name__}: {failure.error}"
        cancelled = finished.counts().get(Status.CANCELLED, 0)
        done = len(finished.records) - cancelled
        raise RunInterrupted(reason, done, None if known is None else cancelled, finished) from failure.error
    return finished


OF_THE_RUN = frozenset(
    {
        "budget_calls",
        "budget_name",
        "budget_tokens",
        "budget_usd",
        "repeat",
        "reuse",
        "stop_grace_s",
        "store_password",
        "store_text",
        "store_url",
        "store_wait_s",
        "summary_batch_size",
        "summary_chunk_parallelism",
    }
)
"""Settings of the run alone; all others are the provider's, which was made with them."""


def _agreed(config: Config, provider: SummarizationProvider) -> Config:
    """Return the provider's config with the schedule of this one; refuse one that says something else.

    It would have no effect and still stand in the run.
    """
    for name in sorted(config.model_fields_set - OF_THE_RUN):
        if getattr(config, name) != getattr(provider.config, name):
            raise ConfigError(
                f"config has {name}={getattr(config, name)!r}, but the provider that is given was made with "
                f"{getattr(provider.config, name)!r}; make the provider with this config"
            )
    return provider.config.replace(**{name: getattr(config, name) for name in OF_THE_RUN})


class _Failure(NamedTuple):
    """An exception out of code that was given to the run, and from where."""

    source: str
    error: Exception


class _Work:
    """The episodes of one run: what to do with each, and what came of it."""

    def __init__(
        self,
        provider: SummarizationProvider,
        config: Config,
        progress: Progress,
        stop: threading.Event,
        gate: EpisodeGate,
        clock: Clock,
        keeper: Keeper,
    ) -> None:
        self._provider = provider
        self._config = config
        self._progress = progress
        self._stop = stop
        self._gate = gate
        self._clock = clock
        self._keeper = keeper
        self._unreached: list[tuple[int, EpisodeRecord]] = []
        self._given: dict[int, Episode] = {}
        self._records: dict[int, EpisodeRecord] = {}
        self._records_lock = threading.Lock()
        self._failures: list[_Failure] = []
        self._over = False
        self.fatal: ToolkitError | None = None
        self.on_episode: Callable[[EpisodeRecord], None] = lambda record: None

    def all(self, episodes: Iterator[Episode], workers: int) -> _Failure | None:
        """Work on all episodes; return the first exception of the iterator or of ``on_episode``.

        Records are kept here and not taken from joblib, so that none is lost when joblib is ended.
        """
        import joblib

        parallel = joblib.Parallel(
            n_jobs=workers,
            require="sharedmem",
            return_as="generator_unordered",
            # One episode is read ahead for each worker, of a generator that may be long or slow.
            pre_dispatch=2 * workers,
            batch_size=1,
        )
        try:
            for _ in parallel(joblib.delayed(self.one)(*numbered) for numbered in self._numbered(episodes)):
                pass
        except KeyboardInterrupt:
            self._stop.set()
        return self._failures[0] if self._failures else None

    def _numbered(self, episodes: Iterator[Episode]) -> Iterator[tuple[int, Episode]]:
        """Give each episode its number; an exception of theirs ends them quietly and is kept.

        joblib would throw away the work under way if its iterator raised.
        """
        try:
            for number, episode in enumerate(episodes):
                with self._records_lock:
                    self._given[number] = episode
                yield number, episode
        except Exception as error:
            self._failures.append(_Failure("the iterator of episodes", error))

    def one(self, number: int, episode: Episode) -> None:
        """Work on one episode; whatever goes wrong with it stays its own."""
        with self._gate.episode():
            began, started_at = self._clock.now(), self._clock.epoch()
            if self._stop.is_set():
                summary = self._cancelled()
            else:
                try:
                    summary = self._provider.summarize(episode.transcript, self._params(number, episode))
                except Exception as error:
                    summary = Summary("", Status.FAILED, f"{type(error).__name__}: {error}", chunks=0)
                if summary.status is Status.CANCELLED:
                    summary = replace(summary, error=self._why_stopped())
            record = EpisodeRecord(
                episode_id=episode.id,
                title=episode.title or episode.id,
                words=episode.words,
                started_at=started_at,
                total_s=self._clock.now() - began,
                summary=summary,
            )
        with self._records_lock:
            if self._over:  # It was not waited for after a second Ctrl-C, and nobody expects it any more.
                return
            self._records[number] = record
            del self._given[number]
        try:
            self._keeper.keep_episode(number, record)
        except StoreError as broken:
            self._drain(broken)
        self._progress.finished(record)
        try:
            self.on_episode(record)
        except Exception as error:
            self._stop.set()
            self._failures.append(_Failure("on_episode", error))

    def _cancelled(self) -> Summary:
        return Summary("", Status.CANCELLED, self._why_stopped(), chunks=0)

    def _why_stopped(self) -> str:
        return f"{_STOPPED}: {self.fatal}" if self.fatal else _STOPPED

    def _drain(self, error: ToolkitError) -> None:
        """Stop for an error that every further call would meet; the first one is the reason."""
        with self._records_lock:
            self.fatal = self.fatal or error
        self._stop.set()

    def _params(self, number: int, episode: Episode) -> SummarizeParams:
        return SummarizeParams(
            chunk_parallelism=self._config.summary_chunk_parallelism,
            episode_id=episode.id,
            stop=self._stop,
            keeper=self._keeper,
            order=number,
            on_call=self._progress.called,
            on_drain=self._drain,
            on_plan=lambda calls: self._progress.planned(episode.id, calls),
            clock=self._clock,
        )

    def records(self, known: Sequence[Episode] | None) -> list[EpisodeRecord]:
        """Return the records in the episodes' order, with ``cancelled`` ones for those not reached.

        What ends later is neither recorded nor reported.
        """
        with self._records_lock:
            self._over = True
            done = dict(self._records)
            missing = {**dict(enumerate(known or ())), **self._given}
        for number, episode in missing.items():
            if number not in done:
                done[number] = EpisodeRecord(
                    episode_id=episode.id,
                    title=episode.title or episode.id,
                    words=episode.words,
                    started_at=self._clock.epoch(),
                    total_s=0.0,
                    summary=self._cancelled(),
                )
                self._unreached.append((number, done[number]))
        return [done[number] for number in sorted(done)]

    def unreached(self) -> list[tuple[int, EpisodeRecord]]:
        """Return the records that ``records`` made for those not reached, with their numbers."""
        return self._unreached


def _checked(episodes: Iterable[Any]) -> Iterator[Episode]:
    """Yield the episodes; refuse what is none, and an id that came before."""
    seen: set[str] = set()
    for episode in episodes:
        if not isinstance(episode, Episode):
            raise ConfigError(
                f"{type(episode).__name__} is no Episode; "
                "use load_episodes(...) or Episode.from_text(id, text)"
            )
        if episode.id in seen:
            raise ConfigError(f"two episodes have the id {episode.id!r}; ids must differ within a run")
        seen.add(episode.id)
        yield episode


def _until(stop: threading.Event, episodes: Iterable[Episode]) -> Iterator[Episode]:
    for episode in episodes:
        if stop.is_set():
            return
        yield episode
