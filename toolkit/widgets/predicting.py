"""What a setting would come to, worked out beside the main thread: the latest wish, in two steps.

First the plan, which is there in milliseconds, then a simulation. A wish that is overtaken by another is not
simulated, and nothing is queued up: there is at most one thread, which ends when there is nothing more to do.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from toolkit.config import Config
from toolkit.errors import ToolkitError
from toolkit.latency import LatencyModel
from toolkit.planning.advice import Plan
from toolkit.planning.planner import Planner
from toolkit.providers.base import SummarizationProvider
from toolkit.providers.registry import provider_class
from toolkit.records import Episode
from toolkit.runs import Run
from toolkit.simulation import simulate
from toolkit.tokens import LearnedBytes
from toolkit.widgets.latencies import Known, Latencies

MOST_CALLS = 300
"""More are not simulated as one drags: a sample of the episodes is, which takes about a tenth of a second."""
KEPT_SAMPLES = 8


class Played(NamedTuple):
    """A simulated run.

    Attributes
    ----------
    run : Run
        Of the sample.
    episodes : tuple of Episode
        Those in it.
    seconds : float
        What all episodes would take.
    cost_usd : float or None
    is_sample : bool
    """

    run: Run
    episodes: tuple[Episode, ...]
    seconds: float
    cost_usd: float | None
    is_sample: bool


class Prediction(NamedTuple):
    """What is known of a wish so far.

    Attributes
    ----------
    config : Config
    latency : Known or None
    plan : Plan or None
    played : Played or None
        Not in the first answer.
    error : str or None
        Why there is no more.
    """

    config: Config
    latency: Known | None = None
    plan: Plan | None = None
    played: Played | None = None
    error: str | None = None


def in_a_thread(work: Callable[[], None]) -> None:
    """Do something beside the main thread."""
    threading.Thread(target=work, name="prediction", daemon=True).start()


class Predictor:
    """Answers wishes about the same episodes, the latest one only.

    Parameters
    ----------
    episodes : sequence of Episode
    latencies : Latencies
    tell : callable
        Told each `Prediction`, from the thread that worked it out, in the order of the wishes.
    begin : callable, optional
        Has something done in the background; by default in a thread of its own.
    """

    def __init__(
        self,
        episodes: Sequence[Episode],
        latencies: Latencies,
        tell: Callable[[Prediction], None],
        *,
        begin: Callable[[Callable[[], None]], None] = in_a_thread,
    ) -> None:
        self._episodes = tuple(episodes)
        self._latencies = latencies
        self._tell = tell
        self._begin = begin
        self._wish: Config | None = None
        self._is_at_work = False
        self._wish_lock = threading.Lock()
        self._planner: Planner | None = None
        self._planned_by: LatencyModel | None = None
        self._samples: dict[tuple[int, ...], Planner] = {}
        self._sizes = sorted(range(len(self._episodes)), key=lambda place: self._episodes[place].words)
        self._tokens = Tokens()
        self.idle = threading.Event()
        self.idle.set()

    def want(self, config: Config) -> None:
        """Ask for a prediction; what was asked for before and is not there yet is not wanted any more."""
        with self._wish_lock:
            self._wish = config
            if self._is_at_work:
                return
            self._is_at_work = True
            self.idle.clear()
        self._begin(self._work)

    def close(self) -> None:
        """Want nothing any more."""
        with self._wish_lock:
            self._wish = None

    def _take(self) -> Config | None:
        with self._wish_lock:
            wish, self._wish = self._wish, None
            if wish is None:
                self._is_at_work = False
                self.idle.set()
            return wish

    def _work(self) -> None:
        while (wish := self._take()) is not None:
            answer = _step(self._plan, Prediction(wish))
            self._tell(answer)
            # Who drags on will not look at it.
            if answer.plan is not None and answer.plan.calls and self._wish is None:
                answer = _step(self._play, answer)
                if self._wish is None:
                    self._tell(answer)

    def _plan(self, answer: Prediction) -> Prediction:
        known = self._latencies.of(answer.config)
        plan = self._planner_by(known.model).plan(answer.config)
        return answer._replace(latency=known, plan=plan)

    def _planner_by(self, latency: LatencyModel) -> Planner:
        if self._planner is None:
            self._planner = Planner(self._episodes, latency, None)
        elif self._planned_by is not latency:
            self._planner = self._planner.by(latency)
            self._samples.clear()
        self._planned_by = latency
        return self._planner

    def _play(self, answer: Prediction) -> Prediction:
        config, known, plan = answer.config, answer.latency, answer.plan
        assert known is not None
        assert plan is not None
        chosen = self._sample(plan.calls)
        episodes = tuple(self._episodes[place] for place in chosen)
        provider = self._tokens.quickly_counting(
            provider_class(config.provider).for_planning(config), episodes
        )
        run = simulate(episodes, config, latency=known.model, provider=provider)
        seconds, cost_usd = run.makespan_s, run.totals()["cost_usd"]
        is_sample = len(chosen) < len(self._episodes)
        if is_sample:
            part = self._sample_planner(chosen, known.model).plan(config)
            seconds = scaled(seconds, part.bound_s, plan.bound_s, len(chosen) / len(self._episodes))
            cost_usd = plan.cost_usd
        return answer._replace(played=Played(run, episodes, seconds, cost_usd, is_sample))

    def _sample(self, calls: int) -> tuple[int, ...]:
        """Return the places of the episodes to simulate: every so many of them by length."""
        every = len(self._sizes)
        wanted = every if calls <= MOST_CALLS else max(1, every * MOST_CALLS // calls)
        middles = (int((number + 0.5) * every / wanted) for number in range(wanted))
        return tuple(sorted(self._sizes[place] for place in middles))

    def _sample_planner(self, chosen: tuple[int, ...], latency: LatencyModel) -> Planner:
        planner = self._samples.get(chosen)
        if planner is None:
            if len(self._samples) >= KEPT_SAMPLES:
                del self._samples[next(iter(self._samples))]
            planner = Planner([self._episodes[place] for place in chosen], latency, None)
            self._samples[chosen] = planner
        return planner


def _step(step: Callable[[Prediction], Prediction], answer: Prediction) -> Prediction:
    """Do a step; whatever goes wrong is an answer, too."""
    try:
        return step(answer)
    except ToolkitError as error:
        return answer._replace(error=str(error))
    except Exception as error:
        return answer._replace(error=f"{type(error).__name__}: {error}")


def scaled(seconds: float, bound_of_part: float | None, bound_of_all: float | None, share: float) -> float:
    r"""Return what all would take if a part took so many seconds.

    The part took :math:`seconds / bound_{part}` times its least time, and so will all: limits that have room
    for the part, and none for all, are in the bounds. Without bounds, by the number of episodes.
    """
    if not bound_of_part or not bound_of_all:
        return seconds / share
    return seconds * bound_of_all / bound_of_part


class Tokens:
    """The tokens of texts, counted once for each vocabulary."""

    def __init__(self) -> None:
        self._counted: dict[tuple[str, str, str], dict[str, tuple[int, int]]] = {}

    def quickly_counting(
        self, provider: SummarizationProvider, episodes: Sequence[Episode]
    ) -> SummarizationProvider:
        """Make a provider that is never asked reckon tokens by what these texts have in all.

        A simulation counts every piece of them many times over.
        """
        if provider.token_counter == LearnedBytes.name:
            return provider
        counted = self._counted.setdefault((provider.name, provider.model, provider.token_counter), {})
        for episode in episodes:
            if episode.id not in counted:
                text = episode.transcript
                counted[episode.id] = len(text), provider.count_tokens(text)
        characters, tokens = map(sum, zip(*(counted[episode.id] for episode in episodes), strict=True))
        a_token = characters / tokens if tokens else 1.0
        # Of this one object: the class serves real runs, too.
        vars(provider)["count_tokens"] = lambda text: math.ceil(len(text) / a_token)
        return provider
