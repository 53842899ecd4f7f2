"""Connections to a real server: one for each request in flight, used again, and none left open."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import pytest

from toolkit.clock import ManualClock
from toolkit.providers.connections import Connections


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.server.opened.append(self.client_address)  # type: ignore[attr-defined]

    def do_GET(self) -> None:
        server = self.server
        if self.path == "/wait":
            server.gate.wait()  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", "5")
        if self.path == "/last":
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(b"reply")

    def finish(self) -> None:
        super().finish()
        self.server.closed.release()  # type: ignore[attr-defined]

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.opened, server.gate = [], threading.Barrier(3, timeout=20)  # type: ignore[attr-defined]
        server.closed = threading.Semaphore(0)  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def client(server: ThreadingHTTPServer, connections: Connections) -> httpx2.Client:
    return httpx2.Client(transport=connections, base_url=f"http://127.0.0.1:{server.server_port}")


def make(keep: int | None = None, clock: ManualClock | None = None) -> Connections:
    return Connections(keep, 60.0, clock or ManualClock(), trust_env=False)


def ask(http: httpx2.Client, path: str = "/") -> None:
    assert http.get(path).content == b"reply"


def test_requests_one_after_the_other_share_a_connection(server):
    """Also after an answer of which nothing was read; one that the server has closed is made anew."""
    with client(server, make()) as http:
        ask(http)
        ask(http)
        assert len(server.opened) == 1
        ask(http, "/last")
        assert server.closed.acquire(timeout=20)
        ask(http)
        assert len(server.opened) == 2
        with pytest.raises(httpx2.ConnectError):
            http.get("http://127.0.0.1:9/")
        ask(http)
    assert len(server.opened) <= 3


@pytest.mark.parametrize(("keep", "later"), [(None, 0.0), (3, 0.0), (1, 0.0), (None, 61.0)])
def test_only_so_many_stay_open_and_not_for_long(server, keep, later):
    """Three at a time need three; afterwards as many stay as may, until nobody has needed them for long."""
    clock = ManualClock()
    with client(server, make(keep, clock)) as http:
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda _: ask(http, "/wait"), range(3)))
        assert len(server.opened) == 3
        closed = 3 - keep if keep else 0
        for _ in range(closed):
            assert server.closed.acquire(timeout=20)
        clock.advance(later)
        ask(http)
        if later:
            for _ in range(2):
                assert server.closed.acquire(timeout=20), "the two that nobody has needed"
        assert not server.closed.acquire(blocking=False)
    for _ in range(3 - closed - (2 if later else 0)):
        assert server.closed.acquire(timeout=20), "closed with the client"


def test_an_answer_under_way_outlives_the_client(server):
    """Its connection is closed with it."""
    http = client(server, make())
    with http.stream("GET", "/") as response:
        http.close()
        assert response.read() == b"reply"
    assert server.closed.acquire(timeout=20)
