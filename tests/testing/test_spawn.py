"""The server in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import openai
import pytest

from toolkit.errors import ConfigError, ToolkitError
from toolkit.testing import ApiServer, SpawnedServer
from toolkit.testing.__main__ import main

Ask = Callable[..., Any]


def test_a_spawned_server(ask: Ask) -> None:
    """It answers, scores, resets, keeps its key to itself, and is gone afterwards."""
    with ApiServer.spawn(requests_per_minute=2, key="secret") as server:
        process_id = server.process_id
        with openai.OpenAI(base_url=server.base_url, api_key="secret", max_retries=0) as client:
            ask(client)
            assert server.score().paid == 1
            assert server.journal()[0].whole
            server.reset_score(refill=True)
            assert server.score().requests == 0
            ask(client)
            ask(client)
            assert server.score().quota_share == pytest.approx(1.0, abs=0.05)
        if sys.platform == "linux":
            with open(f"/proc/{process_id}/cmdline", "rb") as file:
                assert b"secret" not in file.read()
    with pytest.raises(OSError):  # noqa: PT011 - which one depends on the system
        os.kill(process_id, 0)
    with pytest.raises(ToolkitError):
        server.score()


def test_options_are_checked_here() -> None:
    with pytest.raises(ConfigError):
        ApiServer.spawn(law="none")
    assert isinstance(ApiServer.spawn(), SpawnedServer)


def test_the_command(ask: Ask) -> None:
    """Prints its addresses as one line of JSON and ends on SIGTERM with status 0."""
    arguments = ["--law", "azure", "--requests-per-minute", "60", "--latency", "[0.001, 0, 0]"]
    with subprocess.Popen(
        [sys.executable, "-m", "toolkit.testing", *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        with openai.OpenAI(base_url=told["base_url"], api_key="any", max_retries=0) as client:
            assert ask(client).choices
        process.terminate()
        assert process.wait(10) == 0


def test_the_command_refuses_wrong_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--law", "none"]) == 2
    assert "law='none'" in capsys.readouterr().err
