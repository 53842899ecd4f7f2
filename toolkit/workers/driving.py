"""``DistributedWork``: the episodes of one run, worked on by processes that joblib drives."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from sys import intern
from typing import TYPE_CHECKING, NamedTuple

from toolkit.backends import Backend, LostTask, Task
from toolkit.clock import Clock
from toolkit.errors import ToolkitError
from toolkit.gate import EpisodeGate
from toolkit.limits import LimitEvent
from toolkit.progress import Progress
from toolkit.providers.base import SummarizationProvider
from toolkit.records import Episode, EpisodeRecord, Status, Summary, WorkerRecord
from toolkit.work import Work, cancelled, record_of
from toolkit.workers.travel import Assignment, Report, RunSpec
from toolkit.workers.worker import work_on

if TYPE_CHECKING:
    from toolkit.store.keeper import Keeper

LOST_IN_A_ROW = 3
"""Episodes that may be lost, each alone, while none ends, before the backend is taken to be the reason."""

Numbered = tuple[int, Episode]


class Lost(NamedTuple):
    """Episodes whose workers were lost, and why the last one was; and how many others came to an end."""

    episodes: Sequence[Numbered]
    error: BaseException
    reports: int

    def __bool__(self) -> bool:
        return bool(self.episodes)


class DistributedWork(Work):
    """The episodes of one run, and the processes that work on them.

    A worker that is lost is no failure of its episodes: they are given out again, and whoever takes one up
    goes on from the last call that is in the store.

    Parameters
    ----------
    backend : Backend
    spec : RunSpec
    others
        As `Work` has them.

    Attributes
    ----------
    events : dict
        What the limiters of the workers did and told with their reports, by worker.
    workers : dict
        The workers as of their last reports, by name.
    """

    def __init__(
        self,
        backend: Backend,
        spec: RunSpec,
        provider: SummarizationProvider,
        keeper: Keeper,
        progress: Progress,
        gate: EpisodeGate,
        stop: threading.Event,
        clock: Clock,
        on_episode: Callable[[EpisodeRecord], None],
    ) -> None:
        super().__init__(
            provider,
            keeper,
            progress,
            gate,
            stop,
            clock,
            on_episode,
            spec.config.summary_chunk_parallelism,
        )
        self._backend = backend
        self._spec = spec
        self.events: dict[str, list[LimitEvent]] = {}
        self.workers: dict[str, WorkerRecord] = {}

    def _crew(self, workers: int) -> None:
        """Give episodes out, and again those whose workers are lost: once with others, then by halves.

        So one that takes its worker with it, by its memory say, is told from those that were beside it.
        """
        losses: Counter[int] = Counter()
        again: deque[Numbered] = deque()
        suspects: list[list[Numbered]] = []
        in_a_row = 0
        try:
            while not self._stop.is_set():
                group = suspects.pop() if suspects and not again else None
                given = self._next(again) if group is None else iter(group)
                lost = self._give_out(given, workers)
                if not lost and group is None and not suspects:
                    return
                in_a_row = 0 if lost.reports else in_a_row + bool(lost and group and len(group) == 1)
                if in_a_row == LOST_IN_A_ROW:
                    self._fail(f"joblib's backend {self._backend.name!r}", lost.error)
                    return
                if group is not None and len(group) == 1:
                    for number, episode in lost.episodes:
                        self._give_up(number, episode, lost.error)
                    continue
                twice: list[Numbered] = []
                for number, episode in lost.episodes:
                    losses[number] += 1
                    (again if losses[number] == 1 else twice).append((number, episode))
                half = (len(twice) + 1) // 2
                suspects += [part for part in (twice[:half], twice[half:]) if part]
        except KeyboardInterrupt:
            self._stop.set()
        except BaseException as error:  # of the toolkit itself, or an exit() in somebody's code
            self._fail("the work", error)

    def _next(self, again: deque[Numbered]) -> Iterator[Numbered]:
        while again and not self._stop.is_set():
            yield again.popleft()
        yield from self._numbered()

    def _give_out(self, given: Iterator[Numbered], workers: int) -> Lost:
        """Have episodes worked on; return those whose workers were lost, and the last reason."""
        under_way: dict[int, Episode] = {}
        lost: list[Numbered] = []
        reports = 0
        reason: BaseException = ToolkitError("the worker took this process for lost")

        def tasks() -> Iterator[Task]:
            for number, episode in given:
                under_way[number] = episode
                title = episode.title or episode.id
                told = Assignment(number, episode.id, title, episode.words, episode.transcript)
                yield work_on, self._spec, told

        try:
            for report in self._backend.run(tasks(), workers):
                if isinstance(report, LostTask):
                    reason = report.error
                    lost.append((report.number, under_way.pop(report.number)))
                elif self._is_lost(report):
                    lost.append((report.number, under_way.pop(report.number)))
                else:
                    del under_way[report.number]
                    reports += 1
                    self._received(report)
        except Exception as error:  # Of joblib, of a scheduler, of a pool that has lost a process.
            reason = error
            lost += sorted(under_way.items())
        return Lost(lost, reason, reports)

    def _is_lost(self, report: Report) -> bool:
        """Whether a worker has stopped by itself, since it took this process for lost."""
        is_cancelled = report.record.summary.status is Status.CANCELLED
        return is_cancelled and report.fatal is None and not self._stop.is_set()

    def _received(self, report: Report) -> None:
        record = _with_shared_names(report.record)
        self.events.setdefault(record.worker, []).extend(report.events)
        if (worker := report.worker) is not None:
            known = self.workers.get(worker.worker, worker)
            self.workers[worker.worker] = max(known, worker, key=lambda record: record.seen_at)
        for call in record.summary.calls:
            self._called(call)
        if report.fatal is not None:
            self._drain(report.fatal)
        if record.summary.status is Status.CANCELLED:
            record = replace(record, summary=cancelled(self.fatal, record.summary))
        self._ended(report.number, record)

    def _give_up(self, number: int, episode: Episode, error: BaseException) -> None:
        told = str(error).partition("\n")[0].partition(". ")[0]
        why = (
            "its worker was lost each time, at last with nothing else on it "
            f"({type(error).__name__}: {told}); it may need more memory than a worker has"
        )
        summary = Summary("", Status.FAILED, why, chunks=0)
        self._ended(number, record_of(episode, summary, started_at=self._clock.epoch()))


def _with_shared_names(record: EpisodeRecord) -> EpisodeRecord:
    """Return a record whose names, equal in all of them, take memory once: each came with its own."""
    calls = tuple(
        replace(call, provider=intern(call.provider), model=intern(call.model), worker=intern(call.worker))
        for call in record.summary.calls
    )
    return replace(record, worker=intern(record.worker), summary=replace(record.summary, calls=calls))
