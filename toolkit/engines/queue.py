"""One queue in front of a model: whoever asks, and from whichever episode, shares its time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from toolkit.clock import Clock
from toolkit.engines.admission import fair_order
from toolkit.engines.jobs import Generated, Job, OutOfMemory, Served

LINGER_S = 0.005
"""How long an idle model waits for company after the last arrival: far below the time of a batch (a second
and more for the smallest models on a laptop), far above the time in which one episode's threads submit."""

ARRIVAL_S = 0.5
"""How long an idle model waits, at most, for jobs that are announced: half of a short batch."""


class Step(NamedTuple):
    """What a moment of work brought: jobs whose first token is there, and those that are done."""

    first: Sequence[Job]
    ended: Sequence[tuple[Job, Generated]]


class Backend(Protocol):
    """What works on jobs; all of it is called from one thread of the queue's."""

    name: str
    """How it works, in a word: replies of another may differ."""

    def choose(self, waiting: Sequence[Job]) -> list[Job]:
        """Choose those that are taken up now, beside those at work; at least one where none is."""
        ...

    def admit(self, jobs: Sequence[Job]) -> None:
        """Take jobs up."""
        ...

    def step(self) -> Step:
        """Work on the jobs for a moment; a cancelled one may be ended at once.

        Raises
        ------
        OutOfMemory
            If they do not fit all together.
        """
        ...

    def reset(self) -> None:
        """Forget all jobs, after an error."""
        ...


@dataclass(slots=True)
class _AtWork:
    """A job that the model works on."""

    future: Future[Served]
    started: float
    shared_before: float
    """Seconds of work times jobs at work, up to when it started."""
    first_token: float | None = None


class EngineQueue:
    """Feeds a model from many threads.

    Parameters
    ----------
    backend : Backend
    clock : Clock
    linger_s : float
        See ``LINGER_S``.
    """

    def __init__(self, backend: Backend, *, clock: Clock, linger_s: float = LINGER_S) -> None:
        self._backend = backend
        self._clock = clock
        self._linger_s = linger_s
        self._waiting: dict[Job, Future[Served]] = {}
        self._at_work: dict[Job, _AtWork] = {}
        self._most_jobs: int | None = None
        self._shared = 0.0
        self._shared_until = 0.0
        self._arriving = 0
        self._closed = False
        self._died: BaseException | None = None
        self._changed = threading.Condition()
        self._worker = threading.Thread(target=self._serve, name="model", daemon=True)
        self._worker.start()

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """Announce a job that is being made ready; an idle model waits for it, up to ``ARRIVAL_S``.

        Reading prompts takes longer than ``LINGER_S`` when many threads do it at once, and a first batch of
        one would hold up all the others.
        """
        with self._changed:
            self._arriving += 1
        try:
            yield
        finally:
            with self._changed:
                self._arriving -= 1
                self._changed.notify()

    @property
    def died(self) -> BaseException | None:
        """What the queue itself failed with; nothing is answered after that."""
        return self._died

    def submit(self, job: Job) -> Future[Served]:
        """Queue a job; the future ends in its reply, in the model's exception, or cancelled."""
        future: Future[Served] = Future()
        with self._changed:
            if self._closed:
                raise RuntimeError("the model was closed") from self._died
            self._waiting[job] = future
            self._changed.notify()
        return future

    def close(self) -> None:
        """Cancel what waits, let what is at work end, and stop."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._worker.join()
        self._backend.reset()  # The model may be held elsewhere; what it worked with is not wanted any more.

    def _serve(self) -> None:
        try:
            while self._take():
                if self._at_work:
                    self._work()
        except BaseException as error:  # Not the model's but the queue's own: nobody may wait for ever.
            with self._changed:
                self._closed, self._died = True, error
                left = [*self._waiting.values(), *(at_work.future for at_work in self._at_work.values())]
                self._waiting.clear()
                self._at_work.clear()
            for future in left:
                if not future.done():
                    future.set_exception(error)

    def _take(self) -> bool:
        """Take up jobs, waiting for some where none is at work; False once the queue is closed and done."""
        with self._changed:
            if not self._at_work:
                self._gather()
            for job, future in list(self._waiting.items()):
                if self._closed or job.cancelled.is_set() or future.cancelled():
                    _cancel(self._waiting.pop(job))
            chosen = self._choose()
            futures = {job: self._waiting.pop(job) for job in chosen}
            closed = self._closed
        now = self._share_time()
        # A job that is tried once more is running already.
        admitted = [
            job
            for job, future in futures.items()
            if future.running() or future.set_running_or_notify_cancel()
        ]
        for job in admitted:
            self._at_work[job] = _AtWork(futures[job], now, self._shared)
        if admitted:
            self._guarded(lambda: self._backend.admit(admitted))
        return bool(self._at_work) or not closed

    def _choose(self) -> list[Job]:
        if not self._waiting:
            return []
        chosen = self._backend.choose(fair_order(list(self._waiting), self._at_work))
        if self._most_jobs is None:
            return chosen
        return chosen[: max(0, self._most_jobs - len(self._at_work))]

    def _gather(self) -> None:
        """Wait for a job, and then for a moment for others."""
        while not self._waiting and not self._closed:
            self._most_jobs = None
            self._changed.wait()
        self._changed.wait_for(lambda: not self._arriving or self._closed, ARRIVAL_S)
        arrived, until = 0, time.monotonic() + ARRIVAL_S
        while arrived < len(self._waiting) and not self._closed and time.monotonic() < until:
            arrived = len(self._waiting)
            self._changed.wait(self._linger_s)

    def _work(self) -> None:
        steps: list[Step] = []
        self._guarded(lambda: steps.append(self._backend.step()))
        now, together = self._share_time(), len(self._at_work)
        for first, ended in steps:
            for job in first:
                self._at_work[job].first_token = now
            for job, generated in ended:
                self._end(job, generated, now, together)

    def _share_time(self) -> float:
        """Count the time since the last call as shared by all at work; return the time now."""
        now = self._clock.now()
        self._shared += len(self._at_work) * (now - self._shared_until)
        self._shared_until = now
        return now

    def _end(self, job: Job, generated: Generated, now: float, together: float) -> None:
        done = self._at_work.pop(job)
        if job.cancelled.is_set():
            done.future.set_exception(CancelledError())
            return
        seconds = now - done.started
        if seconds > 0:
            together = (self._shared - done.shared_before) / seconds
        served = Served(generated, done.started, done.first_token, now, max(1, round(together)))
        done.future.set_result(served)

    def _guarded(self, work: Callable[[], None]) -> None:
        """Let the backend work; if it fails tell those who wait, if they do not fit try with half of them."""
        try:
            work()
            return
        except OutOfMemory as error:
            if len(self._at_work) == 1:
                self._fail(error)
                return
        except BaseException as error:  # Whatever it is, those who wait must hear of it.
            self._fail(error)
            return
        # Out of the handler, so that nothing of what failed is held while half of it is tried.
        self._most_jobs = (len(self._at_work) + 1) // 2
        with self._changed:
            self._waiting = {job: held.future for job, held in self._at_work.items()} | self._waiting
        self._at_work.clear()
        self._backend.reset()

    def _fail(self, error: BaseException) -> None:
        failed = list(self._at_work.values())
        self._at_work.clear()
        self._backend.reset()
        for at_work in failed:
            at_work.future.set_exception(error)


def _cancel(future: Future[Served]) -> None:
    if not future.cancel():
        future.set_exception(CancelledError())
