"""``Work``: the episodes of one run, worked on by crews that joblib drives, and what came of each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from toolkit.clock import Clock
from toolkit.errors import StoreError, ToolkitError
from toolkit.gate import EpisodeGate
from toolkit.progress import Progress
from toolkit.protocols import SummarizeParams
from toolkit.providers.base import SummarizationProvider
from toolkit.records import CallRecord, Episode, EpisodeRecord, Status, Summary

if TYPE_CHECKING:
    from toolkit.store.keeper import Keeper

_STOPPED = "the run was stopped"


class Failure(NamedTuple):
    """An exception out of code that was given to the run, and from where."""

    source: str
    error: BaseException

    def __str__(self) -> str:
        return f"{self.source} raised {type(self.error).__name__}: {self.error}"


class Work:
    """The episodes of one run: what to do with each, and what came of it.

    Parameters
    ----------
    provider : SummarizationProvider
    keeper : Keeper
    progress : Progress
    gate : EpisodeGate
    stop : threading.Event
    clock : Clock
    on_episode : callable
    chunk_parallelism : int

    Attributes
    ----------
    chunk_parallelism : int
        Of episodes that start from now on.
    finished : list of tuple of int and EpisodeRecord
        Numbers and records of the episodes that ended, in the order in which they did.
    calls : list of CallRecord
        Those that ended, likewise; also of episodes that have not.
    fatal : ToolkitError or None
        Why the run stopped by itself.
    over : threading.Event
        Set when nobody works any more.
    """

    def __init__(
        self,
        provider: SummarizationProvider,
        keeper: Keeper,
        progress: Progress,
        gate: EpisodeGate,
        stop: threading.Event,
        clock: Clock,
        on_episode: Callable[[EpisodeRecord], None],
        chunk_parallelism: int,
    ) -> None:
        self._provider = provider
        self._keeper = keeper
        self._progress = progress
        self._gate = gate
        self._stop = stop
        self._clock = clock
        self._on_episode = on_episode
        self.chunk_parallelism = chunk_parallelism
        self.finished: list[tuple[int, EpisodeRecord]] = []
        self.calls: list[CallRecord] = []
        self.fatal: ToolkitError | None = None
        self.over = threading.Event()
        self._source: Iterator[tuple[int, Episode]] = iter(())
        self._source_lock = threading.Lock()
        self._crews: list[threading.Thread] = []
        self._workers = 0
        self._workers_lock = threading.Lock()
        self._given: dict[int, Episode] = {}
        self._records_lock = threading.Lock()
        self._unreached: list[tuple[int, EpisodeRecord]] = []
        self._failures: list[Failure] = []
        self._is_handed_over = False

    # Working

    def do(self, episodes: Iterable[Episode], workers: int) -> None:
        """Work on all episodes, with so many workers or more (`widen`).

        Nothing is raised: what went wrong is the `failure`.
        """
        self._source = enumerate(_until(self._stop, episodes))
        with self._workers_lock:
            more, self._workers = workers - self._workers, max(workers, self._workers)
        try:
            self._crew(more)
            for crew in self._crews:  # It may grow meanwhile.
                crew.join()
        finally:
            self.over.set()

    def widen(self, workers: int) -> None:
        """Have at least so many workers: those that are missing join as a crew of their own.

        The number of workers of a joblib crew cannot change. A crew that is large from the beginning would
        read a generator far ahead.
        """
        with self._workers_lock:
            more, self._workers = workers - self._workers, max(workers, self._workers)
            if more > 0 and not self.over.is_set():
                self._crews.append(
                    threading.Thread(target=self._crew, args=(more,), name="crew", daemon=True)
                )
                self._crews[-1].start()

    def _crew(self, workers: int) -> None:
        """Work on episodes while there are any, so many at a time.

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
            for _ in parallel(joblib.delayed(self._one)(*numbered) for numbered in self._numbered()):
                pass
        except KeyboardInterrupt:
            self._stop.set()
        except BaseException as error:  # of the toolkit itself, or an exit() in somebody's code
            self._fail("the work", error)

    def _numbered(self) -> Iterator[tuple[int, Episode]]:
        """Take episodes from the source that all crews share.

        An exception of theirs ends them quietly and is kept: joblib would throw away the work under way if
        its iterator raised.
        """
        while True:
            with self._source_lock:
                try:
                    number, episode = next(self._source)
                except StopIteration:
                    return
                except Exception as error:
                    self._failures.append(Failure("the iterator of episodes", error))
                    return
                with self._records_lock:
                    self._given[number] = episode
            yield number, episode

    def _one(self, number: int, episode: Episode) -> None:
        """Work on one episode; whatever goes wrong with it stays its own."""
        with self._gate.episode():
            began, started_at = self._clock.now(), self._clock.epoch()
            if self._stop.is_set():
                summary = cancelled(self.fatal)
            else:
                summary = summarize_episode(self._provider, episode.transcript, self._params(number, episode))
                if summary.status is Status.CANCELLED:
                    summary = cancelled(self.fatal, summary)
            record = record_of(episode, summary, started_at=started_at, total_s=self._clock.now() - began)
        self._ended(number, record)

    def _ended(self, number: int, record: EpisodeRecord) -> None:
        """Take in what came of an episode."""
        with self._records_lock:
            if self._is_handed_over:  # Nobody waited for it, and nobody expects it any more.
                return
            self.finished.append((number, record))
            del self._given[number]
        try:
            self._keeper.keep_episode(number, record)
        except StoreError as broken:
            self._drain(broken)
        self._progress.finished(record)
        try:
            self._on_episode(record)
        except Exception as error:
            self._fail("on_episode", error)

    def _params(self, number: int, episode: Episode) -> SummarizeParams:
        return SummarizeParams(
            chunk_parallelism=self.chunk_parallelism,
            episode_id=episode.id,
            stop=self._stop,
            keeper=self._keeper,
            order=number,
            on_call=self._called,
            on_drain=self._drain,
            on_plan=lambda calls: self._progress.planned(episode.id, calls),
            clock=self._clock,
        )

    def _called(self, record: CallRecord) -> None:
        self.calls.append(record)
        self._progress.called(record)

    # Stopping

    def _drain(self, error: ToolkitError) -> None:
        """Stop for an error that every further call would meet; the first one is the reason."""
        with self._records_lock:
            self.fatal = self.fatal or error
        self._stop.set()

    def _fail(self, source: str, error: BaseException) -> None:
        """Stop for an error that is not of the work itself."""
        self._failures.append(Failure(source, error))
        self._stop.set()

    # Handing over

    @property
    def failure(self) -> Failure | None:
        """The first exception of the iterator, of ``on_episode`` or of what drives the work."""
        return self._failures[0] if self._failures else None

    def records(self, known: Sequence[Episode] | None) -> list[EpisodeRecord]:
        """Return the records in the episodes' order, with ``cancelled`` ones for those not reached.

        What ends later is neither recorded nor reported.
        """
        with self._records_lock:
            self._is_handed_over = True
            done = dict(self.finished)
            missing = {**dict(enumerate(known or ())), **self._given}
        for number, episode in missing.items():
            if number not in done:
                done[number] = record_of(episode, cancelled(self.fatal), started_at=self._clock.epoch())
                self._unreached.append((number, done[number]))
        return [done[number] for number in sorted(done)]

    def unreached(self) -> list[tuple[int, EpisodeRecord]]:
        """Return the records that ``records`` made for those not reached, with their numbers."""
        return self._unreached


class Named(Protocol):
    """What of an episode its record says."""

    @property
    def id(self) -> str:
        """Unique within the run."""
        ...

    @property
    def title(self) -> str:
        """Empty: its id."""
        ...

    @property
    def words(self) -> int:
        """Number of words spoken."""
        ...


def summarize_episode(provider: SummarizationProvider, text: str, params: SummarizeParams) -> Summary:
    """Summarize a text; whatever goes wrong with it stays its own."""
    try:
        return provider.summarize(text, params)
    except Exception as error:
        return Summary("", Status.FAILED, f"{type(error).__name__}: {error}", chunks=0)


def cancelled(fatal: ToolkitError | None, summary: Summary | None = None) -> Summary:
    """Return the summary of an episode that was stopped, with what there is of it."""
    why = f"{_STOPPED}: {fatal}" if fatal else _STOPPED
    return replace(summary, error=why) if summary else Summary("", Status.CANCELLED, why, chunks=0)


def record_of(
    episode: Named, summary: Summary, *, started_at: float, total_s: float = 0.0, worker: str = ""
) -> EpisodeRecord:
    """Return the record of an episode."""
    return EpisodeRecord(
        episode_id=episode.id,
        title=episode.title or episode.id,
        words=episode.words,
        started_at=started_at,
        total_s=total_s,
        summary=summary,
        worker=worker,
    )


def _until(stop: threading.Event, episodes: Iterable[Episode]) -> Iterator[Episode]:
    for episode in episodes:
        if stop.is_set():
            return
        yield episode
