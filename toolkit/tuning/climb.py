"""Going up the rungs: what is known of each setting, and which of them go on."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence

from toolkit.clock import Clock
from toolkit.config import Config
from toolkit.errors import ConfigError, ToolkitError
from toolkit.latency import LatencyModel
from toolkit.planning import need_of
from toolkit.providers.registry import get_provider
from toolkit.records import Episode
from toolkit.sweeps import Sweep, sweep
from toolkit.sweeps.cells import Cell
from toolkit.sweeps.measuring import endpoint_of
from toolkit.sweeps.spending import Budget, MakeProvider
from toolkit.tuning.goals import Goal
from toolkit.tuning.predicting import Endpoint, Predictor, estimate
from toolkit.tuning.rungs import Rung, pilot_rung
from toolkit.tuning.tuned import Evidence, Tuned
from toolkit.wording import counted

_NEED_OF = 5
"""Settings whose need is worked out, for what a budget will do for; the rest is taken to need as much."""
_TIE = 3
"""Significant digits to which two costs are the same, so that the faster setting is the better one."""


class Climb:
    """A tuning under way: what is known of each setting, and which of them go on.

    Parameters
    ----------
    id : str
    episodes : sequence of Episode
        In the order in which rungs take them.
    config : Config
    settings : sequence of Cell
    goal : Goal
    budget : Budget
        For all runs together.
    seed : int
    latency : LatencyModel or None
    provider : callable or None
    progress : bool or None
    clock : Clock or None
    """

    def __init__(
        self,
        id: str,
        episodes: Sequence[Episode],
        config: Config,
        settings: Sequence[Cell],
        goal: Goal,
        budget: Budget,
        *,
        seed: int,
        latency: LatencyModel | None,
        provider: MakeProvider | None,
        progress: bool | None,
        clock: Clock | None,
    ) -> None:
        self.id = id
        self._episodes = episodes
        self._config = config
        self._goal = goal
        self._budget = budget
        self._seed = seed
        self._provider = provider
        self._progress = progress
        self._clock = clock
        self._known = {cell.number: Evidence(cell) for cell in settings}
        self._predictor = Predictor(config, goal, seed, provider, latency)
        self._predicted: dict[int, float] = {}
        self._going: list[Cell] = []
        self._sweeps: list[Sweep] = []
        self._warm: set[Endpoint] = set()
        self._error: str | None = None

    # Beginning

    def affordable_episodes(self) -> float:
        """Return how many episodes the budget will do for, if every reply is as long as it may be."""
        if not self._budget.is_set:
            return math.inf
        make = self._provider or get_provider
        least = math.inf
        cells = [evidence.cell for evidence in self._known.values()]
        for cell in random.Random(self._seed).sample(cells, min(_NEED_OF, len(cells))):
            try:
                with make(cell.config) as own:
                    need = need_of(own, self._episodes)
            except ToolkitError:  # it will say so in its own row
                continue
            for limit, amount in zip(self._budget, (need.usd, need.tokens, need.calls), strict=True):
                if limit is not None and amount:
                    least = min(least, len(self._episodes) * limit / amount)
        return least - 1  # for the first calls, which are no measurement

    def begin_by_simulation(self, pilots: Sequence[Cell], rungs: Sequence[Rung]) -> None:
        """Run the pilots, over more episodes if those were too few calls, and let the best begin."""
        problem: str | None = None
        for rung in rungs:
            if not pilots or self._stopped:
                break
            flights: dict[Rung, list[Cell]] = {}
            for cell in pilots:
                own = pilot_rung(rungs, rung, cell.config.summary_batch_size)
                flights.setdefault(own, []).append(cell)
            found: dict[Endpoint, str] = {}
            for own, cells in flights.items():
                if not self._stopped:
                    self._run(cells, own)
                    found = self._learn()
            # A model of which all pilots fail is out; the others are tuned without it.
            pilots = [cell for cell in pilots if not self._known[cell.number].broken]
            problem = next(
                (found[one] for cell in pilots if (one := endpoint_of(cell.config)) in found), None
            )
            if problem is None:
                break
        if problem is not None and not self._stopped:
            raise ConfigError(f"{problem}; or tune with more or longer episodes, or give latency=")
        self._predict()
        for number, value in self._predicted.items():
            self._known[number].predicted = value
        if not self._predicted and not self._stopped:
            why = self._error or "all simulations failed"
            raise ToolkitError(f"no setting could be run or simulated: {why}")
        self._going = self._best(self._known.values(), rungs[0].settings)

    def begin_by_chance(self, count: int) -> None:
        """Let so many settings begin, all of them or some by chance."""
        cells = [evidence.cell for evidence in self._known.values()]
        self._going = cells if count >= len(cells) else random.Random(self._seed).sample(cells, count)
        chosen = {cell.number for cell in self._going}
        for number, evidence in self._known.items():
            if number not in chosen:
                evidence.dropped = "not tried: the budget, or really=, does not do for all"

    # Climbing

    def climb(self, rungs: Sequence[Rung], really: int) -> None:
        """Go up the rungs with ever fewer settings."""
        for place, rung in enumerate(rungs):
            if self._stopped or not self._going:
                return
            self._run(self._going, rung)
            if self._stopped:
                return
            if self._goal.simulated:
                self._learn()
                self._predict()
            if place + 1 < len(rungs):
                self._choose(rungs[place + 1], rung, really)

    def _choose(self, coming: Rung, rung: Rung, really: int) -> None:
        """Take the best for the next rung: also one that was not run, if there is still room for such."""
        went = {cell.number for cell in self._going}
        room = really - sum(evidence.runs > 0 for evidence in self._known.values())
        if self._goal.simulated:
            self._going = self._best(self._known.values(), coming.settings, room)
        else:
            # What was measured over fewer episodes does not compare.
            self._going = self._best([self._known[number] for number in went], coming.settings, 0)
        goes_on = {cell.number for cell in self._going}
        if not goes_on:
            return
        values = [value for number in goes_on if (value := self._known[number].estimate) is not None]
        least = min(values, key=self._goal.better) if values else math.nan
        for number in went - goes_on:
            evidence = self._known[number]
            evidence.dropped = evidence.dropped or (
                f"after {counted(rung.episodes, 'episode')} taken for {evidence.estimate:.4g}, where what "
                f"went on was at {least:.4g} or better"
            )
        for number in goes_on:
            self._known[number].dropped = None

    def _best(self, among: Iterable[Evidence], count: int, room: int | None = None) -> list[Cell]:
        """Return the best settings by what is known; with ``room`` at most so many that were never run."""
        found: list[Cell] = []
        for evidence in sorted(among, key=self._rank):
            if len(found) == count or evidence.estimate is None:
                break
            if room is not None and not evidence.runs:
                if room <= 0:
                    continue
                room -= 1
            found.append(evidence.cell)
        return found

    def _rank(self, evidence: Evidence) -> tuple[float, float]:
        if evidence.estimate is None:
            return math.inf, 0.0
        value = evidence.estimate
        if self._goal.measure == "cost_usd":
            return float(f"{value:.{_TIE - 1}e}"), -self._predictor.speed.get(evidence.cell.number, 0.0)
        return -self._goal.better(value), 0.0

    # Running

    @property
    def _stopped(self) -> bool:
        return self._predictor.interrupted or any(
            study.interrupted or study.stopped_because for study in self._sweeps
        )

    def _run(self, cells: Sequence[Cell], rung: Rung) -> None:
        """Run settings over the first episodes, and take note of what they came to."""
        import pandas as pd

        config = self._config
        if self._budget.is_set:
            config = config.replace(
                budget_usd=self._budget.usd,
                budget_tokens=self._budget.tokens,
                budget_calls=self._budget.calls,
                budget_name=config.budget_name or f"tune {self.id}",
            )
        endpoints = {endpoint_of(cell.config) for cell in cells}
        study = sweep(
            self._episodes[: rung.episodes],
            config,
            cells=[cell.knobs for cell in cells],
            repeats=rung.repeats,
            seed=self._seed,
            name=f"tune {self.id}",
            confirm=True,
            score=self._goal.score,
            warm_up=not endpoints <= self._warm,
            provider=self._provider,
            progress=self._progress,
            clock=self._clock,
        )
        self._sweeps.append(study)
        self._warm |= endpoints
        means = study.means(self._goal.measure)
        rows = study.cells
        for place, cell in enumerate(cells):
            evidence, own = self._known[cell.number], rows[rows["cell"] == place + 1]
            reached = own[own["status"] != "cancelled"]
            evidence.ran |= {(rung.episodes, int(repeat)) for repeat in reached["repeat"]}
            value = means[self._goal.measure].iloc[place]
            failed = own[own["status"] == "failed"]
            if len(failed):
                self._break(evidence, f"failed: {failed['error'].iloc[0]}")
            elif not pd.isna(value):
                evidence.measured[rung.episodes] = evidence.estimate = float(value)
            elif len(reached):
                why = own["error"].dropna()
                self._break(evidence, f"no {self._goal.measure}" + (f": {why.iloc[0]}" if len(why) else ""))

    def _break(self, evidence: Evidence, why: str) -> None:
        evidence.broken, evidence.dropped, evidence.estimate = True, why, None
        self._error = self._error or f"setting {evidence.cell.number} {why}"

    def _learn(self) -> dict[Endpoint, str]:
        """Fit the latency models to what the last sweep ran."""
        study = self._sweeps[-1]
        runs = ((study.config_of(place[0]), study.runs[place]) for place in study.runs)
        return self._predictor.learn(runs)

    def _predict(self) -> None:
        """Predict all settings anew, and carry over to all episodes what was measured over some."""
        cells = [evidence.cell for evidence in self._known.values()]
        self._predicted = self._predictor.predict(cells, self._episodes)
        then: dict[int, float] = {}
        measured: dict[int, float] = {}
        for size in {evidence.episodes for evidence in self._known.values()} - {0}:
            those = [evidence for evidence in self._known.values() if evidence.episodes == size]
            measured |= {evidence.cell.number: evidence.measured[size] for evidence in those}
            then |= self._predictor.predict([one.cell for one in those], self._episodes[:size])
        estimates = estimate(self._predicted, measured, then)
        for number, evidence in self._known.items():
            evidence.predicted_last = self._predicted.get(number)
            if not evidence.broken:
                evidence.estimate = estimates.get(number, evidence.estimate)

    # The end

    def result(self) -> Tuned:
        """Return the best of those that were run furthest.

        Raises
        ------
        ToolkitError
            If none was.
        """
        furthest = max((evidence.episodes for evidence in self._known.values()), default=0)
        last = [
            evidence
            for evidence in self._known.values()
            if evidence.episodes == furthest and evidence.estimate is not None
        ]
        if not furthest or not last:
            why = self._error or next((s.stopped_because for s in self._sweeps if s.stopped_because), None)
            raise ToolkitError(f"no setting could be run to its end: {why or 'the tuning was interrupted'}")
        for evidence in last:
            evidence.estimate = evidence.measured[furthest]
        best = min(last, key=self._rank)
        for evidence in self._known.values():
            if evidence is best:
                evidence.dropped = None
            elif evidence.dropped is None:
                evidence.dropped = self._why_not(evidence, best)
        return Tuned(
            id=self.id,
            goal=self._goal,
            best=best,
            known=list(self._known.values()),
            models=self._predictor.models,
            sweeps=self._sweeps,
            interrupted=self._predictor.interrupted or any(study.interrupted for study in self._sweeps),
            stopped_because=next((s.stopped_because for s in self._sweeps if s.stopped_because), None),
        )

    def _why_not(self, evidence: Evidence, best: Evidence) -> str:
        if evidence.episodes == best.episodes:
            return f"measured {evidence.estimate:.4g}, the best {best.estimate:.4g}"
        if evidence.runs and evidence.estimate is not None:
            return f"after {counted(evidence.episodes, 'episode')} taken for {evidence.estimate:.4g}"
        if evidence.estimate is None:
            return "could not be simulated" if self._goal.simulated else "not reached when the tuning stopped"
        return f"taken for {evidence.estimate:.4g} by simulation, and not run"
