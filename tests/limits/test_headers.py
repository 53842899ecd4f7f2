"""What servers say: OpenAI, Azure, Anthropic, and garbage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.limits import Reading, read_headers
from toolkit.limits.headers import read_duration
from toolkit.limits.laws import DAY, MINUTE, Dimension

NOW = 1_700_000_000.0  # 2023-11-14T22:13:20Z


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12ms", 0.012),
        ("8.64s", 8.64),
        ("1m30s", 90),
        ("6m0s", 360),
        ("1h2m", 3720),
        ("59", 59),
        ("0", 0),
        ("1µs", 1e-6),
        ("", None),
        ("-1", None),
        ("soon", None),
        ("1m30", None),
        ("s", None),
        ("1e9", None),
        ("nan", None),
        ("99999999h", None),
    ],
)
def test_durations(text, seconds):
    """Go durations and bare numbers; everything else is nothing."""
    assert read_duration(text) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("limit", "remaining", "reset", "period"),
    [
        ("10000", "9999", "8.64s", DAY),
        ("10000", "9999", "6ms", MINUTE),
        ("500", "499", "120ms", MINUTE),
        ("500", "499", "2m52.8s", DAY),
        ("200", "150", "6h0m0s", DAY),
        ("60", "0", "1m0s", MINUTE),
        ("500", "500", "0s", None),
        ("500", "499", "", None),
        ("500", "499", "17s", None),
        ("100000", "99000", "37", MINUTE),
        ("1000", "900", "40000", DAY),
    ],
)
def test_the_period_is_told_by_the_reset(limit, remaining, reset, period):
    """A day's limit is never taken for a minute's: reset = (limit - remaining) x period / limit."""
    headers = {
        "X-RateLimit-Limit-Requests": limit,
        "x-ratelimit-remaining-requests": remaining,
        "X-RATELIMIT-RESET-REQUESTS": reset,
    }
    (found,) = read_headers(headers, NOW).readings
    assert (found.limit, found.remaining, found.period_s) == (int(limit), int(remaining), period)


@given(
    limit=st.integers(2, 10**6),
    used=st.floats(0.001, 1),
    period=st.sampled_from([MINUTE, DAY]),
    scale=st.sampled_from([1, 1000]),
)
def test_the_period_is_told_or_left_open_never_mistaken(limit, used, period, scale):
    """Whatever the numbers and the rounding of the reset, a period that is named is the right one."""
    remaining = limit - max(1, int(limit * used))
    reset = (limit - remaining) * period / limit
    text = f"{reset:.0f}s" if scale == 1 else f"{reset * 1000:.0f}ms"
    headers = {
        "x-ratelimit-limit-tokens": str(limit),
        "x-ratelimit-remaining-tokens": str(remaining),
        "x-ratelimit-reset-tokens": text,
    }
    (found,) = read_headers(headers, NOW).readings
    assert found.period_s in (period, None)


def test_anthropic():
    """Four dimensions, always of a minute, full again at a time of day."""
    headers = {
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "49",
        "anthropic-ratelimit-requests-reset": "2023-11-14T22:13:22Z",
        "anthropic-ratelimit-output-tokens-limit": "8000",
        "anthropic-ratelimit-output-tokens-remaining": "8000",
        "retry-after": "12",
    }
    seen = read_headers(headers, NOW)
    assert seen.readings == (
        Reading(Dimension.REQUESTS, 50, 49, 2.0, MINUTE),
        Reading(Dimension.OUTPUT_TOKENS, 8000, 8000, None, MINUTE, rounding=500),
    )
    assert seen.retry_after_s == 12


@pytest.mark.parametrize(
    ("input_tokens", "output_tokens", "tokens", "limit"),
    [
        (50_000, 10_000, 60_000, None),
        (50_000, 10_000, 50_000, None),
        (50_000, 10_000, 10_000, None),
        (None, 8000, 8000, None),
        (50_000, 10_000, 38_000, 38_000),
        (50_000, 10_000, None, None),
        (None, None, 6000, 6000),
    ],
)
def test_a_total_is_no_limit(input_tokens, output_tokens, tokens, limit):
    """Anthropic's limit on all tokens is news only where it is not made of those on the two kinds."""
    shown = {"tokens": tokens, "input-tokens": input_tokens, "output-tokens": output_tokens}
    headers = {f"anthropic-ratelimit-{name}-limit": str(number) for name, number in shown.items() if number}
    headers |= {f"anthropic-ratelimit-{name}-remaining": "0" for name in shown}
    found = {reading.dimension: reading.limit for reading in read_headers(headers, NOW).readings}
    assert found.get(Dimension.TOKENS) == limit
    assert found.get(Dimension.OUTPUT_TOKENS) == output_tokens


@pytest.mark.parametrize(
    ("limit", "remaining", "kept"),
    [(7600, 8000, (7600, 500)), (400, 0, (0, 500)), (7000, 8000, None), (7000, 6421, (6421, 0))],
)
def test_rounded_tokens(limit, remaining, kept):
    """Thousands are rounded, even above the limit, but by no more than half of one; other numbers are not."""
    headers = {
        "anthropic-ratelimit-output-tokens-limit": str(limit),
        "anthropic-ratelimit-output-tokens-remaining": str(remaining),
    }
    found = [(reading.remaining, reading.rounding) for reading in read_headers(headers, NOW).readings]
    assert found == ([] if kept is None else [kept])


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"Retry-After-Ms": "1234", "Retry-After": "2"}, 1.234),
        ({"retry-after": "Tue, 14 Nov 2023 22:14:20 GMT"}, 60),
        ({"retry-after": "Tue, 14 Nov 2023 22:00:00 GMT"}, 0),
        ({"retry-after": "whenever"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after-ms": "x", "retry-after": "3"}, 3),
        ({}, None),
    ],
)
def test_retry_after(headers, seconds):
    """Seconds, milliseconds and dates; the past is now."""
    assert read_headers(headers, NOW).retry_after_s == seconds


@given(
    st.dictionaries(st.sampled_from(["limit", "remaining", "reset"]), st.text(max_size=12)),
    st.text(max_size=30),
)
def test_garbage_is_left_out(fields, retry):
    """No text makes it raise, or gives a limit below 1, a remainder below 0 or above the limit."""
    headers = {f"x-ratelimit-{field}-tokens": text for field, text in fields.items()}
    headers |= {f"anthropic-ratelimit-tokens-{field}": text for field, text in fields.items()}
    seen = read_headers({**headers, "retry-after": retry}, NOW)
    for found in seen.readings:
        assert found.limit is None or found.limit >= 1
        assert found.remaining is None or 0 <= found.remaining <= (found.limit or 10**15)
    assert seen.retry_after_s is None or seen.retry_after_s >= 0


def test_minus_one_is_no_reading():
    """Servers send -1 for 'none'."""
    headers = {"x-ratelimit-limit-tokens": "-1", "x-ratelimit-remaining-tokens": "-1"}
    assert read_headers(headers, NOW).readings == ()
