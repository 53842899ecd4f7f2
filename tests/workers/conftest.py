"""Runs whose episodes other processes work on, against a server on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from joblib.externals.loky import get_reusable_executor

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


DEADLY = """
import os
from toolkit.providers.base import SummarizationProvider
from toolkit.records import Reply, Usage

class Deadly(SummarizationProvider):
    name, default_model = "deadly", "none"

    def generate(self, request):
        if "poison" in request.prompt:
            os._exit(9)
        return Reply("Fine.", Usage(1, 1))
"""


@pytest.fixture
def deadly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a provider, here and in new processes, that takes its worker with it at a word."""
    folder = tmp_path / "site"
    about = folder / "deadly-1.0.dist-info"
    about.mkdir(parents=True)
    (folder / "deadly.py").write_text(DEADLY)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: deadly\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[toolkit.providers]\ndeadly = deadly:Deadly\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    # Processes of earlier tests know nothing of it.
    get_reusable_executor().shutdown(wait=True, kill_workers=True)
