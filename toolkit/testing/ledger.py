"""What the server writes down about every request, and the score that is made of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class JournalRow:
    """One request, in the order of arrival; times are epoch seconds of the server's clock.

    Attributes
    ----------
    arrived : float
        When its last byte was read.
    path : str
    model : str
        Empty if it did not come to that.
    body_hash : str
        Of path and body.
    status : int or None
        HTTP status; 0 if the connection was cut instead, None as long as there is no answer.
    reason : str or None
        Why it was not answered: a kind of error or fault.
    fault : str or None
        The fault that it met.
    admitted : bool
        Whether the law let it in.
    by_law : bool
        Whether the law (not a fault, not the cap on concurrency) refused it.
    early : bool
        Whether it came before the Retry-After of its last refusal ran out.
    paid : bool
        Whether an answer was made for it.
    whole : bool
        Whether all of a well-formed answer was handed to the connection.
    charged : int
        Tokens that the law counts for it in the end.
    input_tokens, cached_tokens, output_tokens : int
        As in the reply's usage.
    retry_after_s : float or None
        Least wait that the answer asked for.
    duration_s : float
        From its arrival to its answer.
    """

    arrived: float
    path: str
    body_hash: str
    model: str = ""
    status: int | None = None
    reason: str | None = None
    fault: str | None = None
    admitted: bool = False
    by_law: bool = False
    early: bool = False
    paid: bool = False
    whole: bool = False
    charged: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    retry_after_s: float | None = None
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Score:
    """How a client did since the server's start or the last ``reset_score``.

    Attributes
    ----------
    requests : int
        That arrived, whatever became of them (``GET /v1/models`` and token counts are not among them).
    admitted : int
        Let in by the law.
    refused : dict
        Requests without an answer, by reason: a kind of error or a fault.
    rate_limited : int
        429s by the law that ask to come again later; requests that could never fit are not among them.
    early_retries : int
        Requests whose body (or Idempotency-Key) was refused before and whose Retry-After still ran.
    paid, paid_twice, lost : int
        Answers made; those whose body had been answered whole before; those that did not arrive whole.
    tokens_charged : int
        By the law, as settled.
    input_tokens, output_tokens : int
        Of the answers made.
    max_in_flight : int
        Most requests that were worked on at a time.
    arrivals : tuple of float
        Epoch seconds.
    first_admission, last_admission : float or None
        Epoch seconds.
    quota_shares : dict
        For each limit: used / allowed from the first to the last admission. A bucket allows what it held
        at first + rate x time, a window ``limit`` for each one that was touched. The server cannot see
        whether a client had anything to send, so that all of this time counts.
    quota_share : float
        The largest of them: that of the limit which bound.
    """

    requests: int = 0
    admitted: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    rate_limited: int = 0
    early_retries: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    paid: int = 0
    paid_twice: int = 0
    lost: int = 0
    tokens_charged: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    max_in_flight: int = 0
    arrivals: tuple[float, ...] = field(default=(), repr=False)
    first_admission: float | None = None
    last_admission: float | None = None
    quota_shares: dict[str, float] = field(default_factory=dict)
    quota_share: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the score as JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Score:
        """Read what ``to_json`` made."""
        return cls(**{**value, "arrivals": tuple(value["arrivals"])})


def score_of(rows: Iterable[JournalRow], *, max_in_flight: int, quota_shares: dict[str, float]) -> Score:
    """Count a journal."""
    rows = tuple(rows)
    admissions = [row.arrived for row in rows if row.admitted]
    answered_whole = Counter(row.body_hash for row in rows if row.whole)
    return Score(
        requests=len(rows),
        admitted=len(admissions),
        refused=dict(Counter(row.reason for row in rows if row.reason is not None)),
        rate_limited=sum(row.by_law and row.reason == "rate_limit_exceeded" for row in rows),
        early_retries=sum(row.early for row in rows),
        faults=dict(Counter(row.fault for row in rows if row.fault is not None)),
        paid=sum(row.paid for row in rows),
        paid_twice=sum(times - 1 for times in answered_whole.values()),
        # A request that is still worked on has neither arrived nor been lost.
        lost=sum(row.paid and not row.whole for row in rows),
        tokens_charged=sum(row.charged for row in rows),
        input_tokens=sum(row.input_tokens for row in rows if row.paid),
        output_tokens=sum(row.output_tokens for row in rows if row.paid),
        max_in_flight=max_in_flight,
        arrivals=tuple(row.arrived for row in rows),
        first_admission=min(admissions, default=None),
        last_admission=max(admissions, default=None),
        quota_shares=quota_shares,
        quota_share=max(quota_shares.values(), default=0.0),
    )
