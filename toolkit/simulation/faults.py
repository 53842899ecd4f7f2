"""``Faults``: what goes wrong at a server, by chance; and the chance itself, which depends on no order."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from hashlib import blake2b

from toolkit.errors import ConfigError, RateLimited, TransientError
from toolkit.protocols import Retry, RetryDecision

_RATES = ("rate_limited", "overloaded", "server_error", "timeout")
CROWDED = "crowded"
"""What comes above ``LatencyModel.max_concurrent``: not by chance."""
AT_ONCE = frozenset({"rate_limited", "overloaded", CROWDED})
"""Refused without being served."""


@dataclass(frozen=True, slots=True)
class Faults:
    """Rates of an attempt's failures, each from 0 to 1. Local models have none of them.

    Attributes
    ----------
    rate_limited : float
        Refused with status 429, at once.
    overloaded : float
        Refused with status 503, at once; cuts the adaptive cap on requests in flight.
    server_error : float
        Status 500 after the time of a whole service.
    timeout : float
        No answer until ``config.request_timeout_s``; it may have been charged.
    retry_after_s : float or None
        What a 429 asks to wait; None: it does not say.
    refused_after_s : float
        How soon "at once" is; also for what comes above a latency model's ``max_concurrent``.
    """

    rate_limited: float = 0.0
    overloaded: float = 0.0
    server_error: float = 0.0
    timeout: float = 0.0
    retry_after_s: float | None = 1.0
    refused_after_s: float = 0.05

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "retry_after_s" and value is None:
                continue
            most = 1 if item.name in _RATES else math.inf
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
                bound = "between 0 and 1" if item.name in _RATES else "seconds from 0 on"
                raise ConfigError(f"faults: {item.name}={value!r} must be {bound}")
        total = sum(getattr(self, name) for name in _RATES)
        if total > 1 + 1e-9:
            raise ConfigError(f"faults: the rates are {total:g} together; at most 1 is possible")

    def draw(self, chance: float) -> str | None:
        """Return the fault of an attempt, or None."""
        for name in _RATES:
            rate: float = getattr(self, name)
            if chance < rate:
                return name
            chance -= rate
        return None

    def decision(self, fault: str) -> RetryDecision:
        """Return what a provider makes of a fault."""
        if fault == "rate_limited":
            error = RateLimited("simulated: too many requests", retry_after_s=self.retry_after_s)
            return RetryDecision(error, Retry.RATE_LIMITED, self.retry_after_s, 429, limit_hit="requests")
        if fault == CROWDED:  # as servers do, it does not say when to come again
            error = RateLimited("simulated: too many requests at once")
            return RetryDecision(error, Retry.RATE_LIMITED, status_code=429, limit_hit="concurrency")
        if fault == "overloaded":
            return RetryDecision(TransientError("simulated: overloaded"), Retry.TRANSIENT, status_code=503)
        if fault == "server_error":
            return RetryDecision(TransientError("simulated: server error"), Retry.TRANSIENT, status_code=500)
        return RetryDecision(TransientError("simulated: no answer"), Retry.TRANSIENT, paid_unknown=True)


class SimulatedFault(Exception):
    """An attempt failed, with what the provider makes of it."""

    def __init__(self, decision: RetryDecision) -> None:
        super().__init__(str(decision.error))
        self.decision = decision


def chances(seed: int, name: str) -> tuple[float, float, float]:
    """Return three numbers in (0, 1) that depend on nothing but the arguments.

    So a call meets the same luck under every setting, and what two settings differ in is not luck.
    """
    digest = blake2b(f"{seed} {name}".encode(), digest_size=24).digest()
    first, second, third = (int.from_bytes(digest[at : at + 8], "big") >> 12 for at in (0, 8, 16))
    return (first + 0.5) / 2**52, (second + 0.5) / 2**52, (third + 0.5) / 2**52
