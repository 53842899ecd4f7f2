"""Two API servers that others wrote, each in a process of its own: llmock from PyPI and aimock from npm.

Both take any free port, say which one on their output, and have an interface of their own to be told what
to answer and to be asked what came.
"""

from __future__ import annotations

import itertools
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from toolkit.config import Config
from toolkit.records import Episode

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 10
AIMOCK = "node_modules/@copilotkit/aimock/dist/cli.js"
WIDE = 10**9
_keys = itertools.count()


class Server:
    """A server's process.

    Parameters
    ----------
    command : sequence of str
    listening : str
        What it prints once it listens; the port is the pattern's only group.
    anthropic_path : str
        Where it speaks Anthropic's protocol.
    """

    def __init__(self, command: Sequence[str], listening: str, anthropic_path: str) -> None:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("LLMOCK_", "AIMOCK_"))
        }
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            env={**environment, "PYTHONIOENCODING": "utf-8"},
        )
        self._words: deque[str] = deque(maxlen=40)
        found: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=(re.compile(listening), found), daemon=True)
        self._reader.start()
        try:
            port = found.get(timeout=START_TIMEOUT_S)
        except queue.Empty:
            port = None
        if port is None:
            self.stop()
            raise RuntimeError(f"{command[:3]} did not come up; its last words:\n{''.join(self._words)}")
        self.port = int(port)
        self.url = f"http://127.0.0.1:{port}"
        self._anthropic_path = anthropic_path

    def _read(self, listening: re.Pattern[str], found: queue.Queue[str | None]) -> None:
        """Read what it prints to the end, so that it never waits for a reader."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._words.append(line)
            if match := listening.search(line):
                found.put(match[1])
        found.put(None)

    def stop(self) -> None:
        """End the process, and no other."""
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(STOP_TIMEOUT_S)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Ask as another program does; return status and body."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, {"content-type": "application/json", **headers})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def tell(self, method: str, path: str, body: Any = None) -> Any:
        """Use the server's own interface."""
        status, told = self.ask(method, path, body)
        assert status < 300, told
        return told

    def config(self, provider: str = "openai", **settings: Any) -> Config:
        """Return settings that reach the server as a new account, through wide limits, with small requests.

        ``requests_per_minute``, ``tokens_per_minute`` and ``max_concurrent`` are given the vendor's names.
        """
        wide = {"requests_per_minute": WIDE, "tokens_per_minute": WIDE, "max_concurrent": 8}
        limits = {name: settings.pop(name, default) for name, default in wide.items()}
        vendors = {
            "openai": {
                "model": "gpt-4o-mini",
                "openai_base_url": f"{self.url}/v1",
                "openai_tokens_per_minute": limits["tokens_per_minute"],
            },
            "anthropic": {
                "model": "claude-haiku-4-5",
                "anthropic_base_url": f"{self.url}{self._anthropic_path}",
                "anthropic_input_tokens_per_minute": limits["tokens_per_minute"],
                "anthropic_output_tokens_per_minute": limits["tokens_per_minute"],
            },
        }
        return Config(
            provider=provider,
            **{
                "limits_url": "memory://",
                "system_prompt": "",
                "direct_prompt": "{text}",
                "summary_max_tokens": 100,
                "summary_batch_size": 8,
                f"{provider}_api_key": f"key-of-account-{next(_keys)}",
                f"{provider}_requests_per_minute": limits["requests_per_minute"],
                f"{provider}_max_concurrent_requests": limits["max_concurrent"],
                **vendors[provider],
                **settings,
            },
        )


class LlMock(Server):
    """llmock: buckets for requests and tokens for each key, scripted faults, a journal with times."""

    def __init__(self, limits: Sequence[str]) -> None:
        super().__init__(
            [
                *(sys.executable, "-m", "llmock.cli", "serve", "--host", "127.0.0.1", "--port", "0"),
                *("--response-style", "static"),
                *limits,
            ],
            r"running on http://127\.0\.0\.1:(\d+)",
            "/anthropic",
        )

    def script(self, *behaviors: dict[str, Any]) -> None:
        """Say what becomes of the next requests, one behaviour each."""
        self.tell("POST", "/_llmock/scenario", {"behaviors": behaviors})

    def fail(self, status: int, **more: Any) -> None:
        """Let the next request fail."""
        self.script({"type": "fail", "status": status, **more})

    def use_up(self, config: Config) -> None:
        """Ask until nothing is left, as another program on the same account; it is in no journal."""
        secret = config.openai_api_key or config.anthropic_api_key
        assert secret is not None
        path = "/v1/chat/completions" if config.openai_api_key else "/anthropic/v1/messages"
        body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}
        while self.ask("POST", path, body, authorization=f"Bearer {secret.get_secret_value()}")[0] == 200:
            pass
        self.tell("DELETE", "/_llmock/requests")

    def journal(self) -> list[dict[str, Any]]:
        """Return what came and how it was answered, by arrival."""
        rows: list[dict[str, Any]] = self.tell("GET", "/_llmock/requests")["requests"]
        return rows

    def findings(self) -> list[dict[str, Any]]:
        """Return what llmock itself has to say against the client."""
        found: list[dict[str, Any]] = self.tell("GET", "/_llmock/verdict")["findings"]
        return found


class AiMock(Server):
    """aimock: answers by fixtures, and chaos for all requests or for one fixture's."""

    def __init__(self, node: str, script: Path, fixtures: Path) -> None:
        super().__init__(
            [node, str(script), "-h", "127.0.0.1", "-p", "0", "-f", str(fixtures)],
            r"listening on http://127\.0\.0\.1:(\d+)",
            "",
        )

    def answer(self, *fixtures: dict[str, Any]) -> None:
        """Add fixtures; the first one that matches answers."""
        self.tell("POST", "/__aimock/fixtures", {"fixtures": fixtures})

    def chaos(self, **rates: float) -> None:
        """Let requests fail at random, or always at a rate of 1."""
        self.tell("POST", "/__aimock/chaos", rates)

    def journal(self) -> list[dict[str, Any]]:
        """Return what came and how it was answered; without those that did not wait for their answer."""
        rows: list[dict[str, Any]] = self.tell("GET", "/__aimock/journal")
        return rows


@pytest.fixture(scope="session")
def _llmocks() -> Iterator[Callable[..., LlMock]]:
    running: dict[tuple[str, ...], LlMock] = {}

    def serve(*limits: str) -> LlMock:
        if limits not in running:
            running[limits] = LlMock(limits)
        return running[limits]

    yield serve
    for server in running.values():
        server.stop()


@pytest.fixture
def llmock_with(_llmocks: Callable[..., LlMock]) -> Callable[..., LlMock]:
    """Return llmock with some limits, as if just started: ``llmock_with(rpm=60, tpm=6000)``."""

    def serve(**limits: int) -> LlMock:
        server = _llmocks(*(word for name, limit in limits.items() for word in (f"--{name}", str(limit))))
        server.tell("POST", "/_llmock/reset")
        return server

    return serve


@pytest.fixture(scope="session")
def _aimock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AiMock]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed, which runs aimock")
    script = Path(os.environ.get("AIMOCK_HOME", "")) / AIMOCK
    if not script.is_file():
        pytest.skip(
            "AIMOCK_HOME names no folder that holds aimock; "
            "npm install --prefix FOLDER @copilotkit/aimock@1.43.0 makes one"
        )
    folder = tmp_path_factory.mktemp("aimock")
    (folder / "any.json").write_text(json.dumps({"fixtures": [{"match": {}, "response": {"content": "x"}}]}))
    server = AiMock(node, script, folder)
    yield server
    server.stop()


@pytest.fixture
def aimock(_aimock: AiMock) -> AiMock:
    """Return aimock without fixtures, chaos and journal."""
    _aimock.tell("POST", "/__aimock/reset")
    return _aimock


@pytest.fixture
def make_episodes() -> Callable[..., list[Episode]]:
    """Make episodes ``e0``, ``e1`` … of different texts; ``length(n)`` gives the letters of each."""

    def make(count: int, length: Callable[[int], int] = lambda n: 20) -> list[Episode]:
        texts = [(f"Hill {n} is dry. " * length(n))[: length(n)] for n in range(count)]
        return [Episode.from_text(f"e{n}", text) for n, text in enumerate(texts)]

    return make
