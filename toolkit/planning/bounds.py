r"""The least time in which work can be done, by each of the things that bind it.

All bounds hold for any order in which calls could be made, and for calls that take their mean time. What
comes after the last admission or the last free slot counts too: let :math:`A_j` be all that the calls charge
which have :math:`j` more steps of their episode behind them or more, and :math:`s_j` the least time in which
such a call and :math:`j` further steps are served. The last of these calls is not admitted before a window
has let all of :math:`A_j` in, at :math:`t(A_j)`, so that no run ends before :math:`\max_j t(A_j) + s_j`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from toolkit.limits.charges import Demand, reserve, settled
from toolkit.limits.laws import DAY, DIMENSIONS, Clause, Dimension
from toolkit.limits.settings import LimitSettings
from toolkit.limits.window import Kind
from toolkit.planning.work import Ask, Shape, calls
from toolkit.records import Usage
from toolkit.wording import counted

Service = Callable[[Ask], float]
"""Seconds in which a call is served when it is alone."""


@dataclass(frozen=True, slots=True)
class Bound:
    """The least time by one thing that binds.

    Attributes
    ----------
    name : str
        ``requests``, ``tokens``, ``input_tokens``, ``output_tokens`` (per minute), ``requests_per_day``,
        ``tokens_per_day``, ``slots``, ``cores``, ``memory`` or ``latency``.
    seconds : float or None
        None if it is not known.
    because : str
        How it comes about, with numbers.
    """

    name: str
    seconds: float | None
    because: str


@dataclass(frozen=True, slots=True)
class Step:
    """The calls of one step of an episode, as far as time goes; seconds."""

    calls: int
    total: float
    longest: float
    shortest: float

    def seconds(self, width: int) -> float:
        """Return the least time in which so many threads get through it."""
        return max(self.longest, self.total / width, math.ceil(self.calls / width) * self.shortest)


Timed = Sequence[tuple[tuple[Step, ...], int]]
"""The steps of episodes, and how many episodes have them."""


def timed(shapes: Mapping[Shape, int], service: Service) -> Timed:
    """Return how long the steps of the episodes take."""
    found = []
    for shape, count in shapes.items():
        steps = []
        for asks in shape:
            seconds = [service(ask) for ask in asks]
            steps.append(Step(len(asks), sum(seconds), max(seconds), min(seconds)))
        if steps:
            found.append((tuple(steps), count))
    return found


@dataclass(frozen=True, slots=True)
class Chains:
    """The times of episodes, step after step, with so many calls of each at a time; seconds."""

    episodes: int
    total: float
    longest: float
    shortest: float

    @classmethod
    def of(cls, work: Timed, width: int) -> Chains:
        """Add up."""
        times = [(sum(step.seconds(width) for step in steps), count) for steps, count in work]
        seconds = [time for time, _ in times]
        total = sum(time * count for time, count in times)
        there = sum(count for _, count in times)
        return cls(there, total, max(seconds, default=0.0), min(seconds, default=0.0))

    def seconds(self, episodes: int) -> float:
        r"""Return the least time of so many episodes at a time.

        With :math:`T_e` the time of an episode it is no less than :math:`\sum T_e / E`, than the longest one,
        and than the shortest as often as somebody has to work on it.
        """
        rounds = math.ceil(self.episodes / episodes)
        return max(self.total / episodes, self.longest, rounds * self.shortest)


def slots_s(work: Timed, slots: int) -> float:
    """Return the least time in which so many slots serve all calls, each of which holds one for its time."""
    found = 0.0
    for behind in range(max((len(steps) for steps, _ in work), default=0)):
        long = [(steps, count) for steps, count in work if len(steps) > behind]
        busy = [(step, count) for steps, count in long for step in steps[: len(steps) - behind]]
        number = sum(step.calls * count for step, count in busy)
        least = max(
            sum(step.total * count for step, count in busy) / slots,
            math.ceil(number / slots) * min(step.shortest for step, _ in busy),
        )
        found = max(found, least + min(_tail(steps, behind) for steps, _ in long))
    return found


def _tail(steps: tuple[Step, ...], behind: int) -> float:
    """Return the least time of the last so many steps."""
    return sum(step.longest for step in steps[len(steps) - behind :])


def window_s(clause: Clause, limit: int, amount: int, largest: int) -> float:
    r"""Return the earliest time at which the last of some amounts is let in; all windows start empty.

    * bucket: :math:`(A - L) P / L`; what is above the limit is let in when nothing else counts, so that
      :math:`L` is then the largest amount;
    * sliding: :math:`(\lceil A / L \rceil - 1) P`, since each period lets in :math:`L` at most;
    * calendar: one period less, since the first may end as soon as the run has begun.
    """
    if clause.kind is Kind.BUCKET:
        return max(0, amount - max(limit, largest)) * clause.period_s / limit
    spare = 1 if clause.kind is Kind.SLIDING else 2
    return max(0, math.ceil(amount / limit) - spare) * clause.period_s


@dataclass(frozen=True)
class Charges:
    """What the calls of episodes count at a server.

    Attributes
    ----------
    behind : sequence of tuple of int
        Requests, tokens, input tokens, output tokens of all calls with so many steps behind them or more.
    largest : tuple of int
        The largest of one call, each.
    """

    behind: Sequence[tuple[int, ...]]
    largest: tuple[int, ...]

    @classmethod
    def of(cls, shapes: Mapping[Shape, int], settings: LimitSettings) -> Charges:
        """Add up."""
        charge = settings.charge_in_force()
        depth = max((len(shape) for shape in shapes), default=0)
        sums = [[0] * len(DIMENSIONS) for _ in range(depth)]
        largest = [0] * len(DIMENSIONS)
        for shape, count in shapes.items():
            for place, asks in enumerate(shape):
                for ask in asks:
                    amounts = call_charge(ask, charge)
                    largest = list(map(max, largest, amounts))
                    for behind in range(len(shape) - place):
                        for dimension, amount in enumerate(amounts):
                            sums[behind][dimension] += amount * count
        return cls([tuple(row) for row in sums], tuple(largest))

    def total(self, dimension: Dimension) -> int:
        """Return what all calls count."""
        return self.behind[0][DIMENSIONS.index(dimension)] if self.behind else 0


def demand_of(ask: Ask) -> Demand:
    """Return what a call asks of the limiter; four bytes a token."""
    return Demand(ask.input_tokens, ask.cap, 4 * ask.input_tokens)


def call_charge(ask: Ask, charge: str) -> tuple[int, int, int, int]:
    """Return what a call has come to in the end; a fitted charge, not known yet, is taken for a sum."""
    demand = demand_of(ask)
    usage = Usage(ask.input_tokens, int(ask.output_tokens))
    return settled(charge, demand, reserve(charge, demand, None), usage)


def rate_bounds(
    charges: Charges, settings: LimitSettings, shapes: Mapping[Shape, int], service: Service | None
) -> list[Bound]:
    """Return a bound for each limit; of a limit's several windows that which binds most."""
    tails = _tails(shapes, service)
    found: dict[str, Bound] = {}
    for clause, limit in settings.rules().items():
        place = DIMENSIONS.index(clause.dimension)
        total = charges.behind[0][place] if charges.behind else 0
        seconds = max(
            (
                window_s(clause, limit, amounts[place], charges.largest[place]) + tail
                for amounts, tail in zip(charges.behind, tails, strict=True)
            ),
            default=0.0,
        )
        name = clause.dimension.value + ("_per_day" if clause.period_s == DAY else "")
        what = counted(total, clause.dimension.replace("_", " ").removesuffix("s"))
        because = f"{what} by a limit of {limit:,} {_per(clause.period_s)} ({clause.kind})"
        known = found.get(name)
        if known is None or seconds > (known.seconds or 0.0):
            found[name] = Bound(name, seconds, because)
    return list(found.values())


def _tails(shapes: Mapping[Shape, int], service: Service | None) -> list[float]:
    """Return, for each number of steps behind a call, the least time of such a call and them."""
    depth = max((len(shape) for shape in shapes), default=0)
    if service is None:
        return [0.0] * depth
    work = timed(shapes, service)
    return [
        min(
            min(step.shortest for step in steps[: len(steps) - behind]) + _tail(steps, behind)
            for steps, _ in work
            if len(steps) > behind
        )
        for behind in range(depth)
    ]


def _per(period_s: int) -> str:
    return {60: "a minute", DAY: "a day", 1: "a second"}.get(period_s, f"in {period_s} s")


def calls_per_s(charges: Charges, settings: LimitSettings) -> tuple[float, str] | None:
    """Return how many calls a second the limits admit in the long run, and which limit it is."""
    calls_made = charges.total(Dimension.REQUESTS)
    rates = [
        (limit / clause.period_s * calls_made / total, clause.dimension.value)
        for clause, limit in settings.rules().items()
        if clause.period_s != DAY and (total := charges.total(clause.dimension))
    ]
    return min(rates, default=None)


def shared_s(
    shapes: Mapping[Shape, int], service: Callable[[Ask, int], float], room: float, most: int
) -> float:
    r"""Return the least time of an engine that has room for so many tokens and serves ``most`` calls at once.

    With a set :math:`S` of :math:`n` calls at work, call :math:`i` gets through :math:`1 / t_i(n)` of its
    work in a second; in a padded batch through no more. Let :math:`m_i` be the tokens that are kept for it,
    no more than there is room for, :math:`M`, and for some :math:`\lambda` from 0 to 1

    .. math:: u_i = \min_n t_i(n) \left( \frac{\lambda}{n} + (1 - \lambda) \frac{m_i}{M} \right).

    At any moment :math:`\sum_S u_i / t_i(n) \le \lambda + (1 - \lambda) \sum_S m_i / M \le 1`, so that all
    calls together take :math:`\sum u_i` or longer. With :math:`t_i(n) = \alpha_i + \beta_i n` the least
    :math:`n` is known. Equal calls that fill the room take just that if
    :math:`\lambda / (1 - \lambda) = \beta M / (\alpha m)`, and calls that do not fill it with
    :math:`\lambda = 1`: the larger one of the two bounds is returned.

    Parameters
    ----------
    shapes : mapping
    service : callable
        Seconds of a call of which so many are served together; taken to grow in a straight line with them.
    room : float
        Tokens of prompts and caps at work.
    most : int
    """
    lines = []
    for ask, count in calls(shapes):
        alone = service(ask, 1)
        slope = service(ask, 2) - alone
        tokens = min(ask.input_tokens + ask.cap, room) / room
        lines.append((alone - slope, slope, tokens, count))
    number = sum(count for *_, count in lines)
    fixed, growing, share = (sum(line[place] * line[3] for line in lines) for place in range(3))
    if not number or not share:
        return 0.0
    grown = max(0.0, growing) * number / share  # beta M / m, by the mean call
    weights = {1.0, grown / (grown + fixed) if fixed > 0 else 1.0}
    return max(sum(count * _least(line, weight, most) for *line, count in lines) for weight in weights)


def _least(line: Sequence[float], weight: float, most: int) -> float:
    """Return a call's share of the engine's time; see `shared_s`."""
    alpha, beta, tokens = line
    rest = (1 - weight) * tokens
    together = float(most)
    if alpha <= 0:
        together = 1.0
    elif rest > 0 < beta:
        together = min(together, max(1.0, math.sqrt(weight * alpha / (rest * beta))))
    return (alpha + beta * together) * (weight / together + rest)


def busy_s(shapes: Mapping[Shape, int], cost: Callable[[Ask], float]) -> float:
    """Return the time of an engine that serves all calls, each at a cost."""
    return sum(cost(ask) * count for ask, count in calls(shapes))
