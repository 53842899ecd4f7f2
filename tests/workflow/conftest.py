"""Episodes by the handful, and runs over them that need no model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from toolkit.clock import ManualClock
from toolkit.config import Config
from toolkit.providers.scripted import ScriptedSummarizationProvider
from toolkit.records import Episode
from toolkit.runs import Run
from toolkit.workflow import run

MakeEpisodes = Callable[..., list[Episode]]


def make_episodes(count: int, *, lines: int = 1) -> list[Episode]:
    """Make episodes ``e0``, ``e1`` … of lines that just fill a chunk of 32 words each."""
    line = " ".join(["word"] * 30)
    return [
        Episode.from_text(f"e{n}", "\n".join(f"Hill{n} {line} dry{i}." for i in range(lines)))
        for n in range(count)
    ]


@pytest.fixture
def run_scripted() -> Callable[..., Run]:
    """Run episodes by script: ``run_scripted(episodes, replies=..., summary_batch_size=2, ...)``."""

    def go(
        episodes: Any,
        *,
        script: dict[str, Any] | None = None,
        provider: ScriptedSummarizationProvider | None = None,
        kwargs: dict[str, Any] | None = None,
        **settings: Any,
    ) -> Run:
        clock = ManualClock()
        config = Config(provider="scripted", **{"chunk_tokens": 32, **settings})
        provider = provider or ScriptedSummarizationProvider(config, **{"clock": clock, **(script or {})})
        return run(episodes, config, provider=provider, **{"clock": clock, **(kwargs or {})})

    return go


@pytest.fixture(name="make_episodes")
def _make_episodes() -> MakeEpisodes:
    """Make episodes: ``make_episodes(3, lines=2)``."""
    return make_episodes
