"""What a server's answer says of a failure: its status, its codes, its numbers and its headers.

Words decide nothing. Where only a message holds a fact (which limit, which numbers), it is read by a strict
pattern, and only after status and code have said what the message is about.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from toolkit.errors import (
    AuthenticationFailed,
    ContextTooLong,
    Oversize,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    TransientError,
)
from toolkit.protocols import Retry


class Verdict(NamedTuple):
    """What a kind of failure means."""

    error: type[ProviderError]
    retry: Retry
    paid_unknown: bool = False
    lasting: bool = False


REJECTED = Verdict(RequestRejected, Retry.NEVER)
MISPLACED = Verdict(RequestRejected, Retry.NEVER, lasting=True)
"""Not this request is wrong but the place that it is sent to: address, model, or certificate."""
REFUSED = Verdict(AuthenticationFailed, Retry.NEVER)
NOT_SENT = Verdict(TransientError, Retry.TRANSIENT)
UNCLEAR = Verdict(TransientError, Retry.TRANSIENT, paid_unknown=True)

QUOTA = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "billing_hard_limit_reached",
        "billing_not_active",
        "billing_error",
        "enforced_spend_limit_reached",
        "contract_spend_limit_reached",
        "linked_organization_spend_limit_reached",
        "linked_organization_billing_unavailable",
    }
)
"""``code``, ``type`` or ``details.error_code`` of an account that may spend no more."""
CONTEXT = frozenset({"context_length_exceeded", "exceed_context_size_error"})
GROWTH = frozenset({"slow_down", "ramp_limit_exceeded"})
CONCURRENCY = frozenset({"concurrency_limit_exceeded", "too_many_concurrent_requests"})
PASSING_4XX = frozenset({408, 409, 425, 499})
LASTING_5XX = frozenset({501, 505})
UNCLEAR_STATUS = frozenset({408, 499, 502, 504, 520, 524})
"""Statuses of something between us and the model, which may have gone on with its work."""

LIMITS = frozenset({"requests", "tokens", "input_tokens", "output_tokens"})

_OPENAI_LIMIT = re.compile(
    r" on (?P<what>requests|tokens|input tokens|output tokens) per (?P<per>min|day|[\d.]+ s)(?: \(\w+\))?: "
    r"Limit (?P<limit>[\d,]+)(?:, Used [\d,]+)?, Requested (?P<requested>[\d,]+)\."
)
_AZURE_LIMIT = re.compile(r" have exceeded (?P<what>call|token) rate limit of ")
_ANTHROPIC_LIMIT = re.compile(
    r" rate limit of (?P<limit>[\d,]+) (?P<what>requests|tokens|input tokens|output tokens) "
    r"per (?P<per>minute|day)\b"
)
_CONTEXT_NUMBERS = (
    # OpenAI's form, which vLLM and others repeat without the code.
    re.compile(
        r"maximum context length is (?P<limit>[\d,]+) tokens\.? However, "
        r"(?:you requested|your request has|your messages resulted in) (?P<asked>[\d,]+)"
    ),
    re.compile(r"\Aprompt is too long: (?P<asked>[\d,]+) tokens > (?P<limit>[\d,]+) maximum"),
)

_KEPT = frozenset(
    {
        "retry-after",
        "retry-after-ms",
        "x-request-id",
        "request-id",
        "apim-request-id",
        "openai-processing-ms",
        "x-should-retry",
        "date",
    }
)


class Said(NamedTuple):
    """What an answer says of its failure."""

    codes: frozenset[str] = frozenset()
    type: str = ""
    param: str = ""
    message: str = ""


class UnusableAnswer(Exception):
    """A 200 that holds no reply; ``failed_status`` is that of the error which stands in its place, if any."""

    def __init__(self, response: Any, problem: str, *, lasting: bool = False, failed_status: int = 0) -> None:
        super().__init__(problem)
        self.response = response
        self.problem = problem
        self.lasting = lasting
        self.failed_status = failed_status


def kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that tell of limits, waits and the request's id, with lower-case names."""
    lower = {name.lower(): str(value)[:200] for name, value in headers.items()}
    return {
        name: value
        for name, value in lower.items()
        if name in _KEPT or name.startswith(("x-ratelimit-", "anthropic-ratelimit-"))
    }


def read_body(response: Any) -> Said:
    """Return what an answer says, in OpenAI's form, Azure's, Anthropic's, or another server's."""
    try:
        body = json.loads(response.content)
    except ValueError:
        return Said(message=f"(no JSON: {response.headers.get('content-type', 'of an unknown type')})")
    error: Any = body.get("error", body) if isinstance(body, dict) else body
    if not isinstance(error, dict):
        return Said(message=str(error))
    details = error.get("details")
    found = [error.get("code"), error.get("type")]
    found += [details.get("error_code")] if isinstance(details, dict) else []
    message = error.get("message") or error.get("detail") or ""
    return Said(
        codes=frozenset(str(code) for code in found if isinstance(code, str | int)),
        type=str(error.get("type") or ""),
        param=str(error.get("param") or ""),
        message=message if isinstance(message, str) else json.dumps(message),
    )


def judge(status: int, said: Said, headers: Mapping[str, str]) -> tuple[Verdict, str | None]:
    """Say what a status and a body mean, and which limit they name."""
    if said.codes & QUOTA or status == 402:
        return Verdict(QuotaExhausted, Retry.NEVER), None
    if status == 429:
        return judge_429(said, headers)
    if status in (401, 403):
        return REFUSED, None
    if status == 400 and (said.codes & CONTEXT or above_context(said.message)):
        return Verdict(ContextTooLong, Retry.NEVER), None
    if status in PASSING_4XX or (status >= 500 and status not in LASTING_5XX):
        return (UNCLEAR if status in UNCLEAR_STATUS else NOT_SENT), None
    return (MISPLACED if status == 404 or 300 <= status < 400 else REJECTED), None


def judge_429(said: Said, headers: Mapping[str, str]) -> tuple[Verdict, str | None]:
    """Tell apart the meanings of a 429, and name the limit."""
    if said.codes & GROWTH:
        return Verdict(RateLimited, Retry.RATE_LIMITED), "slow_down"
    if said.codes & CONCURRENCY:
        return Verdict(RateLimited, Retry.RATE_LIMITED), "concurrency"
    if "rate_limit_exceeded" in said.codes and (match := _OPENAI_LIMIT.search(said.message)):
        name = _limit_name(match["what"], match["per"])
        if _number(match["requested"]) > _number(match["limit"]):
            return Verdict(Oversize, Retry.NEVER), name
        return Verdict(RateLimited, Retry.RATE_LIMITED), name
    limit_hit = None
    if "429" in said.codes and (match := _AZURE_LIMIT.search(said.message)):
        limit_hit = {"call": "requests", "token": "tokens"}[match["what"]]
    elif "rate_limit_error" in said.codes:
        match = _ANTHROPIC_LIMIT.search(said.message)
        if match is None and "retry-after" not in headers:
            # Anthropic says when to come again for every limit but the one on spending.
            return Verdict(QuotaExhausted, Retry.NEVER), None
        limit_hit = match and _limit_name(match["what"], match["per"])
    elif said.type in LIMITS:
        limit_hit = said.type
    return Verdict(RateLimited, Retry.RATE_LIMITED), limit_hit or _used_up(headers)


def _limit_name(what: str, per: str) -> str:
    return what.replace(" ", "_") + ("_per_day" if per == "day" else "")


def _used_up(headers: Mapping[str, str]) -> str | None:
    """Return the one limit of which nothing remains."""
    names = {
        name: f"{prefix}{name.replace('_', '-')}{suffix}"
        for prefix, suffix in (("x-ratelimit-remaining-", ""), ("anthropic-ratelimit-", "-remaining"))
        for name in LIMITS
        if headers.get(f"{prefix}{name.replace('_', '-')}{suffix}") == "0"
    }
    return next(iter(names)) if len(names) == 1 else None


def above_context(message: str) -> bool:
    """Whether a message says that more tokens were asked for than the context holds; the numbers decide."""
    for pattern in _CONTEXT_NUMBERS:
        if match := pattern.search(message):
            return _number(match["asked"]) > _number(match["limit"])
    return False


def _number(digits: str) -> int:
    return int(digits.replace(",", "") or 0)
