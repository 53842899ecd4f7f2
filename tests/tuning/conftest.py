"""Tunings that need no model and no time: scripted providers on a clock of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from toolkit.clock import ManualClock
from toolkit.config import Config
from toolkit.providers.scripted import ScriptedSummarizationProvider
from toolkit.records import Episode
from toolkit.tuning import Tuned, tune


@pytest.fixture
def episodes() -> list[Episode]:
    """Eight episodes of 128 words, which are four chunks of 32 tokens or one of 128."""
    return [
        Episode.from_text(
            f"e{n}", "\n".join(f"Hill{n} {' '.join(['word'] * 29)} dry{n}{i}." for i in range(4))
        )
        for n in range(8)
    ]


class Scripted:
    """Tunings over scripted providers, whose calls are counted; a call takes a second.

    ``open`` are the providers that are not closed.
    """

    def __init__(self, episodes: list[Episode]) -> None:
        self.episodes = episodes
        self.clock = ManualClock()
        self.calls = 0
        self.open: set[ScriptedSummarizationProvider] = set()
        self.asked: set[tuple[Any, ...]] = set()

    def __call__(
        self,
        over: dict[str, Any] | None = None,
        *,
        script: Callable[[Config], dict[str, Any]] | None = None,
        settings: dict[str, Any] | None = None,
        **options: Any,
    ) -> Tuned:
        tuning = self

        class Counted(ScriptedSummarizationProvider):
            def __init__(self, config: Config) -> None:
                told = {"latency_s": 1.0} | (script(config) if script else {})
                super().__init__(config, clock=tuning.clock, **told)
                tuning.open.add(self)

            def close(self) -> None:
                tuning.open.discard(self)

            def generate(self, request: Any) -> Any:
                tuning.calls += 1
                tuning.asked.add((self.config.chunk_tokens, self.config.summary_max_tokens))
                return super().generate(request)

            def identity(self) -> dict[str, Any]:
                return {"provider": "scripted"}

        config = Config(provider="scripted", **{"chunk_tokens": 32, **(settings or {})})
        return tune(self.episodes, config, over, **{"provider": Counted, "clock": self.clock, **options})


@pytest.fixture
def scripted(episodes: list[Episode]) -> Scripted:
    return Scripted(episodes)
