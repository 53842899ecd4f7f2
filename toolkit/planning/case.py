"""``Case``: one config over one work; what binds it, and what is really in flight."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from toolkit.backends import Capacity
from toolkit.config import Config
from toolkit.engines.memory import GB
from toolkit.limits.charges import held_dimensions, reserve
from toolkit.limits.laws import DAY, DIMENSIONS
from toolkit.limits.settings import LimitSettings
from toolkit.planning.bounds import (
    Bound,
    Chains,
    Charges,
    Timed,
    busy_s,
    calls_per_s,
    demand_of,
    rate_bounds,
    shared_s,
    slots_s,
    timed,
)
from toolkit.planning.machine import Footprint, Machine
from toolkit.planning.work import Ask, Latency, Work, calls
from toolkit.wording import counted

_WIDTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)


@dataclass(frozen=True, slots=True)
class Level:
    """How much of a level of parallelism is real.

    Attributes
    ----------
    name : str
        ``episodes`` at work, ``chunks`` of one episode in flight, ``requests`` in flight altogether.
    asked : int
        What the config says.
    effective : float
        What comes of it, on the average of the time in which there is enough to do.
    most : float or None
        What there is room for; None if nothing but the work bounds it.
    room_by : str or None
        What has no more room than that: ``workers``, ``memory``, ``cores``, ``batch``, ``slots``, or a
        limit.
    bound_by : str
        The setting itself, or ``episodes``, ``chunks`` (there are no more of them), ``workers`` (processes
        that take episodes), ``memory``, ``cores``, ``batch`` (tokens that a local model works on at once),
        ``slots``, or a limit.
    """

    name: str
    asked: int
    effective: float
    most: float | None
    room_by: str | None
    bound_by: str


@dataclass(frozen=True)
class Case:
    """One config over one work.

    Attributes
    ----------
    config : Config
    work : Work
    limits : LimitSettings or None
        Of the account; None where there is none.
    machine : Machine or None
        Of a local model; None of any other.
    footprint : Footprint or None
        What the model takes of it; None where that is not known.
    latency : Latency or None
    workers : Capacity or None
        Processes that work on the episodes; None: threads of the run's own process do.
    asked, chunks : int
        Episodes and chunks of each at a time, as the config says.
    """

    config: Config
    work: Work
    limits: LimitSettings | None
    machine: Machine | None
    footprint: Footprint | None
    latency: Latency | None
    workers: Capacity | None
    asked: int
    chunks: int

    def with_widths(self, episodes: int, chunks: int) -> Case:
        """Return the same with another parallelism."""
        return replace(self, asked=episodes, chunks=chunks)

    @property
    def episodes(self) -> int:
        """Episodes at a time, as far as the workers take them."""
        if self.workers is None or self.workers.is_elastic:
            return self.asked
        return max(1, min(self.asked, self.workers.slots))

    # What there is

    @cached_property
    def charges(self) -> Charges | None:
        """What the calls count at the server."""
        return None if self.limits is None else Charges.of(self.work.expected, self.limits)

    @cached_property
    def timed(self) -> Timed:
        """Seconds of all steps; where no latency is known, every call takes one second."""
        return timed(self.work.expected, self.service if self.latency else lambda ask: 1.0)

    def service(self, ask: Ask, width: int = 1) -> float:
        """Return the seconds of one call, of which so many are served together; needs a latency model."""
        assert self.latency is not None
        return self.latency.mean_service_s(ask.input_tokens, ask.output_tokens, width)

    @cached_property
    def calls(self) -> int:
        """Calls that are expected."""
        return sum(count for _, count in calls(self.work.expected))

    @cached_property
    def mean_service_s(self) -> float:
        """Mean seconds of a call; needs a latency model."""
        return busy_s(self.work.expected, self.service) / max(1, self.calls)

    @cached_property
    def widest(self) -> int:
        """The most calls of one episode that do not depend on each other."""
        return max((len(step) for shape in self.work.expected for step in shape), default=0)

    @cached_property
    def mean_chunks(self) -> float:
        """Of how many chunks an episode keeps in flight when it has them, at most ``chunks``; the mean."""
        found = [
            (min(self.chunks, max(len(step) for step in shape)), count)
            for shape, count in self.work.expected.items()
            if shape
        ]
        return sum(width * count for width, count in found) / max(1, self.work.episodes)

    @property
    def slots(self) -> int | None:
        """Requests that may be in flight at a server."""
        return None if self.limits is None else self.limits.max_concurrent

    @property
    def own_instances(self) -> bool:
        """Whether each episode has a local model of its own."""
        return self.machine is not None and self.machine.instances == "per_episode"

    @cached_property
    def rows(self) -> int | None:
        """Requests of the largest size that a shared local model works on at once."""
        if self.machine is None or self.own_instances:
            return None
        return max(1, self.config.engine_batch_tokens // max(1, self.work.largest))

    @cached_property
    def fitting_rows(self) -> int | None:
        """Requests of the largest size that a shared local model has memory for."""
        if self.rows is None or self.footprint is None or self.machine is None:
            return None
        return int(min(10**9, self.footprint.tokens(self.machine) // max(1, self.work.largest)))

    @cached_property
    def fitting_instances(self) -> int | None:
        """Local models that fit into memory, each with its chunks."""
        if not self.own_instances or self.footprint is None or self.machine is None:
            return None
        tokens = min(self.chunks, max(1, self.widest)) * self.work.largest
        return self.footprint.instances(self.machine, tokens)

    @cached_property
    def memory_bytes(self) -> float | None:
        """What the config would take of a local machine's memory."""
        if self.footprint is None or self.machine is None:
            return None
        episodes = max(1, min(self.episodes, self.work.episodes))
        chunks = min(self.chunks, max(1, self.widest))
        if self.own_instances:
            return self.footprint.bytes(episodes, episodes * chunks * self.work.largest)
        rows = min(episodes * chunks, self.rows or 1)
        # Each worker of a machine has a model of its own, and its share of the episodes.
        return self.footprint.bytes(self._models(episodes), rows * self.work.largest)

    def _models(self, episodes: int) -> int:
        """Return how many models one machine has loaded, where each worker has one."""
        if self.workers is None:
            return 1
        return episodes if self.workers.is_elastic else min(self.workers.neighbours, episodes)

    @property
    def fits_memory(self) -> bool | None:
        """Whether it does."""
        if self.memory_bytes is None or self.machine is None:
            return None
        return self.memory_bytes <= self.machine.memory_gb * GB

    @cached_property
    def places(self) -> tuple[int, str] | None:
        """How many calls can be served at a time, and what bounds them; None if nothing does."""
        if self.slots is not None:
            return self.slots, "slots"
        if self.machine is None:
            return None
        if self.own_instances:
            return self.machine.cores, "cores"
        rows, fitting = self.rows or 1, self.fitting_rows
        return (max(1, fitting), "memory") if fitting is not None and fitting < rows else (rows, "batch")

    # What is in flight

    @cached_property
    def levels(self) -> tuple[Level, Level, Level]:
        """Episodes, chunks of each, requests."""
        there = self.work.episodes
        most: list[tuple[float, str]] = [self.places] if self.places else []
        if self.fitting_instances is not None:
            most.insert(0, (max(1, self.fitting_instances), "memory"))
        if self.workers is not None and not self.workers.is_elastic:
            most.insert(0, (max(1, self.workers.slots), "workers"))
        episodes = self._level("episodes", self.asked, there, most, "summary_batch_size")
        at_work = max(1.0, episodes.effective)
        most = [(max(1.0, self.places[0] / at_work), self.places[1])] if self.places else []
        chunks = self._level("chunks", self.chunks, self.mean_chunks, most, "summary_chunk_parallelism")
        asked = self.asked * self.chunks
        wanted = at_work * self.mean_chunks if there else 0.0
        served = [self.places] if self.places else []
        flight = self._level("requests", asked, wanted, [*self._admitted(), *served], "")
        if not flight.bound_by:  # the level below says why there are no more
            below = episodes if episodes.bound_by != "summary_batch_size" else chunks
            flight = replace(flight, bound_by=below.bound_by)
        return episodes, chunks, flight

    def _level(
        self, name: str, asked: int, there: float, most: list[tuple[float, str]], setting: str
    ) -> Level:
        """Return a level: what is asked for, as far as the work has it and something has room for it."""
        room = min(most, default=None, key=lambda pair: pair[0])
        effective, bound_by = float(asked), setting
        # What there is no more of is said before what there would be no room for.
        if room is not None and room[0] <= effective:
            effective, bound_by = room
        if there <= effective and there < asked:
            effective, bound_by = there, "" if name == "requests" else name
        most_of, room_by = (None, None) if room is None else room
        return Level(name, asked, round(effective, 2), most_of, room_by, bound_by)

    def _admitted(self) -> list[tuple[float, str]]:
        """Return how many requests the limits leave in flight, on the average."""
        if self.limits is None or self.charges is None or not self.calls:
            return []
        found = []
        rate = calls_per_s(self.charges, self.limits)
        if rate is not None and self.latency is not None:
            let_in_s = {
                b.name: b.seconds for b in rate_bounds(self.charges, self.limits, self.work.expected, None)
            }
            if let_in_s[rate[1]]:  # Else the limit lets all in at once.
                # Little's law: in flight = admitted a second x seconds in flight.
                found.append((rate[0] * self.mean_service_s, rate[1]))
        held = held_dimensions(self.limits)
        charge = self.limits.charge_in_force()
        for clause, limit in self.limits.rules().items():
            place = DIMENSIONS.index(clause.dimension)
            if held[place] and clause.period_s != DAY:
                reserved = [
                    (reserve(charge, demand_of(ask), None)[place], n) for ask, n in calls(self.work.expected)
                ]
                mean = sum(amount * n for amount, n in reserved) / self.calls
                if mean:
                    found.append((max(1.0, limit / mean), clause.dimension.value))
        return found

    # How long it takes

    @cached_property
    def bounds(self) -> tuple[Bound, ...]:
        """The least time by each thing that binds."""
        known = self.latency is not None
        found = [self._latency_bound()]
        if self.limits is not None and self.charges is not None:
            service = self.service if known else None
            found += rate_bounds(self.charges, self.limits, self.work.expected, service)
        if self.slots is not None:
            seconds = slots_s(self.timed, self.slots) if known else None
            busy = f" ({self.mean_service_s:.2f} s each)" if known else ""
            because = f"{counted(self.calls, 'call')}{busy} in {counted(self.slots, 'slot')}"
            found.append(Bound("slots", seconds, because))
        if self.machine is not None:
            found += self._local_bounds(self.machine)
        return tuple(found)

    def _latency_bound(self) -> Bound:
        seconds = self._chains_s() if self.latency else None
        steps = max((len(shape) for shape in self.work.expected), default=0)
        episodes = min(self.episodes, max(1, self.work.episodes))
        because = (
            f"calls wait for others: {counted(episodes, 'episode')} at a time, "
            f"{counted(self.chunks, 'chunk')} of each, up to {steps} in a row"
        )
        return Bound("latency", seconds, because)

    def _chains_s(self) -> float:
        """Return the least time of the episodes with the config's widths."""
        width = self.chunks if self.slots is None else min(self.chunks, self.slots)
        return Chains.of(self.timed, width).seconds(self.episodes)

    def _local_bounds(self, machine: Machine) -> list[Bound]:
        chunks = min(self.chunks, max(1, self.widest))
        wanted = min(self.episodes, max(1, self.work.episodes)) * chunks
        room = self.config.engine_batch_tokens
        where = f" in {room:,} tokens" if self.rows is not None and wanted > self.rows else ""
        bounds = [
            Bound(
                "cores",
                self.engine_s(wanted) if self.rows is None else self._shared_s(room, wanted),
                f"{counted(self.calls, 'call')}, up to {wanted} together{where}, on "
                f"{counted(machine.cores, 'core')} ({machine.device})",
            )
        ]
        if self.memory_bytes is not None:
            short, seconds = not self.fits_memory, None
            if short and self.fitting_instances is not None:
                seconds = self.engine_s(max(1, self.fitting_instances * chunks))
            elif short and self.footprint is not None:
                seconds = self._shared_s(min(room, self.footprint.tokens(machine)), wanted)
            because = f"{self.memory_bytes / GB:.1f} of {machine.memory_gb:.1f} GB"
            bounds.append(Bound("memory", seconds, because if not short else f"{because}: too much"))
        return bounds

    def _shared_s(self, room: float, wanted: int) -> float | None:
        """Return the least time of a shared local model that has room for so many tokens.

        Small calls go in beside each other where there is room for few large ones: by ``rows`` the bound
        would be above what is really done.
        """
        if self.latency is None:
            return None
        return shared_s(self.work.expected, self.service, max(1.0, room), wanted)

    def engine_s(self, width: int) -> float | None:
        """Return the least time of a local model that serves up to so many calls together."""
        if self.latency is None:
            return None
        widths = sorted({width, *(w for w in _WIDTHS if w < width)})
        return busy_s(self.work.expected, lambda ask: min(self.service(ask, w) / w for w in widths))

    @cached_property
    def bound_s(self) -> float | None:
        """The largest of the bounds that are known."""
        return max((bound.seconds for bound in self.bounds if bound.seconds is not None), default=None)

    @cached_property
    def bottleneck(self) -> str | None:
        """What binds, the first of equal bounds; None if nothing is asked.

        Where all slots are made use of, calls are as slow by latency as by slots, and it is the slots.
        """
        if not self.work.episodes:
            return None
        if self.fits_memory is False:
            return "memory"
        if self.bound_s and not (self.latency is None and self.machine):
            # The same seconds, added up in another order, differ in their last digits.
            least = (1 - 1e-9) * self.bound_s
            binding = [bound.name for bound in self.bounds if (bound.seconds or 0.0) >= least]
            return "slots" if "slots" in binding and self._needs_slots() else binding[0]
        if self.own_instances and self.machine is not None:
            return self._local_bottleneck(self.machine)
        if self.machine is not None:
            return "cores"  # One engine serves all, with all cores, as long as there is anything to serve.
        wanted = min(self.episodes, self.work.episodes) * min(self.chunks, self.widest)
        is_crowded = self.slots is not None and wanted > self.slots
        return "slots" if is_crowded or self._needs_slots() else "latency"

    def _needs_slots(self) -> bool:
        """Say whether more slots would be faster, and more episodes or chunks at a time without them not."""
        if self.slots is None:
            return False
        served_s = slots_s(self.timed, self.slots)
        least = (1 - 1e-9) * served_s
        return (1 - 1e-9) * self._chains_s() <= served_s and slots_s(self.timed, max(1, self.calls)) < least

    def _local_bottleneck(self, machine: Machine) -> str:
        """Say what stops one more episode at a time, which is what costs no waiting for others."""
        episodes, chunks = min(self.episodes, self.work.episodes), min(self.chunks, self.widest)
        wanted = min(machine.cores, self.work.episodes)
        fitting = wanted if self.fitting_instances is None else min(wanted, self.fitting_instances)
        if episodes * chunks < machine.cores:
            now = Chains.of(self.timed, chunks).seconds(episodes)
            for more in range(1, fitting + 1):
                wider = Chains.of(self.timed, machine.cores // more).seconds(more)
                if wider < now - 1e-9:
                    return "latency"
            if episodes == self.work.episodes and chunks == self.widest:
                return "latency"
        return "memory" if fitting < wanted else "cores"
