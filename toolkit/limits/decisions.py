"""What the core is asked and what it answers: small named records."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from toolkit.errors import ToolkitError
from toolkit.limits.charges import Amounts, Demand
from toolkit.limits.laws import Dimension


class Cause(StrEnum):
    """The constraint that a request waits for: the one that will be satisfied last."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    SLOTS = "slots"
    COOLDOWN = "cooldown"


class Refusal(StrEnum):
    """What a server complained about."""

    RATE = "rate"
    """Requests or tokens of a minute."""
    DAY = "day"
    """Requests or tokens of a day."""
    CONCURRENCY = "concurrency"
    """Too many requests in flight."""
    SLOW_DOWN = "slow_down"
    """Traffic that grew too fast."""
    OVERLOAD = "overload"
    """The server itself (503, 529)."""


CUTTING = frozenset({Refusal.CONCURRENCY, Refusal.SLOW_DOWN, Refusal.OVERLOAD})
"""Refusals that say that too much was in flight."""


class Lease(NamedTuple):
    """The right to send one request now; to be settled exactly once.

    Attributes
    ----------
    id : int
        Unique within the quota key.
    quota_key : str
    admitted_at : float
        Seconds on the core's time axis.
    amounts : tuple of int
        Requests, tokens, input tokens and output tokens that were reserved.
    demand : Demand
    """

    id: int
    quota_key: str
    admitted_at: float
    amounts: Amounts
    demand: Demand


class Wait(NamedTuple):
    """Not now.

    Attributes
    ----------
    wake_at : float
        When the request fits if nothing else happens; infinity if that depends on somebody giving back.
    cause : Cause
    look_again_at : float
        When to ask again at the latest: earlier than ``wake_at`` only where other processes, which cannot
        wake this one, share the state.
    """

    wake_at: float
    cause: Cause
    look_again_at: float


class Exhausted(NamedTuple):
    """A day's limit is used up; the run should drain. It may go on at ``until`` (seconds, core's axis)."""

    until: float
    dimension: Dimension


class LeaseError(ToolkitError, RuntimeError):
    """A lease was settled twice or was never given."""


class LimitEvent(NamedTuple):
    """One row of the ``limits`` frame; ``t_s`` is on the core's axis (epoch seconds).

    ``event`` is one of ``admitted settled unsent refused cooldown exhausted cut grown tightened learned
    retuned forgotten reclaimed overshoot waiting idle``. A number is None where there is no limit or no
    reading. The last five are of a lease's begin and end: its id, and what the event adds to what counts, all
    that is reserved at first and what corrects that in the end.
    """

    t_s: float
    quota_key: str
    event: str
    requests_60s: int
    tokens_60s: int
    in_flight: int
    slot_cap: int | None
    waiting: int
    requests_limit: int | None
    tokens_limit: int | None
    server_remaining_requests: int | None
    server_remaining_tokens: int | None
    lease_id: int | None = None
    requests: int = 0
    tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
