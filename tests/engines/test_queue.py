"""Merging requests into batches: who runs with whom, who hears what, and that nobody waits for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.clock import ManualClock
from toolkit.engines.queue import BatchQueue, Generated, Job, OutOfMemory, RunBatch, choose_batch
from toolkit.records import StopReason

PATIENCE_S = 60
"""A hang fails the test after so long; nothing waits for it to pass."""


def job(length: int = 4, cap: int = 8, name: int = 0) -> Job:
    """Make a job whose first token is its name."""
    return Job([name] + [0] * (length - 1), cap)


def echo(jobs: Sequence[Job]) -> list[Generated]:
    return [Generated(f"reply to {job.input_ids[0]}", 3, StopReason.STOP) for job in jobs]


class GatedModel:
    """Answers batches, each once it is let through; keeps what it was given."""

    def __init__(self, answer: RunBatch = echo) -> None:
        self.batches: list[list[Job]] = []
        self.arrived = threading.Semaphore(0)
        self.open = threading.Semaphore(0)
        self._answer = answer

    def __call__(self, jobs: Sequence[Job]) -> Sequence[Generated]:
        self.batches.append(list(jobs))
        self.arrived.release()
        assert self.open.acquire(timeout=PATIENCE_S)
        return self._answer(jobs)

    def wait_for_batch(self) -> None:
        assert self.arrived.acquire(timeout=PATIENCE_S)

    def names(self) -> list[set[int]]:
        return [{job.input_ids[0] for job in batch} for batch in self.batches]


MakeQueue = Callable[..., BatchQueue]


@pytest.fixture
def make_queue() -> Iterator[MakeQueue]:
    """Make queues that are closed at the test's end."""
    queues: list[BatchQueue] = []

    def make(model: RunBatch, batch_tokens: int = 10_000) -> BatchQueue:
        queues.append(BatchQueue(model, batch_tokens=batch_tokens, clock=ManualClock(), linger_s=0))
        return queues[-1]

    yield make
    for queue in queues:
        queue.close()


JOBS = st.lists(st.builds(job, st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=12)


def padded(batch: Sequence[Job]) -> int:
    return len(batch) * (max(len(job.input_ids) for job in batch) + max(job.max_new_tokens for job in batch))


@given(JOBS, st.integers(1, 600))
def test_batch_holds_the_oldest_and_keeps_its_bound(pending: list[Job], bound: int) -> None:
    """A batch without the oldest would starve it; one over the bound would run out of memory."""
    batch = choose_batch(pending, bound)
    assert pending[0] in batch
    assert len(batch) == 1 or padded(batch) <= bound


@given(JOBS, st.integers(1, 600))
def test_no_job_is_lost_or_doubled(pending: list[Job], bound: int) -> None:
    """Batch after batch, each job is taken exactly once: a lost one would hang its caller."""
    waiting, taken = list(pending), []
    while waiting:
        batch = choose_batch(waiting, bound)
        taken += batch
        waiting = [job for job in waiting if job not in batch]
    assert len(taken) == len(pending)
    assert {id(job) for job in taken} == {id(job) for job in pending}


@given(JOBS, st.integers(1, 600))
def test_neighbours_in_length_go_first(pending: list[Job], bound: int) -> None:
    """Nobody is passed over for a job whose length is farther from the oldest's: padding is wasted work."""
    batch = choose_batch(pending, bound)

    def distance(job: Job) -> int:
        return abs(len(job.input_ids) - len(pending[0].input_ids))

    left = [job for job in pending if job not in batch]
    assert not left or max(map(distance, batch)) <= min(map(distance, left))


@given(JOBS, st.integers(1, 600))
def test_batch_stops_only_at_its_bound(pending: list[Job], bound: int) -> None:
    """The nearest job that is left would not have fitted: a batch is never smaller than it has to be."""
    batch = choose_batch(pending, bound)
    left = [job for job in pending if job not in batch]
    if left:
        nearest = min(left, key=lambda job: abs(len(job.input_ids) - len(pending[0].input_ids)))
        assert padded([*batch, nearest]) > bound


@given(st.integers(0, 8), st.integers(1, 6), st.integers(30, 200))
def test_stream_of_short_jobs_never_starves_a_long_one(before: int, arriving: int, bound: int) -> None:
    """A long job waits for no more batches than jobs came before it, however many short ones follow."""
    long = job(500)
    waiting = [job(3) for _ in range(before)] + [long]
    batches = 0
    while long in waiting:
        waiting += [job(3) for _ in range(arriving)]
        batch = choose_batch(waiting, bound)
        waiting = [other for other in waiting if other not in batch]
        batches += 1
    assert batches <= before + 1


def test_oldest_job_runs_in_the_very_next_batch(make_queue: MakeQueue) -> None:
    """A long job that waits behind a running batch is not overtaken by short ones that came later."""
    model = GatedModel()
    queue = make_queue(model, batch_tokens=100)
    futures = [queue.submit(job(name=0))]
    model.wait_for_batch()
    futures += [queue.submit(job(400, name=1))] + [queue.submit(job(name=n)) for n in range(2, 9)]
    model.open.release(9)
    for future in futures:
        future.result(PATIENCE_S)
    assert model.names()[:2] == [{0}, {1}]


def test_each_caller_gets_its_own_reply(make_queue: MakeQueue) -> None:
    """Many threads ask at once; a mixed-up batch would hand one's reply to another."""
    queue = make_queue(echo, batch_tokens=60)

    def ask(name: int) -> str:
        return queue.submit(job(1 + name % 7, name=name)).result(PATIENCE_S).generated.text

    with ThreadPoolExecutor(16) as pool:
        texts = list(pool.map(ask, range(300)))
    assert texts == [f"reply to {name}" for name in range(300)]


def test_waiting_jobs_merge_into_one_batch(make_queue: MakeQueue) -> None:
    """What arrives while the model works runs together next, and each reply says so."""
    model = GatedModel()
    queue = make_queue(model)
    first = queue.submit(job(name=0))
    model.wait_for_batch()
    rest = [queue.submit(job(name=name)) for name in range(1, 6)]
    model.open.release(2)
    assert first.result(PATIENCE_S).batch_size == 1
    assert [future.result(PATIENCE_S).batch_size for future in rest] == [5] * 5
    assert model.names() == [{0}, {1, 2, 3, 4, 5}]


def test_time_of_a_batch_is_its_own() -> None:
    """A reply's times span its batch only: waiting for another batch is not service."""
    clock = ManualClock()
    busy = threading.Event()
    arrived = threading.Event()

    def model(jobs: Sequence[Job]) -> list[Generated]:
        arrived.set()
        assert busy.wait(PATIENCE_S)
        clock.advance(2.0)
        return echo(jobs)

    queue = BatchQueue(model, batch_tokens=1, clock=clock, linger_s=0)
    first = queue.submit(job())
    assert arrived.wait(PATIENCE_S)
    second = queue.submit(job())
    busy.set()
    served = [future.result(PATIENCE_S) for future in (first, second)]
    assert [(reply.started, reply.ended) for reply in served] == [(0.0, 2.0), (2.0, 4.0)]
    queue.close()


def test_cancelled_jobs_never_run(make_queue: MakeQueue) -> None:
    """A job cancelled while it waits, by its event or its future, takes no room in a batch."""
    model = GatedModel()
    queue = make_queue(model)
    first = queue.submit(job(name=0))
    model.wait_for_batch()
    unwanted, wanted = job(name=1), job(name=2)
    by_event, kept = queue.submit(unwanted), queue.submit(wanted)
    by_future = queue.submit(job(name=3))
    unwanted.cancelled.set()
    assert by_future.cancel()
    model.open.release(2)
    first.result(PATIENCE_S)
    assert kept.result(PATIENCE_S).batch_size == 1
    with pytest.raises(CancelledError):
        by_event.result(PATIENCE_S)
    assert model.names() == [{0}, {2}]


def test_job_cancelled_in_its_batch_ends_cancelled(make_queue: MakeQueue) -> None:
    """A reply that was cut short is not passed off as one; its company in the batch keeps theirs."""
    model = GatedModel()
    queue = make_queue(model)
    blocker = queue.submit(job(name=0))
    model.wait_for_batch()
    unwanted, wanted = job(name=1), job(name=2)
    cut, kept = queue.submit(unwanted), queue.submit(wanted)
    model.open.release()
    blocker.result(PATIENCE_S)
    model.wait_for_batch()
    unwanted.cancelled.set()
    model.open.release()
    with pytest.raises(CancelledError):
        cut.result(PATIENCE_S)
    assert kept.result(PATIENCE_S).generated.text == "reply to 2"


def hungry(room: int) -> RunBatch:
    """Make a model whose memory holds ``room`` tokens of prompts."""

    def run(jobs: Sequence[Job]) -> list[Generated]:
        if sum(len(job.input_ids) for job in jobs) > room:
            raise OutOfMemory("full")
        return echo(jobs)

    return run


def test_batch_that_does_not_fit_is_halved(make_queue: MakeQueue) -> None:
    """Out of memory, the jobs run in smaller batches; only one that does not fit alone fails."""
    model = GatedModel(hungry(10))
    model.open.release(100)
    gate = GatedModel()

    def run(jobs: Sequence[Job]) -> Sequence[Generated]:
        return gate(jobs) if jobs[0].input_ids[0] == 99 else model(jobs)

    queue = make_queue(run)
    blocker = queue.submit(job(name=99))
    gate.wait_for_batch()
    futures = [queue.submit(job(4, name=name)) for name in range(5)]
    huge = queue.submit(job(11, name=5))
    gate.open.release()
    blocker.result(PATIENCE_S)
    replies = [future.result(PATIENCE_S) for future in futures]
    assert [reply.generated.text for reply in replies] == [f"reply to {name}" for name in range(5)]
    assert all(reply.batch_size <= 2 for reply in replies)
    assert isinstance(huge.exception(PATIENCE_S), OutOfMemory)
    assert len(model.batches[0]) == 6


def test_error_reaches_all_and_the_queue_lives_on(make_queue: MakeQueue) -> None:
    """A batch's exception ends each of its callers' waits, and the next batch is answered."""
    faults = [ValueError("broken"), None]

    def answer(jobs: Sequence[Job]) -> list[Generated]:
        fault = faults.pop(0) if len(jobs) > 1 else None
        if fault:
            raise fault
        return echo(jobs)

    model = GatedModel(answer)
    queue = make_queue(model)
    blocker = queue.submit(job(name=0))
    model.wait_for_batch()
    futures = [queue.submit(job(name=name)) for name in (1, 2, 3)]
    model.open.release(3)
    blocker.result(PATIENCE_S)
    assert [str(future.exception(PATIENCE_S)) for future in futures] == ["broken"] * 3
    assert queue.submit(job(name=4)).result(PATIENCE_S).generated.text == "reply to 4"


def test_missing_reply_is_an_error_for_all(make_queue: MakeQueue) -> None:
    """A model that answers fewer jobs than it was given must not leave the others' callers hanging."""
    queue = make_queue(lambda jobs: [])
    assert isinstance(queue.submit(job()).exception(PATIENCE_S), ValueError)
    assert isinstance(queue.submit(job()).exception(PATIENCE_S), ValueError)


def test_close_cancels_what_waits_and_refuses_what_comes() -> None:
    """After close() the running batch is answered, nothing else is, and nobody is left waiting."""
    model = GatedModel()
    queue = BatchQueue(model, batch_tokens=1, clock=ManualClock(), linger_s=0)
    running = queue.submit(job(name=0))
    model.wait_for_batch()
    waiting = [queue.submit(job(name=1))]
    closer = threading.Thread(target=queue.close)
    closer.start()
    # close() has taken hold as soon as a job is refused.

    def fill() -> None:
        while len(waiting) < 10_000_000:
            waiting.append(queue.submit(job(name=1)))

    with pytest.raises(RuntimeError, match="closed"):
        fill()
    model.open.release()
    closer.join(PATIENCE_S)
    assert not closer.is_alive()
    assert running.result(PATIENCE_S).generated.text == "reply to 0"
    assert all(future.cancelled() for future in waiting)
    assert model.names() == [{0}]


def test_an_idle_model_waits_for_announced_jobs() -> None:
    """A job that is announced before another is submitted shares its batch, however late it comes."""
    sizes: list[int] = []

    def run_batch(jobs: Sequence[Job]) -> list[Generated]:
        sizes.append(len(jobs))
        return [Generated("done", 1, StopReason.STOP) for _ in jobs]

    queue = BatchQueue(run_batch, batch_tokens=1000, clock=ManualClock(), linger_s=0.0)
    try:
        with queue.arriving():
            first = queue.submit(Job([1], 1))
            assert not first.done()
            second = queue.submit(Job([1], 1))
        assert first.result(60).batch_size == second.result(60).batch_size == 2
    finally:
        queue.close()
    assert sizes == [2]
