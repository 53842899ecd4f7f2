"""Merging requests into batches: whoever asks, and from whichever episode, shares the model's time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from dataclasses import dataclass, field

from toolkit.clock import Clock
from toolkit.records import Sampling, StopReason


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One prompt for a local model.

    Attributes
    ----------
    input_ids : sequence of int
        The prompt in the model's own tokens.
    max_new_tokens : int
        Cap on the reply.
    sampling : Sampling
    stop : tuple of str
        The reply ends before the first of these.
    cancelled : threading.Event
        Once it is set the reply is not wanted any more.
    """

    input_ids: Sequence[int]
    max_new_tokens: int
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()
    cancelled: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class Generated:
    """What a model made of a job; ``tokens`` counts the end token too."""

    text: str
    tokens: int
    stop_reason: StopReason


@dataclass(frozen=True, slots=True)
class Served:
    """A reply and when the model worked on it, in seconds of the queue's clock."""

    generated: Generated
    started: float
    ended: float
    batch_size: int


class OutOfMemory(Exception):
    """A batch did not fit into memory; the queue halves it."""


RunBatch = Callable[[Sequence[Job]], Sequence[Generated]]

LINGER_S = 0.005
"""How long an idle model waits for company after the last arrival: far below the time of a batch (a second
and more for the smallest models on a laptop), far above the time in which one episode's threads submit."""

ARRIVAL_S = 0.5
"""How long an idle model waits, at most, for jobs that are announced: half of a short batch."""


def choose_batch(pending: Sequence[Job], batch_tokens: int) -> list[Job]:
    """Choose the jobs that run together.

    The oldest is always taken, so that none waits for ever. It is joined by those nearest to it in length,
    because a batch is padded to its longest, as long as

        jobs x (longest prompt + largest cap) <= ``batch_tokens``.

    Parameters
    ----------
    pending : sequence of Job
        In order of arrival; not empty.
    batch_tokens : int
        Bound on the padded batch; a single job may be larger.
    """
    oldest, *others = pending
    batch = [oldest]
    prompt, cap = len(oldest.input_ids), oldest.max_new_tokens
    for job in sorted(others, key=lambda job: abs(len(job.input_ids) - len(oldest.input_ids))):
        longer, larger = max(prompt, len(job.input_ids)), max(cap, job.max_new_tokens)
        if (len(batch) + 1) * (longer + larger) > batch_tokens:
            break
        batch.append(job)
        prompt, cap = longer, larger
    return sorted(batch, key=lambda job: len(job.input_ids), reverse=True)


class BatchQueue:
    """Feeds a model from many threads, a batch at a time.

    Parameters
    ----------
    run_batch : callable
        Answers a list of jobs; called from one thread of the queue's own.
    batch_tokens : int
        See ``choose_batch``.
    clock : Clock
    linger_s : float
        See ``LINGER_S``.
    """

    def __init__(
        self, run_batch: RunBatch, *, batch_tokens: int, clock: Clock, linger_s: float = LINGER_S
    ) -> None:
        self._run_batch = run_batch
        self._batch_tokens = batch_tokens
        self._clock = clock
        self._linger_s = linger_s
        self._pending: dict[Job, Future[Served]] = {}
        self._arriving = 0
        self._closed = False
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

    def submit(self, job: Job) -> Future[Served]:
        """Queue a job; the future ends in its reply, in the model's exception, or cancelled."""
        future: Future[Served] = Future()
        with self._changed:
            if self._closed:
                raise RuntimeError("the model was closed")
            self._pending[job] = future
            self._changed.notify()
        return future

    def close(self) -> None:
        """Cancel what waits, let the running batch end, and stop."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._worker.join()

    def _serve(self) -> None:
        while (taken := self._take()) is not None:
            live = {}
            for job, future in taken.items():
                if job.cancelled.is_set():
                    future.cancel()
                elif future.set_running_or_notify_cancel():
                    live[job] = future
            if live:
                self._run(live)

    def _take(self) -> dict[Job, Future[Served]] | None:
        """Wait for jobs and take a batch; None once the queue is closed."""
        with self._changed:
            while not self._pending and not self._closed:
                self._changed.wait()
            self._changed.wait_for(lambda: not self._arriving or self._closed, ARRIVAL_S)
            arrived, until = 0, time.monotonic() + ARRIVAL_S
            while arrived < len(self._pending) and not self._closed and time.monotonic() < until:
                arrived = len(self._pending)
                self._changed.wait(self._linger_s)
            if self._closed:
                for future in self._pending.values():
                    future.cancel()
                self._pending.clear()
                return None
            batch = choose_batch(list(self._pending), self._batch_tokens)
            return {job: self._pending.pop(job) for job in batch}

    def _run(self, batch: dict[Job, Future[Served]]) -> None:
        jobs = list(batch)
        started = self._clock.now()
        try:
            served = list(zip(batch.items(), self._run_batch(jobs), strict=True))
        except OutOfMemory as error:
            if len(jobs) == 1:
                batch[jobs[0]].set_exception(error)
                return
        except BaseException as error:  # Whatever it is, those who wait must hear of it.
            for future in batch.values():
                future.set_exception(error)
            return
        else:
            ended = self._clock.now()
            for (job, future), generated in served:
                if job.cancelled.is_set():
                    future.set_exception(CancelledError())
                else:
                    future.set_result(Served(generated, started, ended, len(jobs)))
            return
        # Out of the handler, so that nothing of the failed batch is held while its halves run.
        middle = (len(jobs) + 1) // 2
        for part in (jobs[:middle], jobs[middle:]):
            self._run({job: batch[job] for job in part})
