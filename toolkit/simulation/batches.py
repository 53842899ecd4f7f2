"""A local model's queue on the agenda: requests share its time as in ``toolkit.engines.queue``.

What it does not know is the time in which the client makes prompts ready, memory that runs out, and cores
that are shared with others, so that how many are at work mostly agrees with a real run, and their times need
not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from toolkit.engines.admission import choose_batch, choose_joining, fair_order
from toolkit.engines.jobs import Job
from toolkit.engines.queue import ARRIVAL_S, LINGER_S
from toolkit.latency import LatencyModel
from toolkit.simulation.agenda import Agenda


class Prompted(NamedTuple):
    """One request in the queue: whose it is, its sizes and its luck.

    ``done`` is called with its start, its end, and with how many it was worked on together.
    """

    owner: str
    input_tokens: int
    cap: int
    output_tokens: int
    chance: float
    done: Callable[[float, float, int], None]


class Served(ABC):
    """A queue in front of a model; one that is idle waits a moment for company.

    Parameters
    ----------
    agenda : Agenda
    latency : LatencyModel
    batch_tokens : int
        Bound on what is worked on at once; see ``toolkit.engines.admission``.
    """

    def __init__(self, agenda: Agenda, latency: LatencyModel, batch_tokens: int) -> None:
        self._agenda = agenda
        self._latency = latency
        self._batch_tokens = batch_tokens
        self._waiting: dict[Job, Prompted] = {}
        self._looks = 0
        self._until = 0.0

    @property
    @abstractmethod
    def _is_busy(self) -> bool:
        """Whether the model works."""

    @abstractmethod
    def _take_up(self) -> None:
        """Begin with those of the waiting that go together; an idle model takes one at least."""

    def submit(self, prompted: Prompted) -> None:
        """Queue a request."""
        # Of the prompt only its length matters.
        job = Job(range(prompted.input_tokens), prompted.cap, owner=prompted.owner)
        if not self._waiting:
            self._until = self._agenda.clock.time + ARRIVAL_S
        self._waiting[job] = prompted
        self._go_on()

    def _go_on(self) -> None:
        """Have those who wait taken up, now or, by an idle model, when nobody has come for a moment."""
        if self._is_busy:
            self._take_up()
            return
        self._looks += 1
        look = self._looks
        soon = min(self._agenda.clock.time + LINGER_S, self._until)
        self._agenda.at(soon, lambda: self._take_up() if look == self._looks and not self._is_busy else None)

    def _end(self, ended: Sequence[tuple[Prompted, float, int]]) -> None:
        """Go on with those who wait, then tell those who are done: start and width of each."""
        if self._waiting:
            self._until = self._agenda.clock.time + ARRIVAL_S
            self._go_on()
        for prompted, started, width in ended:
            prompted.done(started, self._agenda.clock.time, width)


@dataclass(slots=True)
class _AtWork:
    """A request that the model works on."""

    prompted: Prompted
    started: float
    shared_before: float
    """Seconds of work times requests at work, up to when it started."""
    left: float = 1.0
    """Share of its work."""
    whole_s: float = 0.0
    """Seconds that all of it would take with as many at work as there are now."""


class Joining(Served):
    r"""Takes a request up as soon as there is room beside those at work: the time is shared.

    With :math:`n` requests at work each gets through :math:`1 / t(n)` of its work in a second, where
    :math:`t(n)` is the latency model's service time of that request in company of :math:`n`. Whenever one
    joins or ends, :math:`n` changes, and what is left of each goes on at its new rate. Requests that begin
    and end together take just :math:`t(n)`.
    """

    def __init__(self, agenda: Agenda, latency: LatencyModel, batch_tokens: int) -> None:
        super().__init__(agenda, latency, batch_tokens)
        self._at_work: dict[Job, _AtWork] = {}
        self._held_tokens = 0
        self._shared = 0.0
        self._since = 0.0
        self._plans = 0

    @property
    def _is_busy(self) -> bool:
        return bool(self._at_work)

    def _take_up(self) -> None:
        ordered = fair_order(list(self._waiting), self._at_work)
        chosen = choose_joining(ordered, self._held_tokens, self._batch_tokens)
        if not chosen:
            return
        self._work()
        for job in chosen:
            self._held_tokens += job.most_tokens
            self._at_work[job] = _AtWork(self._waiting.pop(job), self._since, self._shared)
        self._plan()

    def _work(self) -> None:
        """Bring up to date what is left of each."""
        now = self._agenda.clock.time
        seconds, self._since = now - self._since, now
        self._shared += len(self._at_work) * seconds
        for one in self._at_work.values():
            if one.whole_s:
                one.left = max(0.0, one.left - seconds / one.whole_s)

    def _plan(self) -> None:
        """See who ends next, as long as nobody joins."""
        self._plans += 1
        plan, width = self._plans, len(self._at_work)
        soonest_s, ending = 0.0, list[Job]()
        for job, one in self._at_work.items():
            known = one.prompted
            one.whole_s = self._latency.service_s(
                known.input_tokens, known.output_tokens, width, known.chance
            )
            seconds = one.left * one.whole_s
            if not ending or seconds < soonest_s:
                soonest_s, ending = seconds, [job]
            elif seconds == soonest_s:
                ending.append(job)
        if ending:
            self._agenda.after(soonest_s, lambda: self._finish(ending) if plan == self._plans else None)

    def _finish(self, ending: Sequence[Job]) -> None:
        self._work()
        width = len(self._at_work)
        ended = []
        for job in ending:
            done = self._at_work.pop(job)
            self._held_tokens -= job.most_tokens
            seconds = self._since - done.started
            together = (self._shared - done.shared_before) / seconds if seconds > 0 else width
            ended.append((done.prompted, done.started, max(1, round(together))))
        self._plan()
        self._end(ended)


class Padded(Served):
    """Works on one batch until all of it is done; what comes meanwhile waits for the next."""

    _works = False

    @property
    def _is_busy(self) -> bool:
        return self._works

    def _take_up(self) -> None:
        if self._works:
            return
        self._works = True
        chosen = choose_batch(fair_order(list(self._waiting), ()), self._batch_tokens)
        oldest = self._waiting[next(iter(self._waiting))]  # always among them
        batch = [self._waiting.pop(job) for job in chosen]
        seconds = self._latency.service_s(
            max(one.input_tokens for one in batch),
            max(one.output_tokens for one in batch),
            len(batch),
            oldest.chance,
        )
        started = self._agenda.clock.time
        self._agenda.after(seconds, lambda: self._finish(batch, started))

    def _finish(self, batch: Sequence[Prompted], started: float) -> None:
        self._works = False
        self._end([(one, started, len(batch)) for one in batch])
