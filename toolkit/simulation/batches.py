"""``Batches``: a local model's queue on the agenda; it merges requests as ``toolkit.engines.queue`` does.

What it does not know is the time in which the client makes prompts ready, memory that runs out, and cores
that are shared, so that the widths of batches mostly agree with real ones and their times need not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from toolkit.engines.queue import ARRIVAL_S, LINGER_S, Job, choose_batch
from toolkit.latency import LatencyModel
from toolkit.simulation.agenda import Agenda


class Prompted(NamedTuple):
    """One request in the queue: its sizes, its luck, and what is called with start, end and batch size."""

    input_tokens: int
    cap: int
    output_tokens: int
    chance: float
    done: Callable[[float, float, int], None]


class Batches:
    """Works on one batch at a time; what comes meanwhile waits for the next.

    Parameters
    ----------
    agenda : Agenda
    latency : LatencyModel
    batch_tokens : int
        See ``choose_batch``.
    """

    def __init__(self, agenda: Agenda, latency: LatencyModel, batch_tokens: int) -> None:
        self._agenda = agenda
        self._latency = latency
        self._batch_tokens = batch_tokens
        self._pending: dict[Job, Prompted] = {}
        self._busy = False
        self._looks = 0
        self._until = 0.0

    def submit(self, prompted: Prompted) -> None:
        """Queue a request."""
        # Of the prompt only its length matters.
        job = Job(range(prompted.input_tokens), prompted.cap)
        idle = not self._busy and not self._pending
        self._pending[job] = prompted
        if idle:
            self._until = self._agenda.clock.time + ARRIVAL_S
        if not self._busy:
            self._linger()

    def _linger(self) -> None:
        """Begin when nobody has come for a moment, or when it has been waited for long enough."""
        self._looks += 1
        look = self._looks
        soon = min(self._agenda.clock.time + LINGER_S, self._until)
        self._agenda.at(soon, lambda: self._begin() if look == self._looks and not self._busy else None)

    def _begin(self) -> None:
        self._busy = True
        chosen = choose_batch(list(self._pending), self._batch_tokens)
        oldest = next(iter(self._pending))  # always among them
        batch = [self._pending[job] for job in chosen]
        seconds = self._latency.service_s(
            max(item.input_tokens for item in batch),
            max(item.output_tokens for item in batch),
            len(batch),
            self._pending[oldest].chance,
        )
        for job in chosen:
            del self._pending[job]
        started = self._agenda.clock.time
        self._agenda.after(seconds, lambda: self._end(batch, started))

    def _end(self, batch: list[Prompted], started: float) -> None:
        self._busy = False
        if self._pending:
            self._until = self._agenda.clock.time + ARRIVAL_S
            self._linger()
        for item in batch:
            item.done(started, self._agenda.clock.time, len(batch))
