"""Headers that tell a client about its limits, as each vendor writes them.

=========== ====================================================== ==============================
vendor      limits                                                 when to come again
=========== ====================================================== ==============================
openai      ``x-ratelimit-*``, durations as Go writes them         ``retry-after``, whole seconds
azure       ``x-ratelimit-*``, durations as bare whole seconds     both, the other in ms
anthropic   ``anthropic-ratelimit-*``, RFC 3339 times              ``retry-after``, whole seconds
=========== ====================================================== ==============================

Anthropic's remaining tokens are rounded to the nearest thousand. Its ``anthropic-ratelimit-tokens-*`` is no
limit of its own where input and output are counted apart, but the sum of both
(platform.claude.com/docs/en/api/rate-limits, response headers; a Workspace's limits, which would be shown
there, are not played). With a limit on only one of them, as no account has it, it is that one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime

from toolkit.testing.meters import Meter

HEADER_STYLES = ("vendor", "daily", "bare", "minus_one", "missing")
"""What the option ``headers`` takes.

``daily`` shows the day's limit of requests where ``vendor`` shows the minute's, ``bare`` writes durations
as whole seconds, ``minus_one`` has -1 in place of every remainder, ``missing`` leaves the limits out.
"""

Headers = list[tuple[str, str]]


def go_duration(seconds: float) -> str:
    """Write a duration as Go does, rounded up to milliseconds: ``12ms``, ``8.64s``, ``1m30s``, ``1h0m0s``."""
    # 1e-6: 0.02 s is a hair more than 20 ms in floats.
    total_ms = max(0, math.ceil(seconds * 1000 - 1e-6))
    if total_ms < 1000:
        return f"{total_ms}ms" if total_ms else "0s"
    minutes, ms = divmod(total_ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    whole, fraction = divmod(ms, 1000)
    text = f"{whole}.{fraction:03d}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def limit_headers(vendor: str, style: str, meters: Iterable[Meter], now: float) -> Headers:
    """Return the headers that show limits, remainders and resets.

    Parameters
    ----------
    vendor : str
    style : str
        One of ``HEADER_STYLES``.
    meters : iterable of Meter
    now : float
        Epoch seconds.
    """
    if style == "missing":
        return []
    shown = _shown(meters, vendor, style)
    headers: Headers = []
    for word, its_meters in shown.items():
        limit = sum(meter.limit for meter in its_meters)
        left = max(0, sum(math.floor(meter.remaining(now) + 1e-6) for meter in its_meters))
        reset = max(meter.reset_s(now) for meter in its_meters)
        if vendor == "anthropic" and word != "requests":
            left = (left + 500) // 1000 * 1000
        remaining = "-1" if style == "minus_one" else str(left)
        if vendor == "anthropic":
            at = datetime.fromtimestamp(math.ceil(now + reset), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            start = f"anthropic-ratelimit-{word}"
            headers += [
                (f"{start}-limit", str(limit)),
                (f"{start}-remaining", remaining),
                (f"{start}-reset", at),
            ]
            continue
        bare = vendor == "azure" or style == "bare"
        headers += [
            (f"x-ratelimit-limit-{word}", str(limit)),
            (f"x-ratelimit-remaining-{word}", remaining),
            (f"x-ratelimit-reset-{word}", str(math.ceil(reset - 1e-6)) if bare else go_duration(reset)),
        ]
    return headers


def _shown(meters: Iterable[Meter], vendor: str, style: str) -> dict[str, list[Meter]]:
    """Return which meters stand behind which word of the headers; the windows of seconds are never shown."""
    by_name = {meter.name: meter for meter in meters}

    def first(*names: str) -> list[Meter]:
        return [by_name[name] for name in names if name in by_name][:1]

    requests = ("requests_per_day", "requests") if style == "daily" else ("requests", "requests_per_day")
    if vendor == "anthropic":
        both = [by_name[name] for name in ("input_tokens", "output_tokens") if name in by_name]
        shown = {
            "requests": first(*requests),
            "tokens": first("tokens", "tokens_per_day") or both,
            "input-tokens": first("input_tokens"),
            "output-tokens": first("output_tokens"),
        }
    else:
        shown = {
            "requests": first(*requests),
            "tokens": first("tokens", "input_tokens", "tokens_per_day"),
            "project-tokens": first("project_tokens"),
        }
    return {word: behind for word, behind in shown.items() if behind}


def retry_headers(vendor: str, wait_s: float) -> tuple[Headers, float]:
    """Return the headers that say when to come again, and the shortest wait that one of them asks for."""
    whole = max(1, math.ceil(wait_s - 1e-6))
    if vendor == "azure":
        ms = max(1, math.ceil(wait_s * 1000 - 1e-6))
        return [("retry-after-ms", str(ms)), ("retry-after", str(whole))], ms / 1000
    return [("retry-after", str(whole))], float(whole)


def wrong_headers() -> Headers:
    """Return headers that no client may believe: no numbers, negative ones, times that never come."""
    return [
        ("x-ratelimit-limit-requests", "banana"),
        ("x-ratelimit-remaining-requests", "999999999999"),
        ("x-ratelimit-reset-requests", "-5s"),
        ("x-ratelimit-limit-tokens", "-1"),
        ("x-ratelimit-remaining-tokens", "1e400"),
        ("x-ratelimit-reset-tokens", "NaN"),
        ("anthropic-ratelimit-requests-limit", "0"),
        ("anthropic-ratelimit-requests-remaining", ""),
        ("anthropic-ratelimit-requests-reset", "0000-99-99T99:99:99Z"),
        ("retry-after", "tomorrow"),
        ("retry-after-ms", "-1000"),
    ]
