"""``Watch``: what the driver of a run tells its workers, and what it sees of them, through the store."""

from __future__ import annotations

import json
import math
import os
import socket
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from toolkit.clock import Clock
from toolkit.errors import StoreError
from toolkit.limits import Cause, LimitEvent, Standing
from toolkit.machine import cores_here, memory_mb
from toolkit.records import WorkerRecord
from toolkit.store.roster import DRIVER, Roster, Signed
from toolkit.store.store import Store

LOOK_S = 1.0
"""Between two looks; each is a sign of the driver's own life."""


class Watch:
    """The driver's side of the roster, looked at each second while the run goes on.

    Parameters
    ----------
    store : Store
    run_id : str
    stop : threading.Event
        That of the run: once it is set, the workers are told.
    clock : Clock

    """

    def __init__(self, store: Store, run_id: str, stop: threading.Event, clock: Clock) -> None:
        self._store = store
        self._roster = Roster(store, run_id)
        self._stop = stop
        self._clock = clock
        self._began_at = clock.epoch()
        self._signed: list[Signed] = []
        self._orders: dict[str, Any] = {}
        self._changed = threading.Event()
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
        """Return what those wait for who wait on any worker; None if nobody does."""
        if (trouble := self._store.trouble) is not None:
            return Standing(Cause.REQUESTS, math.inf, 0, f"nothing is sent: {trouble}")
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
        self._ended.set()
        self._changed.set()
        self._looker.join(2 * LOOK_S)  # A store that is lost would hold it longer.
        return self._roster.close(newer)

    def _look_now_and_then(self) -> None:
        told: Mapping[str, Any] = {}
        while not self._ended.is_set():
            try:
                if self._stop.is_set():
                    self._orders = self._orders | {"stop": True}
                if told != self._orders:
                    self._roster.tell(**self._orders)
                    told = self._orders
                self._look()
            except StoreError:
                pass  # It is said by `standing`, and the next look may go well.
            if not self._stop.is_set() and not self._changed.is_set():
                self._stop.wait(LOOK_S)  # nobody waits longer than that for anything else
            else:
                self._changed.wait(LOOK_S)
                self._changed.clear()

    def _look(self) -> None:
        driver = WorkerRecord(
            worker=DRIVER,
            host=socket.gethostname(),
            pid=os.getpid(),
            cores=cores_here(),
            memory_mb=memory_mb(),
            began_at=self._began_at,
            seen_at=self._clock.epoch(),
        )
        self._signed = self._roster.look(driver)


def _read(standing: str | None) -> Standing:
    cause, until, waiting, trouble = json.loads(standing or "[]")
    return Standing(Cause(cause), until, waiting, trouble)


def merge_events(by_worker: Sequence[Sequence[LimitEvent]]) -> list[LimitEvent]:
    """Return the events of several workers' limiters in order of time, as if one limiter had written them.

    Who waits is added up: each worker knows of its own line alone.
    """
    waiting = [0] * len(by_worker)
    merged = []
    numbered = ((event, place) for place, events in enumerate(by_worker) for event in events)
    for event, place in sorted(numbered, key=lambda pair: pair[0].t_s):
        waiting[place] = event.waiting
        merged.append(event._replace(waiting=sum(waiting)))
    return merged
