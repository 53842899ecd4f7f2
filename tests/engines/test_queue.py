"""Merging requests into batches: who runs with whom, who hears what, and that nobody waits for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.clock import ManualClock
from toolkit.engines.admission import choose_batch, choose_joining, fair_order
from toolkit.engines.jobs import Generated, Job, OutOfMemory
from toolkit.engines.queue import EngineQueue, Step
from toolkit.records import StopReason

PATIENCE_S = 60
"""A hang fails the test after so long; nothing waits for it to pass."""


def job(length: int = 4, cap: int = 8, name: int = 0) -> Job:
    """Make a job whose first token is its name."""
    return Job([name] + [0] * (length - 1), cap)


RunBatch = Callable[[Sequence[Job]], Sequence[Generated]]


class WholeBatches:
    """A backend that runs each batch to its end in one step."""

    name = "whole"

    def __init__(self, run: RunBatch, batch_tokens: int) -> None:
        self._run = run
        self._batch_tokens = batch_tokens
        self._jobs: list[Job] = []

    def choose(self, waiting: Sequence[Job]) -> list[Job]:
        return [] if self._jobs else choose_batch(waiting, self._batch_tokens)

    def admit(self, jobs: Sequence[Job]) -> None:
        self._jobs = list(jobs)

    def step(self) -> Step:
        ended = list(zip(self._jobs, self._run(self._jobs), strict=True))
        self._jobs = []
        return Step([], ended)

    def reset(self) -> None:
        self._jobs = []


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


MakeQueue = Callable[..., EngineQueue]


@pytest.fixture
def make_queue() -> Iterator[MakeQueue]:
    """Make queues that are closed at the test's end."""
    queues: list[EngineQueue] = []

    def make(model: RunBatch, batch_tokens: int = 10_000) -> EngineQueue:
        queues.append(EngineQueue(WholeBatches(model, batch_tokens), clock=ManualClock(), linger_s=0))
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

    queue = EngineQueue(WholeBatches(model, 1), clock=clock, linger_s=0)
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
    queue = EngineQueue(WholeBatches(model, 1), clock=ManualClock(), linger_s=0)
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

    queue = EngineQueue(WholeBatches(run_batch, 1000), clock=ManualClock(), linger_s=0.0)
    try:
        with queue.arriving():
            first = queue.submit(Job([1], 1))
            assert not first.done()
            second = queue.submit(Job([1], 1))
        assert first.result(60).batch_size == second.result(60).batch_size == 2
    finally:
        queue.close()
    assert sizes == [2]


# Jobs that join and leave between steps.


class Steps:
    """A backend in which a job takes a step for each token; each step is let through."""

    name = "steps"

    def __init__(self, batch_tokens: int = 10_000, clock: ManualClock | None = None) -> None:
        self.batch_tokens = batch_tokens
        self.clock = clock or ManualClock()
        self.left: dict[Job, int] = {}
        self.most_at_work = 0
        self.admitted: list[int] = []
        self.open = threading.Semaphore(0)
        self.arrived = threading.Semaphore(0)

    def choose(self, waiting: Sequence[Job]) -> list[Job]:
        return choose_joining(waiting, sum(job.most_tokens for job in self.left), self.batch_tokens)

    def admit(self, jobs: Sequence[Job]) -> None:
        self.left |= {job: job.max_new_tokens for job in jobs}
        self.admitted += [job.input_ids[0] for job in jobs]
        self.most_at_work = max(self.most_at_work, len(self.left))

    def step(self) -> Step:
        self.arrived.release()
        assert self.open.acquire(timeout=PATIENCE_S)
        self.clock.advance(1.0)
        first = [job for job, left in self.left.items() if left == job.max_new_tokens]
        self.left = {job: left - 1 for job, left in self.left.items()}
        ended = [job for job, left in self.left.items() if left == 0 or job.cancelled.is_set()]
        for job in ended:
            del self.left[job]
        return Step(first, [(job, echo([job])[0]) for job in ended])

    def reset(self) -> None:
        self.left.clear()

    def wait_for_step(self) -> None:
        assert self.arrived.acquire(timeout=PATIENCE_S)


def test_a_job_joins_those_at_work_and_its_times_are_its_own() -> None:
    """Nobody waits for another's end; width, first token and times are those of each job itself."""
    backend = Steps()
    queue = EngineQueue(backend, clock=backend.clock, linger_s=0)
    long = queue.submit(job(cap=4, name=0))
    backend.wait_for_step()
    short = queue.submit(job(cap=2, name=1))
    backend.open.release(10)
    served, joined = long.result(PATIENCE_S), short.result(PATIENCE_S)
    queue.close()
    assert (served.started, served.first_token, served.ended) == (0.0, 1.0, 4.0)
    assert (joined.started, joined.first_token, joined.ended) == (1.0, 2.0, 3.0)
    # Alone in the first and last second, beside the other in those between: 1.5 on average.
    assert (served.batch_size, joined.batch_size) == (2, 2)


def test_a_cancelled_job_leaves_and_the_others_go_on() -> None:
    """A job is given up in the middle of its reply, and its company neither waits nor starts anew."""
    backend = Steps()
    queue = EngineQueue(backend, clock=backend.clock, linger_s=0)
    unwanted, wanted = job(cap=1000, name=0), job(cap=3, name=1)
    with queue.arriving():
        cut, kept = queue.submit(unwanted), queue.submit(wanted)
    backend.wait_for_step()
    unwanted.cancelled.set()
    backend.open.release(10)
    with pytest.raises(CancelledError):
        cut.result(PATIENCE_S)
    assert kept.result(PATIENCE_S).ended == 3.0
    queue.close()


@pytest.mark.slow
def test_many_jobs_of_one_owner_do_not_keep_another_waiting() -> None:
    """2,000 jobs are queued before another episode's first: it goes to work as soon as there is room."""
    backend = Steps(batch_tokens=4 * 12)
    queue = EngineQueue(backend, clock=backend.clock, linger_s=0)
    with queue.arriving():
        many = [queue.submit(Job([n] * 4, 8, owner="many")) for n in range(2000)]
    backend.wait_for_step()
    few = [queue.submit(Job([-1 - n] * 4, 8, owner="few")) for n in range(2)]
    backend.open.release(10**6)
    for future in [*many, *few]:
        future.result(PATIENCE_S)
    queue.close()
    assert max(backend.admitted.index(-1), backend.admitted.index(-2)) < 8
    assert backend.most_at_work == 4
    assert sorted(backend.admitted) == sorted([*range(2000), -1, -2])


def test_out_of_memory_in_the_middle_loses_nobody() -> None:
    """Those at work start again, half of them at a time, and all are answered."""
    backend = Steps()
    step, room = backend.step, 2

    def narrow() -> Step:
        if len(backend.left) > room:
            raise OutOfMemory("full")
        return step()

    backend.step = narrow  # type: ignore[method-assign]
    queue = EngineQueue(backend, clock=backend.clock, linger_s=0)
    backend.open.release(10**6)
    with queue.arriving():
        futures = [queue.submit(job(cap=3, name=name)) for name in range(7)]
    texts = [future.result(PATIENCE_S).generated.text for future in futures]
    queue.close()
    assert texts == [f"reply to {name}" for name in range(7)]


def test_an_engine_that_dies_leaves_nobody_waiting() -> None:
    """An error of the queue's own thread reaches all, those that wait too, and later jobs are refused."""
    backend = Steps(batch_tokens=12)
    queue = EngineQueue(backend, clock=backend.clock, linger_s=0)
    futures = [queue.submit(job(name=0)), queue.submit(job(name=1))]
    backend.wait_for_step()
    died = KeyError("a job that nobody knows")

    def choose(waiting: Sequence[Job]) -> list[Job]:
        raise died

    backend.choose = choose  # type: ignore[method-assign]
    backend.open.release(100)
    assert [future.exception(PATIENCE_S) for future in futures] == [died, died]
    with pytest.raises(RuntimeError, match="closed"):
        queue.submit(job())
    assert queue.died is died


OWNED = st.lists(
    st.builds(
        lambda length, cap, owner: Job([0] * length, cap, owner=owner),
        st.integers(1, 60),
        st.integers(1, 60),
        st.sampled_from("abc"),
    ),
    min_size=1,
    max_size=12,
)


@given(OWNED, OWNED)
def test_owners_take_turns(waiting: list[Job], running: list[Job]) -> None:
    """At no point of the order has an owner got more than one job ahead of another that still waits."""
    order = fair_order(waiting, running)
    assert sorted(map(id, order)) == sorted(map(id, waiting))
    held = {owner: sum(job.owner == owner for job in running) for owner in "abc"}
    for place, taken in enumerate(order):
        left = {job.owner for job in order[place:]}
        assert held[taken.owner] == min(held[owner] for owner in left)
        held[taken.owner] += 1
        mine = [job for job in order if job.owner == taken.owner]
        assert mine == [job for job in waiting if job.owner == taken.owner]


@given(OWNED, st.integers(0, 200), st.integers(1, 300))
def test_joining_keeps_its_bound_and_its_order(waiting: list[Job], held: int, bound: int) -> None:
    """No more than fits, nobody past one that must wait, and somebody where nothing is at work."""
    chosen = choose_joining(waiting, held, bound)
    assert chosen == waiting[: len(chosen)]
    tokens = held + sum(job.most_tokens for job in chosen)
    assert tokens <= bound or len(chosen) <= (0 if held else 1)
    if len(chosen) < len(waiting):
        assert tokens + waiting[len(chosen)].most_tokens > bound
    assert chosen or held


@given(OWNED, st.integers(60, 300), st.data())
def test_nobody_starves_behind_those_who_join(arrivals: list[Job], bound: int, data: st.DataObject) -> None:
    """A job too large to join beside others is reached within as many ends as jobs came before it."""
    large = Job([0] * bound, 1, owner="large")
    running = [Job([0] * 10, 10, owner="a") for _ in range(3)]
    waiting = [large, *arrivals]
    ends = 0
    while large in waiting:
        assert ends <= 3 + len(arrivals)
        order = fair_order(waiting, running)
        for taken in choose_joining(order, sum(j.most_tokens for j in running), bound):
            waiting.remove(taken)
            running.append(taken)
        if large in waiting:
            running.pop(data.draw(st.integers(0, len(running) - 1)))
            ends += 1
            waiting.append(Job([0] * 5, 5, owner=f"new {ends}"))
