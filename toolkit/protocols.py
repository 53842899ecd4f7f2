"""The seams: what a provider, a retry decision and a run's context are to the layers above and below."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, ClassVar, Protocol

from toolkit.clock import Clock, SystemClock
from toolkit.errors import ConfigError, ProviderError, ToolkitError, nearest_name
from toolkit.records import CallRecord, Reply, Request


class Retry(StrEnum):
    """What to do with a failed attempt."""

    NEVER = "never"
    """The same request would fail again."""
    TRANSIENT = "transient"
    """Try again after a backoff; counts as an attempt."""
    RATE_LIMITED = "rate_limited"
    """Try again when the server allows it; does not count as an attempt."""


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """What a provider makes of an exception.

    Attributes
    ----------
    error : ProviderError
        The exception in the toolkit's own terms.
    retry : Retry
    retry_after_s : float or None
        Least time to wait in seconds, where the server gave one.
    status_code : int or None
        HTTP status, where there is one.
    headers : mapping
        Of the server's answer, those that tell of limits, waits and the request's id; lower-case names.
    limit_hit : str or None
        The limit that the server named: ``requests``, ``tokens``, ``input_tokens``, ``output_tokens`` (of a
        minute, or with ``_per_day``), ``concurrency`` or ``slow_down``.
    paid_unknown : bool
        The request may have been answered and charged although no answer came.
    lasting : bool
        Every further call of the run would fail in the same way: a model that is not there, say.
    """

    error: ProviderError
    retry: Retry
    retry_after_s: float | None = None
    status_code: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    limit_hit: str | None = None
    paid_unknown: bool = False
    lasting: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended: with a reply, with an error, or (neither) cancelled."""

    record: CallRecord
    reply: Reply | None = None
    error: ProviderError | None = None


class Provider(Protocol):
    """What the path of a call needs of a provider; the rest of a provider has defaults."""

    name: ClassVar[str]
    model: str

    def generate(self, request: Request) -> Reply:
        """Answer one request, once; raise what the vendor's library raises."""
        ...

    def classify(self, error: Exception) -> RetryDecision:
        """Say what an exception out of ``generate`` means."""
        ...

    def price(self, reply: Reply) -> float | None:
        """Return what a reply costs in US dollars, or None if that is not known."""
        ...

    def identity(self) -> Mapping[str, Any] | None:
        """Return what the answers depend on besides the request; None if nobody can know."""
        ...

    def price_bound(self, input_tokens: int, output_tokens: int) -> float | None:
        """Return what so many tokens cost at most, or None if that is not known."""
        ...

    def input_bound(self, request: Request) -> int:
        """Return a number of tokens that no server counts more than for a prompt."""
        ...

    def input_estimate(self, request: Request) -> int:
        """Estimate the tokens of a prompt as the server will count them."""
        ...

    def body_bytes(self, request: Request) -> int:
        """Estimate the size of a request's body, by which some servers count."""
        ...


@dataclass(frozen=True)
class SummarizeParams:
    """What a caller may tell ``provider.summarize`` about one text.

    Attributes
    ----------
    chunk_parallelism : int
        Requests of this text in flight at a time.
    episode_id : str
        Name of the text in records and errors.
    stop : threading.Event
        Once it is set no new call starts and a local model stops at the next token.
    on_call : callable
        Called with each ``CallRecord`` as it ends, from the thread that made the call.
    on_drain : callable
        Called with an error that every further call would meet too: no quota left, a wrong key, a store that
        cannot be written.
    on_plan : callable
        Called with the number of requests that are known to be still to come, whenever it grows.
    keeper : Keeper or None
        What keeps the calls and may have their answers (``toolkit.store.keeper``); None: nothing does.
    order : float
        Whose calls the limiter lets go first: lower ones, the number of the episode in a run.
    worker : str
        Who makes the calls, for the records; the thread's name if empty.
    clock : Clock
    """

    chunk_parallelism: int = 1
    episode_id: str = "text"
    keeper: Any = None
    order: float = 0.0
    stop: threading.Event = field(default_factory=threading.Event)
    on_call: Callable[[CallRecord], None] = lambda record: None
    on_drain: Callable[[ToolkitError], None] = lambda error: None
    on_plan: Callable[[int], None] = lambda requests: None
    worker: str = ""
    clock: Clock = field(default_factory=SystemClock)

    @classmethod
    def of(cls, params: Mapping[str, Any] | SummarizeParams | None) -> SummarizeParams:
        """Read the mapping that callers pass; an unknown name is refused.

        Raises
        ------
        ConfigError
            If a name is unknown or ``chunk_parallelism`` is not a positive whole number.
        """
        if isinstance(params, SummarizeParams):
            return params
        given = dict(params or {})
        known = [item.name for item in fields(cls)]
        for name in given:
            if name not in known:
                raise ConfigError(f"params: {name!r} is unknown; {nearest_name(name, known)}")
        width = given.get("chunk_parallelism", 1)
        if isinstance(width, bool) or not isinstance(width, int) or width < 1:
            raise ConfigError(f"params: chunk_parallelism={width!r} must be a whole number from 1 on")
        return cls(**given)
