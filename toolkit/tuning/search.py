"""``tune``: simulate every setting, really run a few, and believe what was run.

No optimiser library is used. They propose settings from what was measured of others, because they know
nothing else; here a simulation knows every setting of a finite space beforehand, and what is left is to find
out, with few runs, which of those that look best are. That is successive halving: sort, run, keep the half.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from toolkit.clock import Clock
from toolkit.config import Config
from toolkit.errors import ConfigError, ToolkitError
from toolkit.latency import LatencyModel
from toolkit.providers.given import config_given
from toolkit.providers.registry import get_provider
from toolkit.records import Episode
from toolkit.runs import Run
from toolkit.sweeps.cells import Cell, make_cells
from toolkit.sweeps.measuring import endpoint_of
from toolkit.sweeps.spending import Budget, MakeProvider, check_consent, check_maker
from toolkit.sweeps.study import known_episodes
from toolkit.tuning.climb import Climb
from toolkit.tuning.goals import judged_episodes, read_goal
from toolkit.tuning.rungs import (
    LEAST_SETTINGS,
    SHARE,
    affordable,
    first_settings,
    make_rungs,
    pilot_rung,
)
from toolkit.tuning.tuned import Tuned


def tune(
    episodes: Iterable[Episode],
    config: Config | None = None,
    over: Mapping[str, Any] | None = None,
    *,
    cells: Iterable[Mapping[str, Any]] | None = None,
    sample: int | None = None,
    goal: str | Callable[[Run], float] = "throughput",
    really: int | None = None,
    repeats: int = 2,
    seed: int = 0,
    latency: LatencyModel | float | None = None,
    name: str | None = None,
    confirm: bool = False,
    budget_usd: float | None = None,
    budget_tokens: int | None = None,
    budget_calls: int | None = None,
    provider: MakeProvider | None = None,
    progress: bool | None = None,
    clock: Clock | None = None,
) -> Tuned:
    """Find the best of many settings.

    For ``"throughput"`` and ``"cost"`` all settings are simulated, by a latency model that is fitted to what
    is really run. Those that look best are run over a quarter of the episodes, the better ones over half,
    the best over all, and after each rung the model is fitted anew and the rest looked at again. What a text
    is worth no simulation knows: for ``"quality"``, and a goal of one's own, all settings begin on the first
    rung, or as many as the budget will do for.

    Everything that is run is in the store, and the same tuning started again goes on from there.

    Parameters
    ----------
    episodes : iterable of Episode
    config : Config, optional
        What all settings have in common.
    over : mapping
        From a setting to its values, as the grid of a `sweep`.
    cells, sample
        As for a `sweep`.
    goal : {"throughput", "cost", "quality"} or callable
        Most episodes an hour; least dollars; ROUGE-L against references. Or a function from a `Run` to a
        number, higher is better.
    really : int, optional
        Settings that may really be run. By default a tenth of them, at least four, where a simulation says
        which, else all.
    repeats : int
        Times that the last few are run over all episodes.
    seed : int
        Of the order of the episodes, and of what is left to chance.
    latency : LatencyModel or float, optional
        What the first predictions go by, a model or the seconds of each call; by default two settings of each
        model, the ends of the grid, are run first, over as many episodes as they work on at a time, and it is
        fitted to them.
    name : str, optional
        Tunings with one name go on from each other's runs; by default those of the same settings, episodes
        and goal.
    confirm : bool
        Really call servers that cost money without a budget.
    budget_usd, budget_tokens, budget_calls : optional
        What all runs together may spend, in all starts; by default what the config holds.
    provider : callable, optional
        Makes the provider of a setting's config, in place of the one that it names.
    progress : bool, optional
        Whether to show bars; by default in notebooks and terminals.
    clock : Clock, optional

    Returns
    -------
    Tuned
        ``.config`` is the best setting, ``.evidence`` has a row for each.

    Raises
    ------
    ConfigError
        Before anything runs, as by `sweep`; or if the goal is none, no episode has a reference to compare
        with, no price is known to go by, or the calls made are too few to fit a latency model to.
    ToolkitError
        If no setting could be run to its end.

    Examples
    --------
    >>> best = tk.tune(episodes, config, over={"summary_batch_size": [1, 2, 4, 8]}, goal="throughput")
    >>> run = tk.run(episodes, best.config)
    """
    chosen_goal = read_goal(goal)
    config = config_given(config)
    known = judged_episodes(chosen_goal, known_episodes(episodes))
    check_maker(provider)
    model = None if latency is None else LatencyModel.of(latency)
    for option, value in (("repeats", repeats), ("really", really)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ConfigError(f"{option}={value!r} must be a whole number from 1 on")
    if latency is not None and not chosen_goal.simulated:
        raise ConfigError(f"latency= says nothing of goal={chosen_goal.name!r}, which is always really run")
    settings = make_cells(config, known, over, cells, sample, seed)
    make = provider or get_provider
    if chosen_goal.measure == "cost_usd":
        _check_prices(settings, make)
    budget = Budget.of(config, budget_usd, budget_tokens, budget_calls)
    # Loads SQLAlchemy.
    from toolkit.store import keys

    same = name if name is not None else sorted(cell.key for cell in settings)
    tuning = Climb(
        keys.digest("tune", same, chosen_goal.name, seed)[:12],
        random.Random(seed).sample(known, len(known)),
        config,
        settings,
        chosen_goal,
        budget,
        seed=seed,
        latency=model,
        provider=provider,
        progress=progress,
        clock=clock,
    )
    ends = _ends(settings)
    pilots = [] if latency is not None or not chosen_goal.simulated else ends
    total = len(settings)
    if really is None:
        really = max(LEAST_SETTINGS, math.floor(SHARE * total)) if chosen_goal.simulated else total
    really = min(total, max(really, len(pilots)))
    begin = first_settings(total, really, len(pilots)) if chosen_goal.simulated else really
    begin, repeats = affordable(begin, len(known), repeats, tuning.affordable_episodes())
    rungs = make_rungs(begin, len(known), repeats)
    flown = sum(pilot_rung(rungs, rungs[0], cell.config.summary_batch_size).episodes for cell in pilots)
    whole_runs = math.ceil((sum(rung.work for rung in rungs) + flown) / len(known))
    check_consent(
        ends,
        repeats,
        known,
        budget,
        make,
        confirm=confirm,
        what="this tuning",
        runs=whole_runs,
    )
    if chosen_goal.simulated:
        tuning.begin_by_simulation(pilots, rungs)
    else:
        tuning.begin_by_chance(begin)
    tuning.climb(rungs, really)
    return tuning.result()


def _check_prices(settings: Sequence[Cell], make: MakeProvider) -> None:
    """Refuse to look for the cheapest of settings whose prices nobody knows."""
    for cell in {endpoint_of(cell.config): cell for cell in settings}.values():
        try:
            own = make(cell.config)
        except ToolkitError:  # it will say so in its own row
            continue
        with own:
            if own.price_bound(1, 1) is None:
                raise ConfigError(f"goal='cost': no price is known of {own.name}/{own.model}; set prices=")


def _ends(settings: Sequence[Cell]) -> list[Cell]:
    """Return the first and the last setting of each model: the ends of a grid, between which the rest lie."""
    groups: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in settings:
        groups.setdefault(endpoint_of(cell.config), []).append(cell)
    ends = {cell.number: cell for group in groups.values() for cell in (group[0], group[-1])}
    return list(ends.values())
