"""What a setting is judged by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from toolkit.errors import ConfigError, nearest_name
from toolkit.records import Episode
from toolkit.runs import Run
from toolkit.sweeps.figures import ROUGE, Score

OWN = "goal"
"""Name of the measure that a function of one's own brings."""


@dataclass(frozen=True, slots=True)
class Goal:
    """A measure of the frame ``cells``, and which way is better.

    Attributes
    ----------
    name : str
        What was asked for.
    measure : str
    lowest : bool
    simulated : bool
        Whether a simulation can tell; of texts, and of a function of one's own, it cannot.
    score : bool or callable
        What a sweep has to be told for the measure.
    """

    name: str
    measure: str
    lowest: bool = False
    simulated: bool = True
    score: bool | Score = False

    def better(self, value: float) -> float:
        """Return a value by which more is better."""
        return -value if self.lowest else value


GOALS = {
    "throughput": Goal("throughput", "episodes_per_h"),
    "cost": Goal("cost", "cost_usd", lowest=True),
    "quality": Goal("quality", "rougeL", simulated=False, score=True),
}


def read_goal(given: str | Callable[[Run], float]) -> Goal:
    """Return the goal of that name, or of a function from a run to a number, higher is better.

    Raises
    ------
    ConfigError
        If it is neither.
    """
    if isinstance(given, str):
        if given not in GOALS:
            raise ConfigError(f"goal={given!r}; {nearest_name(given, GOALS)}, or give a function of a run")
        return GOALS[given]
    if not callable(given):
        raise ConfigError(
            f"goal={given!r} must be one of {', '.join(map(repr, GOALS))}, or a function of a run"
        )
    judge = given

    def score(run: Run, episodes: Sequence[Episode]) -> dict[str, float | None]:
        return {OWN: float(judge(run))}

    name = getattr(judge, "__qualname__", type(judge).__qualname__)
    return Goal(name, OWN, simulated=False, score=score)


def judged_episodes(goal: Goal, episodes: Sequence[Episode]) -> list[Episode]:
    """Return the episodes that say something of a goal.

    Raises
    ------
    ConfigError
        If none does.
    """
    if goal.measure not in ROUGE:
        return list(episodes)
    known = [episode for episode in episodes if episode.reference]
    if not known:
        raise ConfigError(
            "goal='quality' compares with references, and no episode has one; put <id>.ref.txt beside the "
            "transcripts, or give a function of a run that judges it in another way"
        )
    return known
