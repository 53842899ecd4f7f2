"""``ChunkPool``: threads for the chunks of one text, for which the interpreter does not wait at its end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

Result = TypeVar("Result")


class ChunkPool(Executor):
    """A ``ThreadPoolExecutor`` of daemon threads.

    Threads of that one are joined when the interpreter exits, whatever they hang at: after a second Ctrl-C
    a script would stay until the timeout of its last request.

    Parameters
    ----------
    width : int
        Threads at most; each starts with the first job that needs it. Jobs are submitted by one thread.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._threads = 0
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        """Have a job done."""
        future: Future[Result] = Future()
        self._jobs.put((future, lambda: fn(*args, **kwargs)))
        if self._threads < self._width:
            thread = threading.Thread(target=self._work, name=f"chunk_{self._threads}", daemon=True)
            self._threads += 1
            thread.start()
        return future

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = True) -> None:
        """Cancel what nobody has begun; what is under way is not waited for, whatever ``wait`` says."""
        with suppress(Empty):
            while left := self._jobs.get_nowait():
                left[0].cancel()
        for _ in range(self._threads):
            self._jobs.put(None)

    def _work(self) -> None:
        while taken := self._jobs.get():
            future, job = taken
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(job())
                except BaseException as error:
                    future.set_exception(error)
            del taken, future, job  # They hold a reply, and the next job may be long in coming.
