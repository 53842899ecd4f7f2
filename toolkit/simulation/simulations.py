"""``simulate``: predict a run, once or under many seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, overload

from toolkit.arguments import read_episodes
from toolkit.config import Config
from toolkit.errors import ConfigError
from toolkit.latency import LatencyModel
from toolkit.parts import View, notebook_html
from toolkit.providers.base import SummarizationProvider
from toolkit.providers.given import config_given
from toolkit.providers.registry import provider_class
from toolkit.records import Episode, Status
from toolkit.runs import Run
from toolkit.simulation.faults import Faults
from toolkit.simulation.simulator import Simulator
from toolkit.views.frames import table_of
from toolkit.wording import counted, duration

if TYPE_CHECKING:
    import pandas as pd


@overload
def simulate(
    episodes: Iterable[Episode | int],
    config: Config | None = None,
    *,
    latency: LatencyModel | float,
    seed: int = 0,
    seeds: None = None,
    faults: Faults | None = None,
    provider: SummarizationProvider | None = None,
    began_at: int | None = None,
) -> Run: ...


@overload
def simulate(
    episodes: Iterable[Episode | int],
    config: Config | None = None,
    *,
    latency: LatencyModel | float,
    seed: int = 0,
    seeds: int | Iterable[int],
    faults: Faults | None = None,
    provider: SummarizationProvider | None = None,
    began_at: int | None = None,
) -> Simulations: ...


def simulate(
    episodes: Iterable[Episode | int],
    config: Config | None = None,
    *,
    latency: LatencyModel | float,
    seed: int = 0,
    seeds: int | Iterable[int] | None = None,
    faults: Faults | None = None,
    provider: SummarizationProvider | None = None,
    began_at: int | None = None,
) -> Run | Simulations:
    """Play a run without calling anything: no key, no model, no network, nothing kept, nothing spent.

    Parameters
    ----------
    episodes : iterable of Episode or int
        A number stands for an episode of so many tokens, as the server counts them; of 0 nothing is asked.
    config : Config, optional
        As for `run`; by default that of ``provider``, if one is given.
    latency : LatencyModel or float
        How long calls take: a model, fitted or stated, or one length in seconds for all.
    seed : int
        Of the luck: service times, reply lengths, faults. The same seed gives the same frames.
    seeds : int or iterable of int, optional
        Play it under these, or so many from ``seed`` on, and return a `Simulations`.
    faults : Faults, optional
        What goes wrong at the server by chance; by default nothing.
    provider : SummarizationProvider, optional
        Whose prompts, chunks, counts, limits and prices hold; by default the config's own, of which a local
        model's vocabulary is read and its weights are not.
    began_at : int, optional
        Epoch seconds of the beginning, on which limits of calendar minutes depend; by default the seed
        chooses a moment of a minute.

    Returns
    -------
    Run or Simulations
        A run with the same frames, ``simulated``, without texts.

    Raises
    ------
    ConfigError
        If the episodes are none, or another argument or a setting is wrong.

    Notes
    -----
    Answers in the store are not reused and budgets bound nothing here. Limits are those of the config, full
    at the beginning, and the server keeps to the law that it states. What a server works on at once and tells
    nobody (``LatencyModel.max_concurrent``) is found out anew in each simulation, by a limiter that has not
    met it: a real one that has is refused less.

    How well it predicts has been measured (``tests/benchmarks/bench_prediction.py`` for hosted models,
    ``bench_local_sweep.py`` for a local one). A local model's times vary more from run to run than a
    server's, and settings unlike all that the latency model was fitted to are off by much: in a sweep of
    eight cells, each predicted from the other seven, one by 40 % and the rest by less than 12 %.

    Examples
    --------
    >>> run = simulate([1200] * 3, Config(provider="scripted"), latency=2.0)
    >>> run.makespan_s, len(run.calls)
    (24.0, 12)
    """
    settings, model = config_given(config, provider), LatencyModel.of(latency)
    known = _read(episodes)

    def play(luck: int) -> Run:
        who = provider_class(settings.provider).for_planning(settings) if provider is None else provider
        try:
            simulator = Simulator(
                who,
                settings,
                model,
                faults or Faults(),
                luck,
                learns=provider is None,
                began_at=began_at,
            )
            return simulator.run(known)
        finally:
            if provider is None:
                who.close()

    if seeds is None:
        return play(seed)
    if isinstance(seeds, Iterable) and not isinstance(seeds, str):
        lucks: Sequence[int] = list(seeds)
    else:
        lucks = range(seed, seed + seeds) if isinstance(seeds, int) else []
    if not lucks:
        raise ConfigError(f"seeds={seeds!r} must be at least one, as a number or a list")
    return Simulations(play, lucks)


def _read(episodes: Iterable[Episode | int]) -> list[Episode | int]:
    known = list(read_episodes(episodes, sizes=True))
    if not known:
        raise ConfigError("there are no episodes to simulate")
    # Of a text without words a run asks nothing; one that is made up has a word at least.
    return [Episode.from_text(f"e{number}", "") if size == 0 else size for number, size in enumerate(known)]


class Simulations:
    """One run under many seeds: how much of its time is luck.

    Attributes
    ----------
    figures : DataFrame
        A row for each seed: ``seed``, ``makespan_s``, ``calls``, ``input_tokens``, ``output_tokens``,
        ``cost_usd`` (null if no price is known), ``failed_attempts``, and ``ok`` (episodes).
    """

    def __init__(self, play: Callable[[int], Run], seeds: Sequence[int]) -> None:
        import pandas as pd

        self._play = play
        self.figures: pd.DataFrame = pd.DataFrame([_figures(seed, play(seed)) for seed in seeds])

    @property
    def makespans(self) -> pd.Series[float]:
        """Seconds of each run, by seed."""
        return self.figures.set_index("seed")["makespan_s"]

    def quantiles(self, of: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95)) -> pd.DataFrame:
        """Return quantiles of all figures, a row for each."""
        found: pd.DataFrame = self.figures.drop(columns="seed").astype("float64").quantile(list(of))
        return found

    @property
    def makespan_s(self) -> float:
        """The median, in seconds."""
        return float(self.makespans.median())

    @cached_property
    def median_run(self) -> Run:
        """The run whose makespan is the median, or next below it; played again."""
        ordered = self.figures.sort_values(["makespan_s", "seed"])
        return self._play(int(ordered["seed"].iloc[(len(ordered) - 1) // 2]))

    def __len__(self) -> int:
        return len(self.figures)

    def __repr__(self) -> str:
        low, middle, high = self.makespans.quantile([0.05, 0.5, 0.95])
        many = counted(len(self), "simulation")
        return f"<{many}: {middle:.1f} s, 5 to 95 of 100 in {low:.1f} to {high:.1f} s>"

    def _repr_html_(self) -> str:
        spread = self.quantiles()
        spread.insert(0, "quantile", list(spread.index))
        facts = [("Runs", f"{len(self):,}"), ("Makespan, median", duration(self.makespan_s))]
        table = table_of(spread, "Quantiles of the figures of all runs", ".quantiles()")
        return notebook_html(View("Simulations", facts, parts=[table]))


def _figures(seed: int, run: Run) -> dict[str, object]:
    totals = run.totals()
    calls = [call for record in run.records for call in record.summary.calls]
    return {
        "seed": seed,
        "makespan_s": run.makespan_s,
        "calls": totals["calls"],
        "input_tokens": totals["input_tokens"],
        "output_tokens": totals["output_tokens"],
        "cost_usd": totals["cost_usd"],
        "failed_attempts": sum(bool(attempt.error_kind) for call in calls for attempt in call.attempts),
        "ok": run.counts().get(Status.OK, 0),
    }
