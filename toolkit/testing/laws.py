"""The laws: which meters a server has, what a request costs there, and whether it is let in.

============== ================ ==================================================================
law            counts by        notes
============== ================ ==================================================================
openai         bucket           requests and tokens, a minute and a day
anthropic      bucket           requests, input tokens and output tokens; ``max_tokens`` is not counted
                                at admission but the true output at the end, so that the output bucket
                                may fall below 0 and then lets nothing in; cache reads are not counted
azure          calendar minute  requests also in windows of 10 s and 1 s, limits rounded up
sliding        sliding 60 s     the last 60 seconds, whenever one looks
fixed          calendar minute
first_request  60 s             from the first request after the last window ended
============== ================ ==================================================================

A day is counted as the minute is, with a period of 86,400 s.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from toolkit.testing.meters import Bucket, Calendar, FirstRequest, Meter, Resource, Sliding

MINUTE_S = 60.0
DAY_S = 86_400.0

METER_OF_LAW: dict[str, type[Meter]] = {
    "openai": Bucket,
    "azure": Calendar,
    "anthropic": Bucket,
    "sliding": Sliding,
    "fixed": Calendar,
    "first_request": FirstRequest,
}
LAWS = tuple(METER_OF_LAW)
DEFAULT_CHARGE = {"openai": "max"}
DEFAULT_WINDOWS_S: dict[str, tuple[float, ...]] = {"azure": (10.0, 1.0)}
CHARGES = ("sum", "max", "actual", "bytes")

UNCAPPED_OUTPUT_TOKENS = 16
"""What the charge takes for the output of a request that sets no cap; Azure's documented default."""


@dataclass(frozen=True, slots=True)
class Size:
    """What the server knows of a request before it answers.

    Attributes
    ----------
    input_tokens : int
        As the server counts them.
    cached_tokens : int
        Those of them that are read from the prompt cache.
    output_cap : int or None
        Most tokens that one reply may have.
    replies : int
        Replies asked for (``n``).
    characters, body_bytes : int
        Of the messages, and of the whole body.
    """

    input_tokens: int
    cached_tokens: int = 0
    output_cap: int | None = None
    replies: int = 1
    characters: int = 0
    body_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request was not let in.

    ``wait_s`` is the time until it may be, infinite if it is larger than the limit. ``used`` and
    ``requested`` are in units of the meter that makes it wait longest.
    """

    meter: Meter
    wait_s: float
    used: int
    requested: int

    @property
    def oversize(self) -> bool:
        """Whether it never fits."""
        return math.isinf(self.wait_s)


@dataclass(frozen=True, slots=True)
class Admission:
    """What an admitted request took, for its settlement."""

    at: float
    tokens: int
    output_known_later: bool


def reserved_tokens(charge: str, size: Size) -> int:
    """Return the tokens that a request is charged at its admission.

    ============== ===================================================================
    ``sum``        input + replies x output cap
    ``actual``     the same; what was not used is given back at the end
    ``max``        the larger of replies x output cap and characters / 4
    ``bytes``      bytes of the body // 4 + replies x output cap
    ============== ===================================================================
    """
    cap = size.replies * (UNCAPPED_OUTPUT_TOKENS if size.output_cap is None else size.output_cap)
    if charge == "max":
        return max(cap, math.ceil(size.characters / 4))
    if charge == "bytes":
        return size.body_bytes // 4 + cap
    return size.input_tokens + cap


class Law:
    """All meters of one account; a request is let in by all of them or takes nothing.

    Parameters
    ----------
    meters : iterable of Meter
    charge : str
        One of ``CHARGES``; binds meters of ``Resource.TOKENS``.
    failed_requests_count : bool
        Whether a refused or failed request is counted by the meters of requests.
    """

    def __init__(self, meters: Iterable[Meter], charge: str, failed_requests_count: bool) -> None:
        self.meters = tuple(meters)
        self._charge = charge
        self._failed_requests_count = failed_requests_count
        self.first: float | None = None
        self.last: float | None = None

    @property
    def settles(self) -> bool:
        """Whether the charge changes when a request ends."""
        return self._charge == "actual" or any(
            meter.resource is Resource.OUTPUT_TOKENS for meter in self.meters
        )

    def admit(self, now: float, size: Size) -> Admission | Refusal:
        """Let a request in and charge it, or say why not."""
        charged = reserved_tokens(self._charge, size)
        asked: list[tuple[Meter, int]] = []
        worst: Refusal | None = None
        for meter in self.meters:
            units = self._units(meter, size, charged)
            asked.append((meter, units))
            wait = meter.wait_s(now, units)
            if wait > 0 and (worst is None or wait > worst.wait_s):
                used = max(0, meter.limit - math.floor(meter.remaining(now)))
                worst = Refusal(meter, wait, used, units)
        if worst is not None:
            self.count_failed(now)
            # The failed request may itself have put the next admission off.
            again = max(meter.wait_s(now, units) for meter, units in asked)
            return Refusal(worst.meter, max(worst.wait_s, again), worst.used, worst.requested)
        for meter, units in asked:
            # What an output meter takes is known at the end only; 1 was asked for to see that it is not dry.
            meter.take(now, 0 if meter.resource is Resource.OUTPUT_TOKENS else units)
        self.first = now if self.first is None else self.first
        self.last = now
        apart = any(meter.resource is Resource.OUTPUT_TOKENS for meter in self.meters)
        if any(meter.resource is Resource.INPUT_TOKENS for meter in self.meters):
            charged = size.input_tokens - size.cached_tokens
        return Admission(now, charged, apart)

    def settle(self, now: float, admission: Admission, input_tokens: int, output_tokens: int) -> int:
        """Correct the charge of a request that has ended, where the law does so; return the final one."""
        charged = admission.tokens
        if admission.output_known_later:
            charged += output_tokens
        elif self._charge == "actual":
            charged = min(admission.tokens, input_tokens + output_tokens)
        for meter in self.meters:
            if meter.resource is Resource.OUTPUT_TOKENS:
                meter.take(now, output_tokens)
            elif meter.resource is Resource.TOKENS and charged != admission.tokens:
                meter.return_unused(now, admission.tokens - charged, admission.at)
        return charged

    def count_failed(self, now: float) -> None:
        """Count a request that was refused before its admission, if failed requests count."""
        if self._failed_requests_count:
            for meter in self.meters:
                if meter.resource is Resource.REQUESTS:
                    meter.penalize(now)

    def undo(self, now: float, admission: Admission) -> int:
        """End an admitted request that failed; return what stays charged.

        Where failed requests count, all of it does: the server had charged it at admission.
        """
        if self._failed_requests_count:
            return admission.tokens
        for meter in self.meters:
            if meter.resource is Resource.REQUESTS:
                meter.return_unused(now, 1, admission.at)
            elif meter.resource is not Resource.OUTPUT_TOKENS:
                meter.return_unused(now, admission.tokens, admission.at)
        return 0

    def shares(self) -> dict[str, float]:
        """Return by meter what was used of what was allowed between the first and the last admission."""
        if self.last is None:
            return {meter.name: 0.0 for meter in self.meters}
        return {meter.name: meter.share(self.last) for meter in self.meters}

    def reset_shares(self) -> None:
        """Measure the shares from the next admission on; what was used stays used."""
        self.first = self.last = None
        for meter in self.meters:
            meter.reset_share()

    @staticmethod
    def _units(meter: Meter, size: Size, charged: int) -> int:
        if meter.resource is Resource.REQUESTS:
            return 1
        if meter.resource is Resource.INPUT_TOKENS:
            return size.input_tokens - size.cached_tokens
        if meter.resource is Resource.OUTPUT_TOKENS:
            return 1
        return charged


def build_law(
    law: str,
    *,
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
    project_tokens_per_minute: int | None = None,
    input_tokens_per_minute: int | None = None,
    output_tokens_per_minute: int | None = None,
    requests_per_day: int | None = None,
    tokens_per_day: int | None = None,
    request_windows_s: tuple[float, ...] | None = None,
    charge: str | None = None,
    failed_requests_count: bool = True,
) -> Law:
    """Make the law of a new account; a limit of None binds nothing.

    ``request_windows_s`` are further windows, shorter than a minute, in which the requests' limit holds
    in proportion, rounded up.
    """
    kind = METER_OF_LAW[law]
    meters: list[Meter] = []

    def add(
        name: str, resource: Resource, limit: int | None, period_s: float, scope: str = "organization"
    ) -> None:
        if limit is not None:
            meters.append(kind(name, resource, limit, period_s, scope))

    windows = DEFAULT_WINDOWS_S.get(law, ()) if request_windows_s is None else request_windows_s
    add("requests", Resource.REQUESTS, requests_per_minute, MINUTE_S)
    if requests_per_minute is not None:
        for window_s in windows:
            # 1e-9: 600 x 0.1 / 60 is a hair above 1 in floats and must not be rounded up to 2.
            short = math.ceil(requests_per_minute * window_s / MINUTE_S - 1e-9)
            add(f"requests_{window_s:g}s", Resource.REQUESTS, short, window_s)
    add("tokens", Resource.TOKENS, tokens_per_minute, MINUTE_S)
    add("project_tokens", Resource.TOKENS, project_tokens_per_minute, MINUTE_S, "project")
    add("input_tokens", Resource.INPUT_TOKENS, input_tokens_per_minute, MINUTE_S)
    add("output_tokens", Resource.OUTPUT_TOKENS, output_tokens_per_minute, MINUTE_S)
    add("requests_per_day", Resource.REQUESTS, requests_per_day, DAY_S)
    add("tokens_per_day", Resource.TOKENS, tokens_per_day, DAY_S)
    return Law(meters, charge or DEFAULT_CHARGE.get(law, "sum"), failed_requests_count)
