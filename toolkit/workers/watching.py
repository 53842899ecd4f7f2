"""``Watch``: what the driver of a run tells its workers, and what it sees of them, through the store."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Mapping
from typing import Any

from toolkit.clock import Clock
from toolkit.errors import StoreError
from toolkit.limits import Cause, LimitEvent, Standing, StopEvent
from toolkit.records import WorkerRecord
from toolkit.store.roster import DRIVER, Roster, Signed
from toolkit.store.store import Store
from toolkit.workers.travel import this_worker

LOST_S = 60.0
"""After so many seconds without a sign of life whoever gave them is taken to be lost."""
LOOK_S = 1.0
"""Between two looks; each is a sign of the driver's own life."""


class SignsOfLife:
    """Those of another process: whether they still come, whatever its clock says.

    Parameters
    ----------
    now : float
        Seconds, by this process's clock.

    Attributes
    ----------
    changed : float
        When the last one was seen, by this process's clock.
    is_missed : bool
        Whether somebody was told that they have ended.
    """

    def __init__(self, now: float) -> None:
        self._seen_at: float | None = None
        self.changed = now
        self.is_missed = False

    def have_ended(self, seen_at: float | None, now: float) -> bool:
        """Whether there has been none for `LOST_S`; ``seen_at`` is the last, by that process's clock."""
        if seen_at != self._seen_at:
            self._seen_at, self.changed = seen_at, now
        return now - self.changed > LOST_S


class Watch:
    """The driver's side of the roster, looked at each second while the run goes on.

    Parameters
    ----------
    store : Store
    run_id : str
    stop : threading.Event
        That of the run: once it is set, the workers are told.
    clock : Clock
    on_lost : callable
        Called with the holder of a worker that gives no signs of life any more.
    """

    def __init__(
        self,
        store: Store,
        run_id: str,
        stop: threading.Event,
        clock: Clock,
        on_lost: Callable[[str], None],
    ) -> None:
        self._store = store
        self._roster = Roster(store, run_id)
        self._stop = stop
        self._clock = clock
        self._began_at = clock.epoch()
        self._signed: list[Signed] = []
        self._on_lost = on_lost
        self._lives: dict[str, SignsOfLife] = {}
        self._heard = clock.now()
        self._orders: dict[str, Any] = {}
        self._told: Mapping[str, Any] = {}
        self._changed = threading.Event()
        if isinstance(stop, StopEvent):
            stop.subscribe(self._changed.set)
        self._ended = threading.Event()
        self._looker = threading.Thread(target=self._look_now_and_then, name="watch", daemon=True)

    def begin(self) -> None:
        """Give the first sign of life, and others from now on.

        Raises
        ------
        StoreError
            If it cannot be written.
        """
        self._look()
        self._looker.start()

    def tell(self, **orders: Any) -> None:
        """Tell the workers something more, within a second."""
        self._orders = self._orders | orders
        self._changed.set()

    def standing(self) -> Standing | None:
        """Return what those wait for who wait on any worker, or that there is none; None if nobody waits."""
        if (trouble := self._store.trouble) is not None:
            return Standing(Cause.REQUESTS, math.inf, 0, f"nothing is sent: {trouble}")
        if self._clock.now() - self._heard > LOST_S:
            silence = f"no worker has given a sign of life for over {LOST_S:.0f} s: are there workers left?"
            return Standing(Cause.SLOTS, math.inf, 0, silence)
        found = [_read(signed.standing) for signed in self._signed if signed.standing]
        if not found:
            return None
        first = min(found, key=lambda standing: (not standing.trouble, standing.until))
        return first._replace(waiting=sum(standing.waiting for standing in found))

    def take_events(self) -> dict[int, list[LimitEvent]]:
        """Take what the workers have written of their limiters; see `Roster.take_events`."""
        return self._roster.take_events()

    def end(self, newer: Mapping[str, WorkerRecord]) -> list[WorkerRecord]:
        """Give no further signs of life; write what workers have reported, and return all there were.

        Raises
        ------
        StoreError
            If it cannot be written.
        """
        if isinstance(self._stop, StopEvent):
            self._stop.unsubscribe(self._changed.set)
        self._ended.set()
        self._changed.set()
        self._looker.join(2 * LOOK_S)  # A store that is lost would hold it longer.
        return self._roster.close(newer)

    def look(self) -> None:
        """Tell what is new, give a sign of life, and see those of the workers."""
        try:
            if self._stop.is_set():
                self._orders = self._orders | {"stop": True}
            orders = self._orders
            if self._told != orders:
                self._roster.tell(**orders)
                self._told = orders
            self._look()
            self._miss_the_lost()
        except StoreError:  # It is said by `standing`, and the next look may go well.
            self._lives.clear()

    def _look_now_and_then(self) -> None:
        while not self._ended.is_set():
            self.look()
            self._changed.wait(LOOK_S)
            self._changed.clear()

    def _miss_the_lost(self) -> None:
        now = self._clock.now()
        for worker, _ in self._signed:
            life = self._lives.setdefault(worker.worker, SignsOfLife(now))
            if life.have_ended(worker.seen_at, now) and not life.is_missed:
                life.is_missed = True
                self._on_lost(worker.holder)
        self._heard = max([self._heard, *(life.changed for life in self._lives.values())])

    def _look(self) -> None:
        self._signed = self._roster.look(this_worker(DRIVER, self._began_at, self._clock.epoch()))


def _read(standing: str | None) -> Standing:
    cause, until, waiting, trouble = json.loads(standing or "[]")
    return Standing(Cause(cause), until, waiting, trouble)
