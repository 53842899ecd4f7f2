"""Sweeps that need no model and no time: scripted providers on a clock of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from toolkit.clock import ManualClock
from toolkit.config import Config
from toolkit.providers.scripted import ScriptedSummarizationProvider
from toolkit.records import Episode
from toolkit.sweeps import Sweep, sweep


@pytest.fixture
def episodes() -> list[Episode]:
    """Three episodes of two chunks each at 32 tokens, which differ in every line."""
    line = " ".join(["word"] * 28)
    return [
        Episode.from_text(f"e{n}", "\n".join(f"Hill{n} {line} dry{n}{i}." for i in range(2)))
        for n in range(3)
    ]


class Scripted:
    """Sweeps over scripted providers.

    ``made`` are the configs that they were made with, ``open`` those that are not closed.
    """

    def __init__(self, episodes: list[Episode]) -> None:
        self.episodes = episodes
        self.clock = ManualClock()
        self.made: list[Config] = []
        self.open: set[ScriptedSummarizationProvider] = set()
        self.calls = 0

    def __call__(
        self,
        grid: dict[str, Any] | None = None,
        *,
        script: Callable[[Config], dict[str, Any]] | None = None,
        settings: dict[str, Any] | None = None,
        **options: Any,
    ) -> Sweep:
        def make(config: Config) -> ScriptedSummarizationProvider:
            self.made.append(config)
            told = {"latency_s": 1.0} if script is None else script(config)
            return Counted(self, config, **told)

        class Counted(ScriptedSummarizationProvider):
            def __init__(self, owner: Scripted, config: Config, **told: Any) -> None:
                super().__init__(config, clock=owner.clock, **told)
                self.owner = owner
                owner.open.add(self)

            def close(self) -> None:
                self.owner.open.discard(self)

            def generate(self, request: Any) -> Any:
                self.owner.calls += 1
                return super().generate(request)

            def identity(self) -> dict[str, Any]:
                return {"provider": "scripted"}

        config = Config(provider="scripted", **{"chunk_tokens": 32, **(settings or {})})
        return sweep(self.episodes, config, grid, **{"provider": make, "clock": self.clock, **options})


@pytest.fixture
def scripted(episodes: list[Episode]) -> Scripted:
    return Scripted(episodes)
