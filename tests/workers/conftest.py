"""Runs whose episodes other processes work on, against a server on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from toolkit.testing import ApiServer


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """Return settings with which processes share a store and limits of their own."""
    return {
        "store_url": f"sqlite:///{tmp_path}/runs.db",
        "limits_url": f"sqlite:///{tmp_path}/limits.db",
        "episode_backend": "processes",
        "summary_batch_size": 2,
    }


@pytest.fixture
def server() -> Iterator[ApiServer]:
    """Start a server without limits that bind, whose calls take a fifth of a second."""
    with ApiServer(requests_per_minute=60_000, tokens_per_minute=60_000_000, latency=0.2) as server:
        yield server


@pytest.fixture
def hosted(settings: dict[str, Any], server: ApiServer) -> dict[str, Any]:
    """Return settings for that server."""
    return {
        **settings,
        "provider": "openai",
        "openai_base_url": server.base_url,
        "openai_requests_per_minute": 60_000,
        "openai_tokens_per_minute": 60_000_000,
        "openai_max_concurrent_requests": 64,
        "chunk_tokens": 64,
    }
