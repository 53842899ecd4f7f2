"""The protocol itself, on a bare socket."""

from __future__ import annotations

import gc
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress

import pytest

from toolkit.testing import ApiServer

Serve = Callable[..., ApiServer]


def request(text: str = "The mill is old.", head: str = "", version: str = "HTTP/1.1") -> bytes:
    body = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": text}]}).encode()
    lines = f"POST /v1/chat/completions {version}\r\nHost: x\r\nContent-Length: {len(body)}\r\n{head}\r\n"
    return lines.encode() + body


@pytest.fixture
def connect(serve: Serve) -> Iterator[socket.socket]:
    with closing(socket.create_connection(("127.0.0.1", serve().port), timeout=5)) as connection:
        yield connection


def read_all(connection: socket.socket) -> bytes:
    pieces = []
    while piece := connection.recv(65_536):
        pieces.append(piece)
    return b"".join(pieces)


def test_requests_in_one_piece_are_answered_in_order(connect: socket.socket) -> None:
    connect.sendall(request("One.") + request("Two.") + request("Three.", "Connection: close\r\n"))
    answers = read_all(connect)
    assert answers.count(b"HTTP/1.1 200 OK") == 3
    assert answers.index(b"One.") < answers.index(b"Two.") < answers.index(b"Three.")


def test_a_request_in_many_pieces(connect: socket.socket) -> None:
    data = request(head="Connection: close\r\n")
    for at in range(0, len(data), 7):
        connect.sendall(data[at : at + 7])
    assert b"The mill is old." in read_all(connect)


def test_http_1_0_closes(connect: socket.socket) -> None:
    connect.sendall(request(version="HTTP/1.0"))
    assert b"connection: close" in read_all(connect)


def test_expect_continue(connect: socket.socket) -> None:
    head, body = request(head="Expect: 100-continue\r\nConnection: close\r\n").split(b"\r\n\r\n")
    connect.sendall(head + b"\r\n\r\n")
    assert connect.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    connect.sendall(body)
    assert b"200 OK" in read_all(connect)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"411"),
        (b"POST / HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n", b"413"),
        (b"GET /" + b"x" * 70_000, b"431"),
        (b"GET /nowhere HTTP/1.1\r\nConnection: close\r\n\r\n", b"404"),
        (b"GET /v1/responses HTTP/1.1\r\nConnection: close\r\n\r\n", b"405"),
        (b"POST /v1/responses HTTP/1.1\r\nConnection: close\r\nContent-Length: 1\r\n\r\n[", b"400"),
    ],
)
def test_what_is_not_understood(connect: socket.socket, data: bytes, status: bytes) -> None:
    """Gets an answer with the right status and a closed connection, never silence."""
    connect.sendall(data)
    assert read_all(connect).startswith(b"HTTP/1.1 " + status)


def test_a_stop_closes_what_is_just_being_accepted() -> None:
    """No socket and no thread outlives its server, whatever it was about to do."""
    threads = threading.active_count()
    for _ in range(20):
        with ApiServer(latency=5) as server:
            client = socket.create_connection(("127.0.0.1", server.port), timeout=5)
            client.sendall(request())
        with closing(client), suppress(ConnectionError):
            assert client.recv(100) == b""
    gc.collect()
    assert threading.active_count() == threads


def test_a_server_can_be_started_again() -> None:
    server = ApiServer()
    for _ in range(2):
        with server:
            assert server.base_url.endswith("/v1")


def test_waiting_costs_no_threads(serve: Serve) -> None:
    """Hundreds of requests wait for their latency at once, in one thread."""
    server = serve(latency=0.2, requests_per_minute=1000)
    threads = threading.active_count()
    with ExitStack() as stack:
        address = ("127.0.0.1", server.port)
        clients = [
            stack.enter_context(closing(socket.create_connection(address, timeout=5))) for _ in range(200)
        ]
        for client in clients:
            client.sendall(request())
        for client in clients:
            assert client.recv(12) == b"HTTP/1.1 200"
        assert threading.active_count() == threads
    assert server.score().max_in_flight > 100
