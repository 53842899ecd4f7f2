"""Simulating a cell: the same frames from a virtual clock, of which only the figures are kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from toolkit.latency import LatencyModel
from toolkit.providers.base import SummarizationProvider
from toolkit.records import Episode, Status
from toolkit.runs import Run
from toolkit.simulation import simulate
from toolkit.sweeps.cells import Cell
from toolkit.sweeps.figures import Ended, how_it_ended, measure
from toolkit.sweeps.order import Planned
from toolkit.sweeps.results import Row
from toolkit.sweeps.spending import MakeProvider


class Simulating:
    """Simulates cells; all cells of a repeat meet the same chances, so that they differ by their settings.

    Parameters
    ----------
    episodes : sequence of Episode
    latency : LatencyModel
    seed : int
    make : callable or None
        Makes the provider of a config, whose prompts and limits hold; None: the one that it names.
    """

    def __init__(
        self,
        episodes: Sequence[Episode],
        latency: LatencyModel,
        seed: int,
        make: MakeProvider | None = None,
    ) -> None:
        self._make = make
        self._episodes = episodes
        self._latency = latency
        self._seed = seed

    def __call__(self, planned: Planned) -> Row:
        """Simulate a cell; whatever goes wrong stands in its row."""
        cell, repeat = planned.cell, planned.repeat
        values: dict[str, Any] = {"order": planned.order, "parallel": 1}
        try:
            run = self._simulate(cell, repeat)
        except Exception as error:
            ended = Ended(Status.FAILED, f"{type(error).__name__}: {error}")
        else:
            ended = how_it_ended(run)
            values |= measure(run)
        return Row(cell, repeat, {**values, "status": ended.status.value, "error": ended.error})

    def fetch(self, cell: Cell, repeat: int) -> Callable[[], Run]:
        """Return what simulates a cell again: to keep thousands of runs would take memory, not time."""
        return lambda: self._simulate(cell, repeat)

    def _simulate(self, cell: Cell, repeat: int) -> Run:
        own: AbstractContextManager[SummarizationProvider | None]
        own = nullcontext() if self._make is None else self._make(cell.config)
        with own as provider:
            return simulate(
                self._episodes,
                cell.config,
                latency=self._latency,
                seed=chance_of(self._seed, repeat),
                provider=provider,
            )


def chance_of(seed: int, repeat: int) -> int:
    """Return the seed of a repeat."""
    return int.from_bytes(hashlib.sha256(json.dumps([seed, repeat]).encode()).digest()[:4])
