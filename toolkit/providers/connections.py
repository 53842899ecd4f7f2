"""``Connections``: one for each request in flight, lent out and taken back without looking at the others.

The pool of ``httpx2`` looks at all idle connections before and after each request, one system call each, with
its lock held; with 32 threads that is as much work as the request itself (bench_hosted.py).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator

import httpx2

from toolkit.clock import Clock


class Connections(httpx2.BaseTransport):
    """A transport over as many others as there are requests in flight; the one used last is used next.

    Parameters
    ----------
    keep : int or None
        Most that are kept while no request needs them; None: all.
    idle_s : float
        Seconds after which one that nobody needed is closed.
    clock : Clock
    trust_env : bool
        Whether the environment may name certificates.
    """

    def __init__(self, keep: int | None, idle_s: float, clock: Clock, *, trust_env: bool) -> None:
        self._keep = keep
        self._idle_s = idle_s
        self._clock = clock
        self._tls = httpx2.create_ssl_context(trust_env=trust_env)
        self._limits = httpx2.Limits(keepalive_expiry=idle_s)
        # Those that nobody uses and since when, the longest unused first.
        self._idle: deque[tuple[httpx2.HTTPTransport, float]] = deque()
        self._idle_lock = threading.Lock()
        self._is_closed = False

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request over a connection that is its alone until its answer is closed."""
        with self._idle_lock:
            one = self._idle.pop()[0] if self._idle else None
        if one is None:
            one = httpx2.HTTPTransport(verify=self._tls, limits=self._limits)
        try:
            response = one.handle_request(request)
        except BaseException:
            self._take_back(one)
            raise
        assert isinstance(response.stream, httpx2.SyncByteStream)
        response.stream = _Lent(response.stream, lambda: self._take_back(one))
        return response

    def _take_back(self, one: httpx2.HTTPTransport) -> None:
        now = self._clock.now()
        with self._idle_lock:
            self._idle.append((one, now))
            surplus = []
            while self._idle and (
                self._is_closed
                or (self._keep is not None and len(self._idle) > self._keep)
                or now - self._idle[0][1] > self._idle_s
            ):
                surplus.append(self._idle.popleft()[0])
        for unused in surplus:
            unused.close()

    def close(self) -> None:
        """Close all that nobody uses, and each of the others once its answer is closed."""
        with self._idle_lock:
            self._is_closed = True
            unused = [one for one, _ in self._idle]
            self._idle.clear()
        for one in unused:
            one.close()


class _Lent(httpx2.SyncByteStream):
    """The bytes of an answer, after which the connection is given back."""

    def __init__(self, stream: httpx2.SyncByteStream, give_back: Callable[[], None]) -> None:
        self._stream = stream
        self._give_back: Callable[[], None] | None = give_back

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._stream)

    def close(self) -> None:
        give_back, self._give_back = self._give_back, None
        try:
            self._stream.close()
        finally:
            if give_back is not None:
                give_back()
