"""What a server says about its limits in a reply's headers, read into one ``Observation``.

Headers may be missing, -1, or garbage; what makes no sense is left out, never guessed.

The daily trap: OpenAI's ``x-ratelimit-limit-requests`` may be the limit of a *day*. Its bucket tells:
``reset = (limit - remaining) * period / limit`` is the time until it is full, so 10,000 with one used and
a reset of 8.64 s is a day's, with 6 ms a minute's. A reading whose period cannot be told has none.

The total that is no limit: Anthropic counts input and output tokens apart, and besides shows
``anthropic-ratelimit-tokens-*``: "the values for the most restrictive limit currently in effect", which is a
Workspace's, or else "the sum of input and output tokens" (platform.claude.com/docs/en/api/rate-limits,
response headers). Accounts are seen with 50,000 + 10,000 = 60,000 and 5,000,000 + 1,000,000 = 6,000,000. So
next to the two others it is news only where it is neither their sum nor one of them: a Workspace's limit. It
does not say of which kind; taken for one of both kinds together it is kept whichever it is. Where it stands
alone, on servers that count so, it is what it says.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from toolkit.limits.laws import APART, DAY, MINUTE, Dimension

_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(ms|us|µs|μs|ns|h|m|s)")
_LONGEST_S = 32 * DAY
"""A wait beyond a month is garbage; no limit has a longer period."""

_ROUNDING = 500
"""Anthropic shows remaining tokens "rounded to the nearest thousand" (same page); a server that shows other
numbers does not round."""

_OPENAI = {
    "requests": Dimension.REQUESTS,
    "tokens": Dimension.TOKENS,
    "project-requests": Dimension.REQUESTS,
    "project-tokens": Dimension.TOKENS,
}
_ANTHROPIC = {
    "requests": Dimension.REQUESTS,
    "tokens": Dimension.TOKENS,
    "input-tokens": Dimension.INPUT_TOKENS,
    "output-tokens": Dimension.OUTPUT_TOKENS,
}


class Reading(NamedTuple):
    """One limit as a server tells it.

    Attributes
    ----------
    dimension : Dimension
    limit, remaining : int or None
    reset_s : float or None
        Seconds until the limit is whole again (a bucket full, a calendar window over).
    period_s : int or None
        60 or 86400; None if it cannot be told.
    rounding : int
        What is left may be as much more, or less, than ``remaining``.
    """

    dimension: Dimension
    limit: int | None
    remaining: int | None
    reset_s: float | None
    period_s: int | None
    rounding: int = 0


class Observation(NamedTuple):
    """What one reply's headers say; ``retry_after_s`` is the least time to wait."""

    readings: tuple[Reading, ...] = ()
    retry_after_s: float | None = None


def read_headers(headers: Mapping[str, str], epoch_s: float) -> Observation:
    """Read the headers of OpenAI, Azure and Anthropic.

    Parameters
    ----------
    headers : mapping
        Names in any case.
    epoch_s : float
        Seconds since 1970 when they came; for the ones that give a time of day.
    """
    lower = {str(name).lower(): str(value).strip() for name, value in headers.items()}
    readings = []
    if not any("-ratelimit-" in name for name in lower):  # as of every server of one's own
        return Observation((), _retry_after(lower, epoch_s))
    for prefix, suffix_first, names in (
        ("x-ratelimit", False, _OPENAI),
        ("anthropic-ratelimit", True, _ANTHROPIC),
    ):
        for name, dimension in names.items():
            fields = {
                field: lower.get(
                    f"{prefix}-{name}-{field}" if suffix_first else f"{prefix}-{field}-{name}", ""
                )
                for field in ("limit", "remaining", "reset")
            }
            reading = _read_limit(dimension, fields, epoch_s, always_minute=suffix_first)
            if reading is not None:
                readings.append(reading)
    return Observation(_without_totals(readings), _retry_after(lower, epoch_s))


def _without_totals(readings: Sequence[Reading]) -> tuple[Reading, ...]:
    """Leave out limits on all tokens that say again what those on input and output say."""
    apart = [reading.limit for reading in readings if reading.dimension in APART and reading.limit]
    said = {None, sum(apart), *apart} if apart else set()
    return tuple(
        reading
        for reading in readings
        if reading.dimension is not Dimension.TOKENS or reading.limit not in said
    )


def read_duration(text: str) -> float | None:
    """Return the seconds of ``12ms``, ``8.64s``, ``1m30s``, ``1h2m`` or a bare number; None for all else."""
    number = _number(text)
    if number is not None:
        return number if number <= _LONGEST_S else None
    total, end = 0.0, 0
    for match in _DURATION_PART.finditer(text):
        if match.start() != end:
            return None
        total += float(match[1]) * _UNITS_S[match[2]]
        end = match.end()
    return total if text and end == len(text) and total <= _LONGEST_S else None


def _read_limit(
    dimension: Dimension, fields: Mapping[str, str], epoch_s: float, *, always_minute: bool
) -> Reading | None:
    limit, remaining = _count(fields["limit"]), _count(fields["remaining"])
    limit = limit or None  # a limit of 0 would admit nothing for ever; servers send it for "none set"
    if limit is None and remaining is None:
        return None
    may_be_rounded = always_minute and dimension is not Dimension.REQUESTS
    rounding = _ROUNDING if may_be_rounded and (remaining or 0) % (2 * _ROUNDING) == 0 else 0
    if limit is not None and remaining is not None:
        if remaining > limit + rounding:
            return None
        remaining = min(remaining, limit)
    if always_minute:
        reset_s = _seconds_until(fields["reset"], epoch_s)
        return Reading(dimension, limit, remaining, reset_s, MINUTE, rounding)
    reset_s = read_duration(fields["reset"])
    return Reading(dimension, limit, remaining, reset_s, _period(limit, remaining, fields["reset"], reset_s))


def _period(limit: int | None, remaining: int | None, text: str, reset_s: float | None) -> int | None:
    if reset_s is None:
        return None
    if _number(text) is not None:
        # Azure: a calendar window's remaining seconds, to which the bucket's identity does not apply.
        return MINUTE if reset_s <= MINUTE else DAY if reset_s <= DAY else None
    if limit is None or remaining is None or remaining == limit:
        return None
    # The printed time is rounded to its last unit, so the period is known up to that. A server that
    # computes in another moment than it prints is a little off as well.
    last_unit = _DURATION_PART.findall(text)[-1]
    decimals = len(last_unit[0].partition(".")[2])
    rounding_s = _UNITS_S[last_unit[1]] * 10.0**-decimals
    per_used = limit / (limit - remaining)
    low, high = 0.8 * (reset_s - rounding_s) * per_used, 1.25 * (reset_s + rounding_s) * per_used
    fitting = [period for period in (MINUTE, DAY) if low <= period <= high]
    return fitting[0] if len(fitting) == 1 else None


def _retry_after(headers: Mapping[str, str], epoch_s: float) -> float | None:
    found = []
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        found.append(milliseconds / 1000)
    else:  # the milliseconds are the same figure, not rounded up
        seconds = _seconds_until(headers.get("retry-after", ""), epoch_s)
        if seconds is not None:
            found.append(seconds)
    return next((seconds for seconds in found if seconds <= _LONGEST_S), None)


def _seconds_until(text: str, epoch_s: float) -> float | None:
    """Return the seconds of a number, an RFC 3339 time or an HTTP date; what is past is 0."""
    number = _number(text)
    if number is not None or not text:
        return number
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        import email.utils  # 10 ms; dates are rare

        try:
            moment = email.utils.parsedate_to_datetime(text)
        except (ValueError, TypeError, IndexError, OverflowError):
            return read_duration(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    try:
        return max(0.0, moment.timestamp() - epoch_s)
    except (OverflowError, ValueError):
        return None


def _number(text: str) -> float | None:
    """Return a plain decimal number from 0 on; signs, exponents, inf and nan are not one."""
    if not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,9})?", text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def _count(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,15}", text) else None
