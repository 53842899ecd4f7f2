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

T = TypeVar("T")


class _Entry:
    """What one thread wants done, and the lock on which it sleeps until it is or until it shall lead."""

    __slots__ = ("alone", "done", "error", "leads", "led", "result", "woken", "work")

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work
        self.woken = threading.Lock()
        self.woken.acquire()
        self.alone = self.done = self.leads = self.led = False
        self.result: Any = None
        self.error: Exception | None = None


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
                entry.woken.acquire()
            if not entry.done:
                self._lead(entry)
        except BaseException:  # Ctrl-C
            self._withdraw(entry, undo)
            raise
        if entry.error is not None:
            raise entry.error
        result: T = entry.result
        return result

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
            entry.woken.acquire()
        if entry.done and entry.error is None and undo is not None:
            undo(entry.result)

    def _lead(self, own: _Entry) -> None:
        batch: deque[_Entry] = deque()
        try:
            if not own.alone and not self._hurry():
                time.sleep(0)  # some 60 us for others to join: half as many transactions with 32 threads
            with self._queue_lock:
                batch, self._queue = self._queue, deque()
            self._run(batch)
        finally:
            # What Ctrl-C ends here is this thread's alone: another leads the others.
            self._hand_over(own, [e for e in batch if not e.done and e is not own])
            for entry in batch:
                if entry.done and entry is not own:
                    entry.woken.release()

    def _hand_over(self, leader: _Entry, undone: Sequence[_Entry] = ()) -> None:
        """Let the first in the queue lead, if there is one; what was begun and is undone goes first."""
        with self._queue_lock:
            self._queue.extendleft(reversed(undone))
            leader.leads, leader.led = False, True
            if self._queue:
                self._queue[0].leads = True
                self._queue[0].woken.release()
            else:
                self._led = False

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
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, StoreError):
                # One of them is wrong in itself, and the others must not suffer for it.
                for entry in batch:
                    self._run([entry])
                return
            for entry in batch:
                entry.error = error
        for entry in batch:
            entry.done = True
