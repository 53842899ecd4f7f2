"""What a worker process does: the episodes that it is given, and a sign of life each second."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from dataclasses import replace

from toolkit.backends import ignore_interrupts
from toolkit.clock import SystemClock
from toolkit.config import Config
from toolkit.errors import ConfigError, StoreError, ToolkitError
from toolkit.keeping import make_keeper
from toolkit.limits import LimitEvent, StopEvent
from toolkit.limits.axis import boot_id
from toolkit.limits.holders import is_alive, this_process
from toolkit.memory import PeakMemory
from toolkit.protocols import SummarizeParams
from toolkit.records import CallRecord, EpisodeRecord, Status, WorkerRecord
from toolkit.store.roster import Orders, Roster
from toolkit.urls import POSTGRESQL
from toolkit.work import cancelled, record_of, summarize_episode
from toolkit.workers.held import acquire_provider, release_provider
from toolkit.workers.travel import Assignment, Report, RunSpec, Survey, this_worker, worker_name
from toolkit.workers.watching import LOST_S, SignsOfLife

BEAT_S = 1.0
"""Between two signs of life, at each of which a worker reads what it is told."""

_workers: dict[str, Worker] = {}
_workers_lock = threading.Lock()


def survey(config: Config, neighbours: int) -> Survey:
    """Make the provider of a config ready in this process, and tell what the driver has to know of it.

    Raises
    ------
    ToolkitError
        If it cannot be made, or its model cannot be had.
    """
    config = config.with_secrets()
    provider = acquire_provider(config, neighbours)
    try:
        return Survey(provider.identity(), provider.quota_key(), provider.limits())
    finally:
        release_provider(config)


def work_on(spec: RunSpec, assignment: Assignment) -> Report:
    """Work on an episode of a run in this process.

    Whatever goes wrong is in the report: what is raised here would count as a lost worker.
    """
    try:
        worker = _worker_of(spec)
    except Exception as error:
        fatal = error if isinstance(error, ToolkitError) else ToolkitError(f"{type(error).__name__}: {error}")
        record = record_of(assignment, cancelled(fatal), started_at=time.time(), worker=worker_name())
        return Report(assignment.number, record, fatal=fatal)
    return worker.work(assignment)


def _worker_of(spec: RunSpec) -> Worker:
    with _workers_lock:
        worker = _workers.get(spec.run_id)
        if worker is None or not worker.begin():
            worker = _workers[spec.run_id] = Worker(spec)
            worker.begin()
        return worker


class Worker:
    """The part that this process has in one run.

    Parameters
    ----------
    spec : RunSpec

    Raises
    ------
    ToolkitError
        If it can have none: the provider, the store or the limits are not to be had here.
    """

    def __init__(self, spec: RunSpec) -> None:
        # Loads SQLAlchemy.
        from toolkit.store.address import read_address
        from toolkit.store.keys import digest
        from toolkit.store.opened import store_at

        if spec.driver != this_process():
            ignore_interrupts()
        spec = spec._replace(config=spec.config.with_secrets())
        self._spec = spec
        self._clock = SystemClock()
        self._peak = PeakMemory()
        self._provider = acquire_provider(spec.config, spec.neighbours)
        try:
            self._limiter = self._provider.limiter()
            if self._limiter is not None:
                _check_limits_are_shared(spec)
            secret = spec.config.store_password
            address = read_address(spec.config.store_url, secret.get_secret_value() if secret else None)
            store = self._store = store_at(address)
            self._roster = Roster(store, spec.run_id)
            self._stop = StopEvent()
            self._began_at = self._clock.epoch()
            self._told_until = self._limiter.now() if self._limiter else 0.0
            self._told_last: list[LimitEvent] = []
            self._untold: list[LimitEvent] = []
            self._events_lock = threading.Lock()
            self._episodes = 0
            self._at_work = 0
            self._has_left = False
            self._work_lock = threading.Lock()
            self._chunk_parallelism: int | None = None
            orders = self._sign()
            if orders.stop or orders.ended:
                self._stop.set()
            identity = self._provider.identity()
            self._keeper = make_keeper(
                self._provider,
                spec.config,
                store,
                spec.run_id,
                spec.scope,
                who=None if identity is None else digest(identity),
                is_part=spec.is_part,
            )
        except BaseException:
            release_provider(spec.config)
            raise
        threading.Thread(target=self._beat, name="beat", daemon=True).start()

    def begin(self) -> bool:
        """Take note that an episode is to be worked on; False if this part in the run is over."""
        with self._work_lock:
            self._at_work += not self._has_left
            return not self._has_left

    def work(self, assignment: Assignment) -> Report:
        """Work on an episode, after `begin`."""
        try:
            record, fatal = self._work(assignment)
        finally:
            with self._work_lock:
                self._at_work -= 1
                self._episodes += 1
        return Report(assignment.number, record, self._record(), fatal, tuple(self._new_events()))

    def _work(self, assignment: Assignment) -> tuple[EpisodeRecord, ToolkitError | None]:
        began, started_at = self._clock.now(), self._clock.epoch()
        fatal: list[ToolkitError] = []

        def drain(error: ToolkitError) -> None:
            fatal.append(error)
            self._stop.set()

        if self._stop.is_set():
            summary = cancelled(None)
        else:
            params = SummarizeParams(
                chunk_parallelism=self._chunk_parallelism or self._spec.config.summary_chunk_parallelism,
                episode_id=assignment.id,
                stop=self._stop,
                keeper=self._keeper,
                order=assignment.number,
                on_drain=drain,
                worker=worker_name(),
                clock=self._clock,
            )
            earlier: list[CallRecord] = []
            with suppress(StoreError):  # The first call meets that as well.
                earlier = self._keeper.take_up(assignment.id)
            summary = summarize_episode(self._provider, assignment.text, params)
            taken = {call.call_id for call in summary.calls}
            # Those of an earlier try that could not be taken up have been made all the same.
            lost = tuple(call for call in earlier if call.call_id not in taken)
            summary = replace(summary, calls=lost + summary.calls)
            if any(call.reused for call in summary.calls):
                with suppress(StoreError):  # They are kept already, and only not told of.
                    self._store.flush()
            if summary.status is Status.CANCELLED and fatal:
                summary = cancelled(fatal[0], summary)
        record = record_of(
            assignment,
            summary,
            started_at=started_at,
            total_s=self._clock.now() - began,
            worker=worker_name(),
        )
        return record, fatal[0] if fatal else None

    # Signs of life

    def _beat(self) -> None:
        driver = SignsOfLife(self._clock.now())
        signed_at = self._clock.now()
        while True:
            self._clock.sleep(BEAT_S)
            now = self._clock.now()
            try:
                orders = self._sign()
            except StoreError:  # Calls wait for it themselves, and say so.
                driver = SignsOfLife(now)  # It could not be seen meanwhile.
                is_over = now - signed_at > LOST_S and not self._at_work
            else:
                signed_at = now
                self._chunk_parallelism = orders.chunk_parallelism
                is_over = orders.ended or driver.have_ended(orders.driver_seen_at, now)
                if orders.stop:
                    self._stop.set()
            # On its own machine it is told at once.
            if is_over or not is_alive(self._spec.driver):
                self._stop.set()
                if self._leave():
                    return

    def _sign(self) -> Orders:
        standing = self._limiter.standing() if self._limiter else None
        events = self._new_events()
        try:
            return self._roster.sign(
                self._record(), None if standing is None else json.dumps(standing), events
            )
        except StoreError:
            with self._events_lock:  # They go with the next sign, or with a report.
                self._untold = events + self._untold
            raise

    def _new_events(self) -> list[LimitEvent]:
        """Return what the limiter did since this was asked last."""
        if self._limiter is None:
            return []
        with self._events_lock:
            some = self._limiter.events(self._told_until, look=False)
            new = [event for event in some if event not in self._told_last]
            if new:
                self._told_until = max(event.t_s for event in new)
                self._told_last = [event for event in some if event.t_s == self._told_until]
            untold, self._untold = self._untold, []
            return untold + new

    def _record(self) -> WorkerRecord:
        return this_worker(
            worker_name(), self._began_at, self._clock.epoch(), self._episodes, self._peak.so_far()
        )

    def _leave(self) -> bool:
        """Have no part in the run any more; False while episodes are at work. A later one gets a new one."""
        with _workers_lock:
            if _workers.get(self._spec.run_id) is self:
                del _workers[self._spec.run_id]
        with self._work_lock:
            if self._at_work:
                return False
            self._has_left = True
        release_provider(self._spec.config)
        return True


def _check_limits_are_shared(spec: RunSpec) -> None:
    """Refuse to work on another machine than the driver's under limits that it does not share."""
    url = spec.config.limits_url
    if spec.boot != boot_id() and not (url or "").startswith(POSTGRESQL):
        raise ConfigError(
            f"limits_url={url!r} is on the machine of the driver, and worker {worker_name()} is on another: "
            f"each would count for itself and the limits would be broken. Set limits_url to {POSTGRESQL}USER@"
            "HOST:PORT/DATABASE, which all machines reach",
            ["limits_url"],
        )
