"""``Together``: what many threads want decided at once is decided in one transaction.

A transaction costs little, but lets other threads run several times before it ends, and all that need the
book wait meanwhile: 32 threads that take turns halve their rate. Here a thread puts its work in a queue. The
first one leads: it does all that stands there in one transaction, wakes those whose it was, and lets the
first of those who came meanwhile lead the next one. A lone thread pays for its own transaction only, and
everybody has the answer, or the error, that a transaction of its own would have given.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from toolkit.errors import StoreError, ToolkitError
from toolkit.limits.state import Overtaken

T = TypeVar("T")


class _Entry:
    """What one thread wants done, and the lock on which it sleeps until it is or until it shall lead.

    ``awaited=False``: no thread sleeps, and whoever leads does it.
    """

    __slots__ = ("alone", "done", "error", "leads", "led", "result", "woken", "work")

    def __init__(self, work: Callable[[], Any], *, awaited: bool = True) -> None:
        self.work = work
        self.woken = threading.Lock() if awaited else None
        self.sleep()
        self.alone = self.done = self.leads = self.led = False
        self.result: Any = None
        self.error: Exception | None = None

    def sleep(self) -> None:
        if self.woken is not None:
            self.woken.acquire()

    def wake(self) -> None:
        if self.woken is not None:
            self.woken.release()


class Together:
    """Does the work of many threads in as few transactions as possible, in the order in which they asked.

    Parameters
    ----------
    transaction : callable
        Returns what is entered around some works; an error that leaves it has undone all of them.
    hurry : callable, optional
        Whether to begin a transaction at once: as long as somebody waits for what it gives back. Else those
        who are about to ask are let in first.
    """

    def __init__(
        self,
        transaction: Callable[[], AbstractContextManager[object]],
        hurry: Callable[[], bool] = lambda: False,
    ) -> None:
        self._transaction = transaction
        self._hurry = hurry
        self._queue: deque[_Entry] = deque()
        self._queue_lock = threading.Lock()
        self._led = False
        self._asked_last = threading.get_ident()

    def do(self, work: Callable[[], T], undo: Callable[[T], object] | None = None) -> T:
        """Do ``work`` in a transaction and return what it returns; not from within another work.

        A `ToolkitError` of a work is its answer: what it has done before stays. Any other error undoes what
        it has done.

        Parameters
        ----------
        work : callable
            Does not block; may run on any thread, and again if it has been undone.
        undo : callable, optional
            Told the result if the thread that asked was interrupted before it could have it.

        Raises
        ------
        StoreError
            If the transaction could not be made.
        """
        entry, thread = _Entry(work), threading.get_ident()
        try:
            with self._queue_lock:
                self._queue.append(entry)
                entry.leads, self._led = not self._led, True
                entry.alone, self._asked_last = self._asked_last == thread, thread
            if not entry.leads:
                entry.sleep()
            if not entry.done:
                self._lead(entry)
        except BaseException:  # Ctrl-C
            self._withdraw(entry, undo)
            raise
        if entry.error is not None:
            raise entry.error
        result: T = entry.result
        return result

    def do_soon(self, work: Callable[[], object]) -> None:
        """Have ``work`` done by whoever leads now, without waiting for it; do it here if nobody does.

        Raises
        ------
        Exception
            As from `do`, if it is done here; else the errors are lost: for works that have no answer.
        """
        with self._queue_lock:
            if self._led:
                self._queue.append(_Entry(work, awaited=False))
                return
        self.do(work)

    def _withdraw(self, entry: _Entry, undo: Callable[[T], object] | None) -> None:
        """Leave the queue, or wait until what has been begun is done, and undo it."""
        with self._queue_lock:
            queued = entry in self._queue
            if queued:
                self._queue.remove(entry)
            leads = entry.leads
        if leads:
            self._hand_over(entry)
        elif not (queued or entry.done or entry.led):
            entry.sleep()
        if entry.done and entry.error is None and undo is not None:
            undo(entry.result)

    def _lead(self, own: _Entry) -> None:
        leads = True
        while leads:
            batch: deque[_Entry] = deque()
            leads = False
            try:
                if not own.alone and not self._hurry():
                    time.sleep(0)  # some 60 us for others to join: half as many transactions with 32 threads
                with self._queue_lock:
                    batch, self._queue = self._queue, deque()
                self._run(batch)
                leads = True
            finally:
                # What Ctrl-C ends here is this thread's alone: another leads the others.
                undone = [entry for entry in batch if not entry.done and entry is not own]
                leads = self._hand_over(own, undone, may_stay=leads)
                for entry in batch:
                    if entry.done and entry is not own:
                        entry.wake()

    def _hand_over(self, leader: _Entry, undone: Sequence[_Entry] = (), *, may_stay: bool = False) -> bool:
        """Let the first who waits in the queue lead, if one does; what was begun and is undone goes first.

        Returns
        -------
        bool
            Whether the leader has to go on, as there is work and nobody waits for it. One who may not stay
            leaves it to the next who comes.
        """
        with self._queue_lock:
            self._queue.extendleft(reversed(undone))
            for entry in self._queue:
                if entry.woken is not None:
                    leader.leads, leader.led = False, True
                    entry.leads = True
                    entry.wake()
                    return False
            if self._queue and may_stay:
                return True
            leader.leads, leader.led = False, True
            self._led = False
            return False

    def _run(self, batch: Collection[_Entry]) -> None:
        try:
            with self._transaction():
                for entry in batch:
                    entry.error = None
                    try:
                        entry.result = entry.work()
                    except StoreError:
                        raise
                    except ToolkitError as answer:
                        entry.error = answer
        except Overtaken:
            return self._run(batch)
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, StoreError):
                # One of them is wrong in itself, and the others must not suffer for it.
                for entry in batch:
                    self._run([entry])
                return None
            for entry in batch:
                entry.error = error
        for entry in batch:
            entry.done = True
        return None
