"""HTTP/1.1 over asyncio: enough of it for API clients, with keep-alive, and with ways to break it.

A request that waits for its latency costs a timer and no thread.
tests/benchmarks/bench_server.py measures it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from http import HTTPStatus
from typing import cast

from toolkit.testing.service import Service
from toolkit.testing.wire import Ending, Incoming, Response

MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 64 * 1024 * 1024

_REASONS = {status.value: status.phrase for status in HTTPStatus}
# With this a close sends RST in place of FIN.
_LINGER_NOT_AT_ALL = struct.pack("ii", 1, 0)


class Connection(asyncio.Protocol):
    """One client's connection; requests on it are answered one after another.

    Parameters
    ----------
    service : Service
    connections : set of Connection
        Where it stands as long as it is open.
    """

    def __init__(self, service: Service, connections: set[Connection]) -> None:
        self._service = service
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._pending: Response | None = None
        self._keep_alive = True
        self._continued = False

    # -- asyncio.Protocol ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport."""
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        """Let a request go that hangs; one that is worked on goes on, and is paid for nevertheless."""
        self._connections.discard(self)
        self._transport = None
        if self._pending is not None and self._pending.ending is Ending.HANG:
            self._conclude()

    def data_received(self, data: bytes) -> None:
        """Read on."""
        self._buffer += data
        if self._pending is None:
            self._next()

    # -- reading -------------------------------------------------------------------------------------

    def _next(self) -> None:
        """Answer the requests that have arrived, up to one that takes time."""
        while self._pending is None and self._transport is not None:
            incoming = self._read()
            if incoming is None:
                return
            self._pending = response = self._service.answer(incoming)
            if response.ending is Ending.HANG:
                return
            if response.delay_s > 0:
                self._loop.call_later(response.delay_s, self._conclude_and_go_on)
                return
            self._conclude()

    def _conclude_and_go_on(self) -> None:
        self._conclude()
        self._next()

    def _read(self) -> Incoming | None:
        """Take one whole request off the buffer, or None if there is none yet."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                self._give_up(431)
            return None
        try:
            first, *lines = self._buffer[:end].decode("latin-1").lstrip("\r\n").split("\r\n")
            method, target, version = first.split(" ")
            headers: dict[str, str] = {}
            for line in lines:
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            length = int(headers.get("content-length", "0"))
            if length < 0:
                raise ValueError("negative length")
        except ValueError:
            self._give_up(400)
            return None
        if "transfer-encoding" in headers:
            self._give_up(411)
            return None
        if length > MAX_BODY_BYTES:
            self._give_up(413)
            return None
        total = end + 4 + length
        if len(self._buffer) < total:
            if not self._continued and headers.get("expect", "").lower() == "100-continue":
                self._continued = True
                assert self._transport is not None
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return None
        body = bytes(self._buffer[end + 4 : total])
        del self._buffer[:total]
        self._continued = False
        said = headers.get("connection", "").lower()
        self._keep_alive = said == "keep-alive" if version == "HTTP/1.0" else said != "close"
        path, _, query = target.partition("?")
        return Incoming(method, path, query, headers, body)

    def _give_up(self, status: int) -> None:
        """Answer what is no HTTP that is understood here, and close."""
        assert self._transport is not None
        self._buffer.clear()
        self._transport.write(_head(Response(status, b""), keep_alive=False))
        self._transport.close()

    # -- writing -------------------------------------------------------------------------------------

    def _conclude(self) -> None:
        """End the pending request."""
        response = self._pending
        assert response is not None
        self._pending = None
        response.finish()
        response.sent(self._write(response))

    def _write(self, response: Response) -> bool:
        """Write a response as its ending says; return whether all of it was handed over."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        if response.ending is Ending.RESET:
            self._reset()
            return False
        head = _head(response, keep_alive=self._keep_alive)
        if response.ending is Ending.TRUNCATE:
            transport.write(head + response.body[: len(response.body) // 2])
            transport.close()
            return False
        transport.write(head + response.body)
        if not self._keep_alive:
            transport.close()
        return True

    def _reset(self) -> None:
        assert self._transport is not None
        its_socket = self._transport.get_extra_info("socket")
        its_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT_AT_ALL)
        self._transport.abort()

    def abort(self) -> None:
        """Close at once, whatever is pending; the request is not concluded."""
        if self._transport is not None:
            self._transport.abort()


def _head(response: Response, *, keep_alive: bool) -> bytes:
    lines = [
        f"HTTP/1.1 {response.status} {_REASONS.get(response.status, 'Unknown')}",
        f"content-type: {response.content_type}",
        f"content-length: {len(response.body)}",
        *[f"{name}: {value}" for name, value in response.headers],
        "connection: keep-alive" if keep_alive else "connection: close",
        "\r\n",
    ]
    return "\r\n".join(lines).encode("latin-1")
