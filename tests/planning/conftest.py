"""A latency model that is stated, and a cache without any model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from toolkit.records import Stage


@dataclass(frozen=True)
class Stated:
    """Seconds a call, a share of them more for each call that is served beside it, and tokens a reply."""

    seconds: float = 1.0
    crowding: float = 0.0
    tokens: float = 50.0

    def mean_service_s(self, input_tokens: float, output_tokens: float, width: float = 1) -> float:
        return self.seconds * (1 + self.crowding * (width - 1))

    def mean_output_tokens(self, stage: Stage, cap: int) -> float:
        return min(cap, self.tokens)


@pytest.fixture(autouse=True)
def _no_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let no test depend on a model that this machine happens to have."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture(name="stated")
def _stated() -> type[Stated]:
    """Make latency models: ``stated(seconds=2.0)``."""
    return Stated
