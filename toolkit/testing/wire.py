"""What passes between the connections and the service."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from toolkit.testing.headers import Headers

JSON_TYPE = "application/json"


class Ending(StrEnum):
    """What becomes of the connection."""

    SEND = "send"
    """The whole response is written."""
    TRUNCATE = "truncate"
    """Half of the body is written, then the connection is closed."""
    RESET = "reset"
    """Nothing is written; the connection is reset."""
    HANG = "hang"
    """Nothing is written, ever."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request as it was read from a connection; the headers' names are in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


def _nothing() -> None:
    pass


def _ignore(whole: bool) -> None:
    pass


@dataclass(slots=True)
class Response:
    """What to send, and when.

    Attributes
    ----------
    status : int
    body : bytes
    headers : list of (str, str)
        Without length, type and connection.
    content_type : str
    delay_s : float
        Real seconds before it is sent.
    ending : Ending
    finish : callable
        Called once: when ``delay_s`` has passed and before anything is sent, for ``HANG`` when the client
        has gone. It may still change the headers.
    sent : callable
        Called once after ``finish`` with whether all of it was handed to the connection.
    """

    status: int
    body: bytes
    headers: Headers = field(default_factory=list)
    content_type: str = JSON_TYPE
    delay_s: float = 0.0
    ending: Ending = Ending.SEND
    finish: Callable[[], None] = _nothing
    sent: Callable[[bool], None] = _ignore


def json_response(value: object, status: int = 200, headers: Headers | None = None) -> Response:
    """Make a response of what JSON can hold."""
    body = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
    return Response(status, body, headers or [])
