"""``ApiServer``: a server on the loopback address that behaves like the hosted APIs."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import fields
from types import TracebackType
from typing import Any, Self, TypeVar

from toolkit.clock import Clock, SystemClock
from toolkit.errors import ConfigError, ToolkitError
from toolkit.testing.http import Connection
from toolkit.testing.ledger import JournalRow, Score
from toolkit.testing.options import ServerOptions, read_options
from toolkit.testing.service import Service
from toolkit.testing.spawn import SpawnedServer

HOST = "127.0.0.1"
# Connections that wait to be accepted: a client may open hundreds at once.
_BACKLOG = 1024
_START_TIMEOUT_S = 10.0
_ANSWER_TIMEOUT_S = 60.0

T = TypeVar("T")
_DEFAULTS = ServerOptions()


async def _all_done(tasks: Iterable[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


class ApiServer:
    """A loopback server that behaves like the hosted APIs, with their limits, their latency and their faults.

    It speaks Chat Completions and Responses (OpenAI and Azure) and Messages (Anthropic), all at once, and
    answers with short summaries made of the prompt's own words. Nothing leaves the machine.

    Parameters
    ----------
    law : str
        How limits are counted: ``"openai"``, ``"azure"``, ``"anthropic"``, ``"sliding"``, ``"fixed"`` or
        ``"first_request"``.
    clock : Clock, optional
        What the law goes by; the latency always passes in real time.
    port : int
        0 takes a free one.
    **options
        All others, see ``toolkit.testing.ServerOptions``.

    Raises
    ------
    ConfigError
        If an option is unknown or out of its range.

    Examples
    --------
    >>> with ApiServer(law="openai", requests_per_minute=600, latency=0.05) as server:
    ...     config = tk.Config(provider="openai", openai_base_url=server.base_url, openai_api_key="any")
    ...     run = tk.run(episodes, config)
    >>> server.score().rate_limited
    0
    """

    def __init__(
        self, law: str = "openai", *, clock: Clock | None = None, port: int = 0, **options: Any
    ) -> None:
        if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65_535:
            raise ConfigError(f"port={port!r} must be a whole number from 0 (any free one) to 65535")
        self.options = read_options({"law": law, **options})
        self._service = Service(self.options, clock or SystemClock())
        self._wanted_port = port
        self._port: int | None = None
        self._connections: set[Connection] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        where = "not running" if self._port is None else self.base_url
        return f"<ApiServer law={self.options.law!r} {where}>"

    @staticmethod
    def spawn(law: str = "openai", *, port: int = 0, **options: Any) -> SpawnedServer:
        """Return a server in a process of its own, to be used as a context manager.

        It takes what ``ApiServer`` takes, but no clock, and does not share an interpreter lock with its
        clients: use it wherever time is measured.
        """
        return SpawnedServer(read_options({"law": law, **options}), port)

    # -- life ----------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Listen, in a thread of its own.

        Raises
        ------
        ToolkitError
            If it runs already, or the port is taken.
        """
        if self._thread is not None:
            raise ToolkitError("the server runs already")
        # Windows' own loop, its default, cannot stop to accept without dropping what it has accepted.
        loop = asyncio.SelectorEventLoop()
        listening = threading.Event()
        failure: list[OSError] = []

        def serve() -> None:
            asyncio.set_event_loop(loop)
            try:
                listener = loop.run_until_complete(
                    loop.create_server(
                        lambda: Connection(self._service, self._connections),
                        HOST,
                        self._wanted_port,
                        backlog=_BACKLOG,
                    )
                )
            except OSError as error:
                failure.append(error)
                loop.close()
                return
            finally:
                if failure:
                    listening.set()
            self._port = listener.sockets[0].getsockname()[1]
            listening.set()
            try:
                loop.run_forever()
            finally:
                # Closed while it accepts, asyncio's server forgets the connection and never closes it.
                for listening_socket in listener.sockets:
                    loop.remove_reader(listening_socket)
                loop.run_until_complete(_all_done(asyncio.all_tasks(loop)))
                listener.close()
                for connection in tuple(self._connections):
                    connection.abort()
                loop.run_until_complete(listener.wait_closed())
                # Aborted transports close their sockets one turn of the loop later.
                loop.run_until_complete(asyncio.sleep(0))
                loop.close()

        # A daemon, so that a notebook which forgets to stop the server can still end.
        thread = threading.Thread(target=serve, name="toolkit-api-server", daemon=True)
        thread.start()
        listening.wait(_START_TIMEOUT_S)
        if failure:
            thread.join()
            raise ToolkitError(f"cannot listen on {HOST}:{self._wanted_port}: {failure[0].strerror}")
        self._loop, self._thread = loop, thread
        return self

    def stop(self) -> None:
        """Close the listening socket and all connections; the score stays readable. Safe to call twice."""
        if self._thread is None or self._loop is None:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._thread = self._loop = self._port = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    # -- addresses -----------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The port that it listens on."""
        if self._port is None:
            raise ToolkitError("the server does not run; use it in a with statement or call start()")
        return self._port

    @property
    def base_url(self) -> str:
        """The ``base_url`` for OpenAI's client."""
        return f"http://{HOST}:{self.port}/v1"

    @property
    def anthropic_url(self) -> str:
        """The ``base_url`` for Anthropic's client."""
        return f"http://{HOST}:{self.port}"

    @property
    def azure_url(self) -> str:
        """The ``azure_endpoint`` for OpenAI's client for Azure."""
        return f"http://{HOST}:{self.port}"

    # -- score ---------------------------------------------------------------------------------------

    def score(self) -> Score:
        """Return how the clients did since the start or the last ``reset_score``."""
        return self._in_loop(self._service.books.score)

    def journal(self) -> tuple[JournalRow, ...]:
        """Return a row for each request since the start or the last ``reset_score``, by arrival."""
        return self._in_loop(self._service.books.journal)

    def reset_score(self, *, refill: bool = False) -> None:
        """Start a new score.

        Parameters
        ----------
        refill : bool
            Also forget what was used of the limits, as if the server had just been started.
        """
        self._in_loop(lambda: self._service.books.reset(refill=refill))

    def _in_loop(self, task: Callable[[], T]) -> T:
        """Do something between two steps of the server; after its end, here."""
        loop = self._loop
        if loop is None:
            return task()
        done: Future[T] = Future()

        def do() -> None:
            try:
                done.set_result(task())
            except BaseException as error:
                done.set_exception(error)

        loop.call_soon_threadsafe(do)
        return done.result(_ANSWER_TIMEOUT_S)


# Notebooks and editors show the options as if they stood in the signature; they stand once, in ServerOptions.
ApiServer.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [
        inspect.Parameter("law", inspect.Parameter.POSITIONAL_OR_KEYWORD, default="openai"),
        *[
            inspect.Parameter(
                item.name, inspect.Parameter.KEYWORD_ONLY, default=getattr(_DEFAULTS, item.name)
            )
            for item in fields(ServerOptions)
            if item.name != "law"
        ],
        inspect.Parameter("clock", inspect.Parameter.KEYWORD_ONLY, default=None),
        inspect.Parameter("port", inspect.Parameter.KEYWORD_ONLY, default=0),
    ]
)
