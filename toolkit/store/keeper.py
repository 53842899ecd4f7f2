"""``Keeper``: what one run keeps in a store, and takes from it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any, Literal

from toolkit.mapreduce import SummarySettings
from toolkit.records import CallRecord, EpisodeRecord, Request, Spending, Status
from toolkit.store import keys, schema
from toolkit.store.budget import Budget, Reservation
from toolkit.store.store import KeptCall, KeptEpisode, Store, call_rows, episode_row, pack_events

LOOK_S = 0.2
"""How often one who waits for another's answer looks whether the run was stopped."""


class Keeper:
    """A run's part of a store.

    Parameters
    ----------
    store : Store
    run_id : str
    who : str or None
        Digest of what the provider's answers depend on; None: nobody knows, and none is taken again.
    reuse : {"all", "run", "none"}
    repeat : int
    scope : str
        Which run this is a start of.
    with_texts : bool
        Whether replies and summaries are kept.
    wait_s : float
        Seconds for which a store that cannot be written is tried again.
    budget : Budget, optional
        What its calls are paid from.
    """

    def __init__(
        self,
        store: Store,
        run_id: str,
        *,
        who: str | None,
        reuse: Literal["all", "run", "none"],
        repeat: int = 1,
        scope: str = "",
        with_texts: bool = True,
        wait_s: float = 60.0,
        budget: Budget | None = None,
    ) -> None:
        self.budget = budget
        self.run_id = run_id
        self._store = store
        self._who = who or keys.digest("run", run_id)
        self._repeat = repeat
        self._scope = scope
        self._with_texts = with_texts
        self._wait_s = wait_s
        self._reuses = reuse != "none" and who is not None
        self._among: list[str] | None = None
        self._left: dict[tuple[str, str, str, int | None], KeptCall] = {}
        if self._reuses:
            store.commit(work=store.known.refresh)
        if reuse == "run":
            self._among = [run_id, *store.earlier_starts(scope)]

    # Taking

    def take_up(self, episode_id: str) -> list[CallRecord]:
        """Find what an earlier try of an episode has kept in this run, before its worker was lost.

        Returns
        -------
        list of CallRecord
            All of its calls, also those that `left` does not give: failed ones, and those without a text.

        Raises
        ------
        StoreError
            If the store cannot be read.
        """
        earlier = self._store.calls_of(self.run_id, episode_id)
        for kept in earlier:
            if kept.record.status is Status.OK and kept.text:
                self._left[_place(kept.record, kept.record.key)] = kept
        return [kept.record for kept in earlier]

    def left(self, request: Request, key: str) -> KeptCall | None:
        """Return the call of an earlier try that is this very one, once: it was made for it, and is paid."""
        return self._left.pop(_place(request, key), None) if self._left else None

    def call_key(self, request: Request) -> str:
        """Return the digest of all that the answer to a request depends on."""
        return keys.call_key(self._who, request, self._repeat)

    def text_key(self, text: str, settings: SummarySettings, counter: str) -> str:
        """Return the digest of all that the summary of a text depends on; ``counter`` says who counts."""
        return keys.text_key(self._who, text, settings, counter, self._repeat)

    @contextmanager
    def asking(self, key: str, stop: threading.Event) -> Iterator[KeptCall | None]:
        """Give the kept answer, or None to one who may ask, while all others with that key wait.

        Raises
        ------
        CancelledError
            If ``stop`` is set while another asks.
        StoreError
            If the store cannot be read.
        """
        if not self._reuses:
            yield None
            return
        name = key if self._among is None else f"{self._scope} {key}"
        asking, lock = self._store.asking, self._store.asking_lock
        while True:
            with lock:
                other = asking.get(name)
                if other is None:
                    ended = asking[name] = threading.Event()
                    break
            while not other.wait(LOOK_S):
                if stop.is_set():
                    raise CancelledError
        try:
            yield self._store.find_call(key, self._among) if self._store.known.may_have(key) else None
        finally:
            with lock:
                asking.pop(name, None)
            ended.set()

    def find_episode(self, key: str) -> KeptEpisode | None:
        """Return the finished summary of a key, if there is one to be taken again.

        Raises
        ------
        StoreError
            If the store cannot be read.
        """
        if not self._reuses or not self._store.known.may_have(key):
            return None
        return self._store.find_episode(key, self._among)

    # Keeping

    def begin(self, values: Mapping[str, Any]) -> None:
        """Write the row of the run."""
        self._store.commit({schema.runs: [{"id": self.run_id, "scope": self._scope, **values}]})

    def ready(self) -> None:
        """Wait while the store cannot be written: no answer is paid for that could not be kept.

        Raises
        ------
        StoreError
            If that takes too long.
        """
        self._store.wait_until_well(self._wait_s)

    def reserve(self, most: Spending, stop: threading.Event) -> Reservation | None:
        """Take from the budget what a call could need; see `Budget.reserve`."""
        return None if self.budget is None else self.budget.reserve(most, stop)

    def give_up(self, reservation: Reservation) -> None:
        """Count a reservation as spent: nobody knows what became of the attempt."""
        if self.budget is not None:
            self._store.commit(work=self.budget.settling(reservation, reservation.held))

    def keep(
        self,
        record: CallRecord,
        text: str | None,
        reservation: Reservation | None = None,
        spent: Spending | None = None,
    ) -> None:
        """Commit a call and its reply, and what of its reservation was spent.

        Raises
        ------
        StoreError
            If it cannot be written.
        """
        rows = call_rows(self.run_id, record, text if self._with_texts else None)
        if record.reused:
            self._store.later(rows)  # it is kept already, and nothing was paid
            return
        if self.budget is None or reservation is None or spent is None:
            self._store.commit(rows)
        else:
            self._store.commit(rows, self.budget.settling(reservation, spent))
            self.budget.settled()
        if record.key:
            self._store.known.add(record.key)

    def keep_episode(self, position: int, record: EpisodeRecord) -> None:
        """Write an episode with the next transaction.

        Its calls, which are what was paid for, are committed already; from them it can be made again.
        """
        row = episode_row(self.run_id, position, record, with_text=self._with_texts)
        self._store.later({schema.episodes: [row]})
        if record.summary.key:
            self._store.known.add(record.summary.key)

    def end(
        self,
        values: Mapping[str, Any],
        unreached: Sequence[tuple[int, EpisodeRecord]],
        limit_events: Sequence[Any],
    ) -> None:
        """Write how the run ended, the episodes that it did not reach, and what the limiter did.

        Raises
        ------
        StoreError
            If it cannot be written.
        """
        rows: dict[Any, list[dict[str, Any]]] = {}
        if unreached:
            rows[schema.episodes] = [
                episode_row(self.run_id, position, record, with_text=self._with_texts)
                for position, record in unreached
            ]
        drop = schema.limits.delete().where(schema.limits.c.run_id == self.run_id, schema.limits.c.part != 0)
        if limit_events:
            rows[schema.limits] = [{"run_id": self.run_id, "part": 0, "events": pack_events(limit_events)}]
        self._store.update_run(self.run_id, values, rows)
        # What workers have written of their limiters is among the events.
        self._store.commit(work=lambda connection: connection.execute(drop))
        self._store.flush()


def _place(asked: Request | CallRecord, key: str) -> tuple[str, str, str, int | None]:
    """Return which call of a run it is, whoever made it and however often."""
    return asked.episode_id, key, asked.stage, asked.chunk_index
