"""A server in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from toolkit.errors import ToolkitError
from toolkit.testing.ledger import JournalRow, Score
from toolkit.testing.options import ServerOptions
from toolkit.testing.service import CONTROL

_STOP_TIMEOUT_S = 10.0
_PACKAGE_PARENT = Path(__file__).resolve().parents[2]


class SpawnedServer:
    """A server in a process of its own, which ends with its parent; made by ``ApiServer.spawn``.

    Parameters
    ----------
    options : ServerOptions
    port : int
        0 takes a free one.

    Attributes
    ----------
    base_url, anthropic_url, azure_url : str
        As those of ``ApiServer``.
    """

    def __init__(self, options: ServerOptions, port: int = 0) -> None:
        self.options = options
        self._wanted_port = port
        self._process: subprocess.Popen[str] | None = None
        self.port = 0
        self.base_url = self.anthropic_url = self.azure_url = ""

    @property
    def process_id(self) -> int:
        """The number of the server's process."""
        if self._process is None:
            raise ToolkitError("the server does not run; use it in a with statement or call start()")
        return self._process.pid

    def __repr__(self) -> str:
        return f"<SpawnedServer law={self.options.law!r} {self.base_url or 'not running'}>"

    def start(self) -> Self:
        """Start the process and wait until it listens.

        Raises
        ------
        ToolkitError
            If it runs already, or did not come up.
        """
        if self._process is not None:
            raise ToolkitError("the server runs already")
        paths = [str(_PACKAGE_PARENT), os.environ.get("PYTHONPATH", "")]
        process = subprocess.Popen(
            [sys.executable, "-m", "toolkit.testing", "--port", str(self._wanted_port), "--stdin"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)},
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            # Keys are among the options: they go through a pipe and not through the list of processes.
            process.stdin.write(json.dumps(self.options.to_json()) + "\n")
            process.stdin.flush()
            told = json.loads(process.stdout.readline())
        except (OSError, ValueError):
            _end(process)
            raise ToolkitError("the server's process did not come up; its own words stand above") from None
        self._process = process
        self.port = told["port"]
        self.base_url = told["base_url"]
        self.anthropic_url = told["anthropic_url"]
        self.azure_url = told["azure_url"]
        return self

    def stop(self) -> None:
        """End the process. Safe to call twice."""
        if self._process is not None:
            process, self._process = self._process, None
            _end(process)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def score(self) -> Score:
        """Return how the clients did since the start or the last ``reset_score``."""
        return Score.from_json(self._ask("GET", "score"))

    def journal(self) -> tuple[JournalRow, ...]:
        """Return a row for each request since the start or the last ``reset_score``, by arrival."""
        return tuple(JournalRow(**row) for row in self._ask("GET", "journal"))

    def reset_score(self, *, refill: bool = False) -> None:
        """Start a new score; ``refill`` also forgets what was used of the limits."""
        self._ask("POST", f"reset?refill={int(refill)}")

    def _ask(self, method: str, what: str) -> Any:
        if self._process is None:
            raise ToolkitError("the server does not run; ask for the score before it is stopped")
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, CONTROL + what)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


def _end(process: subprocess.Popen[str]) -> None:
    """Close the pipe that the process lives by; kill it if it does not see that, nor a signal."""
    assert process.stdin is not None
    assert process.stdout is not None
    # The pipe breaks if the process ended before it read what was still in it.
    with suppress(OSError):
        process.stdin.close()
    # A process that was forked meanwhile may hold the pipe open.
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
