"""What a setting would come to, by simulations that follow what was really run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from toolkit.config import Config
from toolkit.errors import ConfigError
from toolkit.latency import LatencyModel
from toolkit.records import Episode
from toolkit.runs import Run
from toolkit.sweeps import sweep
from toolkit.sweeps.cells import Cell
from toolkit.sweeps.measuring import endpoint_of
from toolkit.sweeps.spending import MakeProvider
from toolkit.tuning.goals import Goal

LUCKS = 3
"""Simulations of each setting: their mean is the prediction, and all settings meet the same chances."""

Endpoint = tuple[Any, ...]


class Predictor:
    """Latency models, one for each model and server, and what they say of settings.

    Parameters
    ----------
    config : Config
        What all settings have in common.
    goal : Goal
    seed : int
    make : callable or None
        Makes the provider of a config.
    latency : LatencyModel, optional
        By which to begin; from the first runs on, they count.

    Attributes
    ----------
    models : dict
        By model and server.
    speed : dict
        Episodes an hour of the settings that were predicted last, by their numbers.
    interrupted : bool
        Whether somebody stopped it.
    """

    def __init__(
        self,
        config: Config,
        goal: Goal,
        seed: int,
        make: MakeProvider | None,
        latency: LatencyModel | None,
    ) -> None:
        self._config = config
        self._goal = goal
        self._seed = seed
        self._make = make
        self._given = latency
        self._runs: dict[Endpoint, dict[str, Run]] = {}
        self.models: dict[Endpoint, LatencyModel] = {}
        self.speed: dict[int, float] = {}
        self.interrupted = False

    def learn(self, runs: Iterable[tuple[Config, Run]]) -> dict[Endpoint, str]:
        """Fit the models to these runs too; return what is wrong where there are still too few."""
        for config, run in runs:
            self._runs.setdefault(endpoint_of(config), {})[run.id] = run
        problems = {}
        for endpoint, known in self._runs.items():
            try:
                self.models[endpoint] = LatencyModel.fit(*known.values())
            except ConfigError as few:
                problems[endpoint] = str(few)
        return problems

    def knows(self, cell: Cell) -> bool:
        """Whether there is a model for a setting."""
        return self._given is not None or endpoint_of(cell.config) in self.models

    def predict(self, cells: Sequence[Cell], episodes: Sequence[Episode]) -> dict[int, float]:
        """Return the goal's measure of settings, by their numbers; without those not known."""
        groups: dict[Endpoint, list[Cell]] = {}
        for cell in cells:
            if self.knows(cell):
                groups.setdefault(endpoint_of(cell.config), []).append(cell)
        found: dict[int, float] = {}
        for endpoint, group in groups.items():
            if self.interrupted:
                break
            latency = self.models.get(endpoint) or self._given
            study = sweep(
                episodes,
                self._config,
                cells=[cell.knobs for cell in group],
                simulate=True,
                latency=latency,
                repeats=LUCKS,
                seed=self._seed,
                provider=self._make,
                progress=False,
            )
            self.interrupted |= study.interrupted
            means = study.means(self._goal.measure, "episodes_per_h")
            for cell, row in zip(group, means.to_dict("records"), strict=True):
                if not math.isnan(value := row[self._goal.measure]):
                    found[cell.number] = value
                    self.speed[cell.number] = row["episodes_per_h"]
        return found


def estimate(
    predicted: Mapping[int, float],
    measured: Mapping[int, float],
    predicted_then: Mapping[int, float],
) -> dict[int, float]:
    """Return the best guess of each setting's measure over all episodes.

    What was measured over some of the episodes is carried over to all by the simulation's ratio between the
    two; what was not measured is predicted, and corrected by the median of what the measured ones were off.

    Parameters
    ----------
    predicted : mapping
        By setting, over all episodes.
    measured, predicted_then : mapping
        By setting, over the episodes over which it was measured.
    """
    off = {
        number: measured[number] / predicted_then[number]
        for number in measured
        if predicted_then.get(number) and measured[number]
    }
    usual = sorted(off.values())[len(off) // 2] if off else 1.0
    return {number: value * off.get(number, usual) for number, value in predicted.items()}
