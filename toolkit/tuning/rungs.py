"""The ladder of successive halving: on each rung fewer settings are run over more episodes.

Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization" (2016).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

STEPS = (4, 2, 1)
"""What part of the episodes each rung has: a quarter, half, all."""
SHARE = 0.1
"""Of the settings, so many are really run where a simulation says which."""
LEAST_SETTINGS = 4
FINALISTS = 4
"""About so many are run over all episodes."""
SPARE = 0.2
"""Of those, so many are left for settings that only look good once the model is fitted to more."""


class Rung(NamedTuple):
    """How many settings are run over how many episodes, how often."""

    settings: int
    episodes: int
    repeats: int = 1

    @property
    def work(self) -> int:
        """Episodes that are summarized on it."""
        return self.settings * self.episodes * self.repeats


def make_rungs(settings: int, episodes: int, repeats: int) -> list[Rung]:
    """Return the rungs for so many settings to begin with; only the last one has repeats."""
    sizes = sorted({math.ceil(episodes / step) for step in STEPS})
    shrink = 1.0
    if len(sizes) > 1:
        shrink = max(2.0, (settings / FINALISTS) ** (1 / (len(sizes) - 1)))
    rungs = [Rung(max(1, round(settings / shrink**place)), size) for place, size in enumerate(sizes)]
    if settings > 1:  # one that nothing is compared with is no choice
        rungs = [rung._replace(settings=max(2, rung.settings)) for rung in rungs]
    rungs[-1] = rungs[-1]._replace(repeats=repeats)
    return rungs


def pilot_rung(rungs: Sequence[Rung], begin: Rung, at_a_time: int) -> Rung:
    """Return over how many episodes a pilot is run: from a rung on, as many as it works on at a time.

    Over fewer it would put less in flight than it can, and a server that refuses so much would not be found
    out before there is nothing left to run.
    """
    wide = (rung for rung in rungs if rung.episodes >= max(begin.episodes, at_a_time))
    return next(wide, rungs[-1])._replace(repeats=1)


def affordable(settings: int, episodes: int, repeats: int, most_episodes: float) -> tuple[int, int]:
    """Return with how many settings to begin, and how often to run the last, within so many episodes.

    Repeats are given up before there are too few settings to choose from. At least one begins, however
    little may be run.
    """
    for times in (repeats, 1):
        begin = settings
        while begin > 1 and sum(rung.work for rung in make_rungs(begin, episodes, times)) > most_episodes:
            begin -= 1
        if begin >= min(settings, FINALISTS):
            break
    return begin, times


def first_settings(total: int, really: int, pilots: int) -> int:
    """Return how many settings begin where a simulation says which, besides the pilots."""
    if really >= total:
        return total
    return max(1, really - pilots - math.floor(SPARE * really))
