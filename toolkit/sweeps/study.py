"""``sweep``: the same episodes under many settings, each measured several times."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from toolkit.arguments import read_episodes
from toolkit.clock import Clock, SystemClock
from toolkit.config import Config
from toolkit.errors import ConfigError, StoreError
from toolkit.interrupts import Interrupts
from toolkit.latency import LatencyModel
from toolkit.limits import StopEvent
from toolkit.providers.given import config_given
from toolkit.providers.registry import get_provider
from toolkit.records import Episode
from toolkit.sweeps.cells import Cell, make_cells, shuffled
from toolkit.sweeps.figures import Score
from toolkit.sweeps.judging import read_score
from toolkit.sweeps.machine import describe_machine, machine_digest
from toolkit.sweeps.measuring import Measuring
from toolkit.sweeps.order import Pass, Planned
from toolkit.sweeps.results import Row, Sweep
from toolkit.sweeps.simulating import Simulating
from toolkit.sweeps.spending import Budget, MakeProvider, check_consent, check_maker

_ID_LENGTH = 12


class SweepWarning(UserWarning):
    """Cells of one sweep may not be comparable."""


def sweep(
    episodes: Iterable[Episode],
    config: Config | None = None,
    grid: Mapping[str, Any] | None = None,
    *,
    cells: Iterable[Mapping[str, Any]] | None = None,
    sample: int | None = None,
    repeats: int = 1,
    seed: int = 0,
    name: str | None = None,
    simulate: bool = False,
    latency: LatencyModel | float | None = None,
    warm_up: bool = True,
    rest: bool = True,
    parallel: int = 1,
    confirm: bool = False,
    budget_usd: float | None = None,
    budget_tokens: int | None = None,
    budget_calls: int | None = None,
    score: bool | Score = True,
    provider: MakeProvider | None = None,
    progress: bool | None = None,
    on_cell: Callable[[Row], object] | None = None,
    stop: StopEvent | None = None,
    clock: Clock | None = None,
) -> Sweep:
    """Run the same episodes under many settings, one after the other, and measure each.

    The order is shuffled: each repeat goes over all cells once. Every cell asks anew whatever it asks, and
    what it brought is in the store as soon as it ends. The same sweep started again (after Ctrl-C, a crash,
    a ``kill -9``) takes the cells that ended as they were measured, goes on with the one that was under way
    and measures the rest; so does one with more repeats.

    Parameters
    ----------
    episodes : iterable of Episode
    config : Config, optional
        What all cells have in common.
    grid : mapping, optional
        From a setting to its values; every combination is a cell. With ``sample`` a value may also be
        ``{"low": a, "high": b}``, or with ``"log": True`` by order of magnitude.
    cells : iterable of mapping, optional
        The settings of each cell, in place of a grid.
    sample : int, optional
        Take so many of the cells, by chance.
    repeats : int
        Times that each cell is measured; each repeat has answers of its own (`Config.repeat`).
    seed : int
        Of the order, the sample, and what a simulation leaves to chance.
    name : str, optional
        Sweeps are the same if they have the same name; by default, if they have the same cells and episodes.
        With a name a later start may have other cells, and one that is measured is taken as it is.
    simulate : bool
        Compute what a run would take and measure nothing; it is not kept in the store.
    latency : LatencyModel or float, optional
        What a simulation goes by: a model, fitted (``LatencyModel.fit(run)``) or stated, or seconds a call.
    warm_up : bool
        Make an unmeasured call to each model and server before its first cell; see ``Sweep.warm_ups``.
    rest : bool
        Before each cell wait until the quota is back that was used before it, a minute at most, and have the
        limiter forget what it has learned, but for the limits themselves. So every cell begins alike, and as
        plans and simulations take it: with as many requests in flight as its setting allows, and with no
        charge fitted. (Under ``limits_charge="fitted"`` a cell of a dozen calls measures the fitting only.)
    parallel : int
        Cells at a time. More than one share the machine and the quota, which ``cells`` says.
    confirm : bool
        Really call servers that cost money without a budget: all but those on this machine, and those too if
        ``prices`` has the model.
    budget_usd, budget_tokens, budget_calls : optional
        What all cells together may spend, in all starts; by default what the config holds. At its end the
        rest is ``cancelled``.
    score : bool or callable
        ROUGE of summaries that have a reference; or a function of a run and the episodes that returns
        numbers by name, which become columns of their own.
    provider : callable, optional
        Makes the provider of a cell's config, in place of the one that the config names.
    progress : bool, optional
        Whether to show a bar; by default in notebooks and terminals.
    on_cell : callable, optional
        Called with a `Row` for each cell as it ends.
    stop : StopEvent, optional
        Set it to stop, as a first Ctrl-C does.
    clock : Clock, optional

    Returns
    -------
    Sweep
        With a row for each cell and repeat, also for those that failed or were not reached. After Ctrl-C it
        has what is there; a second one does not wait for the calls under way.

    Raises
    ------
    ConfigError
        Before anything runs: there are no cells, a field is none, a value is refused (the cell is named),
        money would be spent without a budget or consent, or the same sweep is under way elsewhere.
    StoreError
        If the store cannot be used; before anything runs.

    Examples
    --------
    >>> study = tk.sweep(episodes, config, {"summary_batch_size": [1, 2, 4]}, repeats=3)
    >>> study.means("makespan_s")
    >>> study.config_of(study.best("makespan_s")["cell"])
    """
    config = config_given(config)
    known = known_episodes(episodes)
    check_maker(provider)
    _check_numbers(repeats=repeats, parallel=parallel)
    if simulate and latency is None:
        raise ConfigError(
            "simulate=True needs latency=: LatencyModel.fit(run) of something measured, a LatencyModel that "
            "is stated, or the seconds that a call takes"
        )
    if latency is not None and not simulate:
        raise ConfigError("latency= is what a simulation goes by; add simulate=True, or leave it out")
    if simulate and parallel > 1:
        raise ConfigError("parallel= is for real runs; a simulation has a clock of its own and needs none")
    model = None if latency is None else LatencyModel.of(latency)
    settings = make_cells(config, known, grid, cells, sample, seed)
    repeat_numbers = range(config.repeat, config.repeat + repeats)
    planned = [
        Planned(cell, repeat, order)
        for order, (cell, repeat) in enumerate(shuffled(settings, repeat_numbers, seed), 1)
    ]
    study = Study(
        sweep_id=_sweep_id(name, settings, model),
        name=name,
        config=config,
        episodes=known,
        settings=settings,
        planned=planned,
        seed=seed,
        parallel=parallel,
        on_cell=on_cell,
        progress=progress,
        stop=stop or StopEvent(),
        clock=clock or SystemClock(),
    )
    if model is not None:
        return _simulate(study, Simulating(known, model, seed, provider))
    budget = Budget.of(config, budget_usd, budget_tokens, budget_calls)
    check_consent(settings, repeats, known, budget, provider or get_provider, confirm=confirm)
    return _measure(study, budget, provider, score, warm_up=warm_up, rest=rest)


@dataclass(frozen=True)
class Study:
    """A sweep that begins, with all that is known of it."""

    sweep_id: str
    name: str | None
    config: Config
    episodes: Sequence[Episode]
    settings: Sequence[Cell]
    planned: Sequence[Planned]
    seed: int
    parallel: int
    on_cell: Callable[[Row], object] | None
    progress: bool | None
    stop: StopEvent
    clock: Clock

    def go_over(self, planned: Sequence[Planned], one: Callable[[Planned], Row]) -> Pass:
        """Return what goes over some of its cells."""
        return Pass(
            planned,
            one,
            parallel=self.parallel,
            stop=self.stop,
            on_cell=self.on_cell,
            progress=self.progress,
        )

    def result(self, **found: Any) -> Sweep:
        """Return what came of it."""
        return Sweep(
            id=self.sweep_id,
            name=self.name,
            config=self.config,
            settings=self.settings,
            seed=self.seed,
            **found,
        )

    def record(self, environment: Mapping[str, object]) -> str:
        """Return, as JSON, what this start is to do, and where."""
        told = {
            "config": self.config.shown(),
            "seed": self.seed,
            "environment": environment,
            "parallel": self.parallel,
            "episodes": [episode.id for episode in self.episodes],
            "repeats": sorted({planned.repeat for planned in self.planned}),
            "cells": [{"key": cell.key, "knobs": dict(cell.knobs)} for cell in self.settings],
        }
        return json.dumps(told, default=str)


def _simulate(study: Study, simulating: Simulating) -> Sweep:
    stop, environment = study.stop, describe_machine()
    with Interrupts(stop, study.clock.now) as interrupts:
        going = study.go_over(study.planned, simulating)
        interrupts.work(going.do)
        return study.result(
            rows=going.rows(None),
            environment=environment,
            fetches={
                (planned.cell.number, planned.repeat): simulating.fetch(planned.cell, planned.repeat)
                for planned in study.planned
            },
            simulated=True,
            interrupted=stop.is_set(),
        )


def _measure(
    study: Study,
    budget: Budget,
    provider: MakeProvider | None,
    score: bool | Score,
    *,
    warm_up: bool,
    rest: bool,
) -> Sweep:
    # Loads SQLAlchemy.
    from toolkit.store.address import read_address
    from toolkit.store.opened import store_at
    from toolkit.store.sweeps import SweepBook

    judge, judged_by = read_score(score)
    secret = study.config.store_password
    address = read_address(study.config.store_url, secret.get_secret_value() if secret else None)
    book = SweepBook(store_at(address), study.sweep_id)
    stop, environment = study.stop, describe_machine()
    with Interrupts(stop, study.clock.now) as interrupts:
        if holder := book.claim(study.name, study.record(environment), study.clock.epoch()):
            raise ConfigError(
                f"sweep {study.sweep_id} is under way in process {holder.partition('/')[0]}; wait for it, or "
                "give this one a name= of its own"
            )
        try:
            measuring = Measuring(
                study.sweep_id,
                study.episodes,
                budget=budget,
                book=book,
                address=address,
                begun=book.cells(),
                make=provider or get_provider,
                own_provider=provider is not None,
                score=judge,
                scored_by=judged_by,
                warm_up=warm_up,
                rest=rest,
                parallel=study.parallel,
                machine=machine_digest(environment),
                clock=study.clock,
                stop=stop,
            )
            found = [(plan, measuring.kept(plan)) for plan in study.planned]
            kept = [row for _, row in found if row is not None]
            if measuring.other_machines:
                warnings.warn(
                    f"sweep {study.sweep_id}: {measuring.other_machines} of its cells were measured in an "
                    "earlier start on another machine or with other versions; to measure all anew give it a "
                    "name= of its own",
                    SweepWarning,
                    stacklevel=3,
                )
            left = [plan for plan, row in found if row is None]
            # What a process died of may kill this one, too: the others first.
            left.sort(key=measuring.died)
            going = study.go_over(left, measuring)
            interrupts.work(going.do)
        finally:
            # All cells are kept already, and who comes later sees that this process has ended.
            with suppress(StoreError):
                book.release()
        if measuring.not_alone:
            warnings.warn(
                f"sweep {study.sweep_id}: {measuring.not_alone} of its cells began while other calls were "
                "under way on the same account, and share its quota with them; to measure them alone, end "
                "what else uses it, and give the sweep a name= of its own",
                SweepWarning,
                stacklevel=3,
            )
        return study.result(
            rows=[*kept, *going.rows(measuring.stopped_because)],
            warm_ups=measuring.warm_ups,
            environment=environment,
            fetches={place: measuring.fetch(place) for place in sorted(measuring.run_ids)},
            simulated=False,
            interrupted=stop.is_set() and measuring.stopped_because is None,
            stopped_because=measuring.stopped_because,
            store=address.shown,
        )


def known_episodes(episodes: Iterable[Episode]) -> list[Episode]:
    """Return the episodes as a list; raise ConfigError if there are none, or they are something else."""
    known = list(read_episodes(episodes))
    if not known:
        raise ConfigError("there are no episodes to measure with")
    return known


def _check_numbers(**numbers: Any) -> None:
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"{name}={value!r} must be a whole number from 1 on")


def _sweep_id(name: str | None, settings: Sequence[Cell], latency: object) -> str:
    from toolkit.store import keys

    same = name if name is not None else sorted(cell.key for cell in settings)
    # None: it is no simulation.
    return keys.digest("sweep", same, repr(latency))[:_ID_LENGTH]
