"""``plan``: what a run will take and what binds it, known before anything is asked, loaded or spent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from toolkit.arguments import check_kind, read_episodes
from toolkit.backends import Capacity, find_backend
from toolkit.config import Config
from toolkit.errors import ConfigError, ContextTooLong, MissingDependency
from toolkit.limits import LimiterCore
from toolkit.mapreduce import SummarySettings
from toolkit.planning.advice import Plan
from toolkit.planning.case import Case
from toolkit.planning.conflicts import Conflict, Money, find_conflicts
from toolkit.planning.machine import Footprint, Machine
from toolkit.planning.suggestions import find_suggestions
from toolkit.planning.work import Counts, Latency, Shape, Work, calls, work_of
from toolkit.providers.base import SummarizationProvider, within_limits
from toolkit.providers.given import config_given
from toolkit.providers.registry import provider_class
from toolkit.records import Episode, Reply, Usage
from toolkit.wording import counted

if TYPE_CHECKING:
    import pandas as pd

MOST_WORKS = 64
"""Of different settings that are remembered: a work has an entry for each call."""


def plan(
    episodes: Iterable[Episode | int],
    config: Config | None = None,
    latency: Latency | None = None,
    machine: Machine | None = None,
) -> Plan:
    """Say what a run would take and what binds it, and suggest settings.

    Nothing is sent, no key is needed and no model is loaded. It is computed from the calls that map-reduce
    would make, the laws of the limits, and what the machine has.

    Parameters
    ----------
    episodes : iterable of Episode or int
        Whole numbers are the tokens of transcripts that are not at hand, from 0, of which nothing is asked.
    config : Config, optional
    latency : LatencyModel, optional
        How long calls take and replies are; without it times that depend on them are not known.
    machine : Machine, optional
        What a local model has to work with; by default this one, as it is now.

    Returns
    -------
    Plan

    Raises
    ------
    ConfigError
        If the episodes are neither, two have one id, another argument is not what it is to be, or the config
        names no provider.
    ModelUnavailable
        If the files of a local model are here and cannot be used.
    """
    return Planner(episodes, latency, machine).plan(config_given(config))


def compare_plans(
    episodes: Iterable[Episode | int],
    configs: Mapping[str, Config],
    latency: Latency | None = None,
    machine: Machine | None = None,
) -> pd.DataFrame:
    """Plan the same episodes under several configs.

    Parameters
    ----------
    episodes, latency, machine
        See ``plan``.
    configs : mapping of str to Config
        By the name of the row.

    Returns
    -------
    DataFrame
        A row for each config, indexed by its name: the two settings of parallelism, what is really in flight
        (``episodes``, ``chunks`` of each, ``requests``), ``bottleneck``, ``bound_s``, ``calls``, ``tokens``,
        ``cost_usd``, ``cost_most_usd``, ``conflicts`` and ``suggested`` settings in words.

    Raises
    ------
    ConfigError
        If there is no config, or what ``plan`` raises.
    """
    import pandas as pd

    if not isinstance(configs, Mapping) or not configs:
        raise ConfigError('configs must be a mapping such as {"hybrid": Config(...), ...}')
    for name, config in configs.items():
        check_kind(f"configs[{name!r}]", config, Config, "give a Config for each name")
    planner = Planner(episodes, latency, machine)
    rows = [planner.plan(config).row() for config in configs.values()]
    return pd.DataFrame(rows, index=pd.Index(list(configs), name="config"))


class Planner:
    """Plans the same episodes under any configs; what does not change is worked out once.

    Parameters
    ----------
    episodes, latency, machine
        See ``plan``.
    """

    def __init__(
        self, episodes: Iterable[Episode | int], latency: Latency | None, machine: Machine | None
    ) -> None:
        if latency is not None:
            hint = "give LatencyModel.fit(run), or LatencyModel.constant(2.0) for the seconds of each call"
            check_kind("latency", latency, Latency, hint)
        if machine is not None:
            check_kind("machine", machine, Machine, "give a Machine, such as Machine(cores=8, memory_gb=16)")
        self._episodes = list(read_episodes(episodes, sizes=True))
        self._latency = latency
        self._machine = machine
        self._machines: dict[tuple[str, str], Machine] = {}
        self._workers: dict[tuple[str | None, str | None, int], Capacity | None] = {}
        self._works: dict[tuple[str, str, str | None, str, SummarySettings], Work] = {}
        self._counts: dict[tuple[str, str, str | None, str], Counts] = {}

    def by(self, latency: Latency | None) -> Planner:
        """Return a planner by another latency model; what does not depend on it is not worked out again."""
        other = Planner((), latency, self._machine)
        other._episodes, other._machines, other._counts = self._episodes, self._machines, self._counts
        other._workers = self._workers
        return other

    def plan(self, config: Config) -> Plan:
        """Plan under one config."""
        with provider_class(config.provider).for_planning(config) as provider:
            return self._plan(config, provider)

    def _plan(self, config: Config, provider: SummarizationProvider) -> Plan:
        try:
            case = self._case(config, provider)
        except ContextTooLong as error:
            return self._impossible(config, provider, error)
        money = Money(_usd(provider, case.work.expected), _most_usd(provider, case.work.most))
        expected, most = list(calls(case.work.expected)), list(calls(case.work.most))
        return Plan(
            config=config,
            provider=provider.name,
            model=provider.model,
            episodes=len(self._episodes),
            levels=case.levels,
            bounds=case.bounds,
            bottleneck=case.bottleneck,
            bound_s=case.bound_s,
            calls=case.calls,
            calls_most=sum(count for _, count in most),
            input_tokens=sum(ask.input_tokens * count for ask, count in expected),
            output_tokens=round(sum(ask.output_tokens * count for ask, count in expected)),
            tokens_most=sum((ask.input_tokens + ask.cap) * count for ask, count in most),
            cost_usd=money.expected,
            cost_most_usd=money.most,
            conflicts=tuple(find_conflicts(case, provider.settings(), money)),
            suggestions=tuple(find_suggestions(case, provider.name, self._again)),
            notes=(*case.work.notes, *_notes(case, provider)),
        )

    def _again(self, config: Config) -> Case | None:
        with provider_class(config.provider).for_planning(config) as provider, suppress(ContextTooLong):
            return self._case(config, provider)
        return None

    def _case(self, config: Config, provider: SummarizationProvider) -> Case:
        limits = provider.limits()
        settings = provider.settings()
        if limits is not None:
            settings = within_limits(settings, LimiterCore("plan", limits))
        who = (provider.name, provider.model, config.model_revision, provider.token_counter)
        key = (*who, settings)
        work = self._works.get(key)
        if work is None:
            if len(self._works) >= MOST_WORKS:  # Who drags a slider asks for hundreds.
                del self._works[next(iter(self._works))]
            counts = self._counts.setdefault(who, Counts())
            work = self._works[key] = work_of(provider, self._episodes, settings, self._latency, counts)
        machine = self._machine_of(config) if provider.runs_here else None
        return Case(
            config=config,
            work=work,
            limits=limits,
            machine=machine,
            footprint=None if machine is None else Footprint.of(provider.model_size, config.dtype, machine),
            latency=self._latency,
            workers=self._workers_of(config),
            asked=config.summary_batch_size,
            chunks=config.summary_chunk_parallelism,
        )

    def _workers_of(self, config: Config) -> Capacity | None:
        """Return the processes that work on episodes under a config; None too where they are not reached."""
        # A cluster has what it has; of others as many are started as are wanted.
        wanted = 0 if config.episode_backend in ("dask", "ray") else config.summary_batch_size
        place = config.episode_backend, config.cluster_address, wanted
        if place not in self._workers:
            self._workers[place] = None
            with suppress(ConfigError, MissingDependency):
                if (backend := find_backend(config)) is not None:
                    try:
                        self._workers[place] = backend.capacity(config)
                    finally:
                        backend.close()
        return self._workers[place]

    def _machine_of(self, config: Config) -> Machine:
        """Return the given machine, or this one with a config's device, looked at once."""
        if self._machine is not None:
            return self._machine
        place = config.device, config.engine_instances
        if place not in self._machines:
            self._machines[place] = Machine.here(*place)
        return self._machines[place]

    def _impossible(self, config: Config, provider: SummarizationProvider, error: ContextTooLong) -> Plan:
        """Return the plan of a config whose prompts leave no room for any text."""
        return Plan(
            config=config,
            provider=provider.name,
            model=provider.model,
            episodes=len(self._episodes),
            levels=(),
            bounds=(),
            bottleneck=None,
            bound_s=None,
            calls=0,
            calls_most=0,
            input_tokens=0,
            output_tokens=0,
            tokens_most=0,
            cost_usd=None,
            cost_most_usd=None,
            conflicts=(Conflict("oversize", str(error)),),
            suggestions=(),
            notes=(),
        )


def _usd(provider: SummarizationProvider, shapes: Mapping[Shape, int]) -> float | None:
    """Return what calls cost, nothing of them cached; None if no price is known."""
    total = 0.0
    for ask, count in calls(shapes):
        usage = Usage(ask.input_tokens, round(ask.output_tokens))
        price = provider.price(Reply("", usage))
        if price is None:
            return None
        total += price * count
    return total


def _most_usd(provider: SummarizationProvider, shapes: Mapping[Shape, int]) -> float | None:
    """Return the most that calls can cost, with replies at their caps."""
    total = 0.0
    for ask, count in calls(shapes):
        price = provider.price_bound(ask.input_tokens, ask.cap)
        if price is None:
            return None
        total += price * count
    return total


def _team_note(workers: Capacity, runs_here: bool) -> str:
    where = f"{counted(workers.workers, 'worker')} on {counted(workers.machines, 'machine')}"
    cores, memory = counted(workers.cores, "core"), f"{workers.memory_mb / 1e3:.1f} GB"
    has = f"{counted(workers.slots, 'slot')}, {cores}, {memory}"
    note = f"episodes go to {where}: {has}"
    if runs_here:
        note += "; each loads the model, and times are those of one model on this machine"
    return note


def _notes(case: Case, provider: SummarizationProvider) -> list[str]:
    notes = []
    if case.workers is not None:
        notes.append(_team_note(case.workers, case.machine is not None))
    elif case.config.episode_backend not in (None, "threads"):
        notes.append(
            f"episode_backend={case.config.episode_backend!r} cannot be reached from here: what its workers "
            "bound is not known"
        )
    if case.machine is not None:
        if case.footprint is None:
            notes.append(
                "the model's files are not on this disk, or do not state its size: its memory is not known, "
                "and tokens may be estimated; Machine(model_gb=...) states it"
            )
        elif case.machine.model_gb is None and case.config.dtype == "auto" and case.machine.device == "cpu":
            notes.append("dtype=auto is taken for float32, the most that it can take of the memory")
    if case.limits is not None:
        notes.append("limits are full at the start, and nobody else draws from them")
        if case.limits.charge_in_force() == "fitted":
            notes.append("what the server counts is not fitted yet: prompt and cap are taken")
        if case.limits.learn == "auto":
            notes.append("limits are those of the config; the server's headers may tell of others")
    notes.append("no call fails, and nothing is reused from the store")
    return notes
