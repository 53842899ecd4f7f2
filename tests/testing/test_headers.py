"""Headers and durations as the vendors write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.testing.headers import go_duration, limit_headers, retry_headers
from toolkit.testing.laws import Size, build_law

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.012, "12ms"),
        (8.64, "8.64s"),
        (20, "20s"),
        (90, "1m30s"),
        (360, "6m0s"),
        (3600, "1h0m0s"),
        (86_399.5, "23h59m59.5s"),
    ],
)
def test_go_durations(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text


@given(st.floats(0, 1e6))
def test_a_duration_can_be_read_back(seconds: float) -> None:
    """It is the same number, rounded up to a millisecond: one who waits that long does not come early."""
    units = {"h": 3600, "m": 60, "s": 1, "ms": 0.001}
    parts = re.findall(r"([\d.]+)(ms|h|m|s)", go_duration(seconds))
    read = sum(float(number) * units[unit] for number, unit in parts)
    assert -1e-6 <= read - seconds <= 0.001 + 1e-6


def headers(vendor: str, style: str = "vendor", **limits: int) -> dict[str, str]:
    law = build_law("anthropic" if "input_tokens_per_minute" in limits else "openai", **limits)
    law.admit(NOW, Size(100, 0, 50, 1, 400, 400))
    return dict(limit_headers(vendor, style, law.meters, NOW))


def test_openai() -> None:
    found = headers(
        "openai", requests_per_minute=500, tokens_per_minute=30_000, project_tokens_per_minute=20_000
    )
    assert found == {
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": "499",
        "x-ratelimit-reset-requests": "120ms",
        "x-ratelimit-limit-tokens": "30000",
        "x-ratelimit-remaining-tokens": "29900",
        "x-ratelimit-reset-tokens": "200ms",
        "x-ratelimit-limit-project-tokens": "20000",
        "x-ratelimit-remaining-project-tokens": "19900",
        "x-ratelimit-reset-project-tokens": "300ms",
    }


def test_the_daily_trap() -> None:
    """The requests' headers are the day's: 10,000 a day show a reset of 8.64 s."""
    found = headers("openai", "daily", requests_per_minute=500, requests_per_day=10_000)
    assert found["x-ratelimit-limit-requests"] == "10000"
    assert found["x-ratelimit-reset-requests"] == "8.64s"


def test_bare_and_missing_and_minus_one() -> None:
    assert headers("azure", requests_per_minute=6)["x-ratelimit-reset-requests"] == "10"
    assert headers("openai", "bare", requests_per_minute=6)["x-ratelimit-reset-requests"] == "10"
    assert headers("openai", "missing", requests_per_minute=6) == {}
    assert headers("openai", "minus_one", requests_per_minute=6)["x-ratelimit-remaining-requests"] == "-1"


def test_anthropic() -> None:
    """Input, output, and their sum; what is left of tokens in thousands, of requests exactly."""
    found = headers(
        "anthropic",
        requests_per_minute=60,
        input_tokens_per_minute=1000,
        output_tokens_per_minute=400,
    )
    left = {name.split("-", 2)[2]: text for name, text in found.items() if name.endswith("remaining")}
    assert left == {
        "requests-remaining": "59",
        "input-tokens-remaining": "1000",
        "output-tokens-remaining": "0",
        "tokens-remaining": "1000",
    }
    assert found["anthropic-ratelimit-output-tokens-limit"] == "400"
    assert found["anthropic-ratelimit-tokens-limit"] == "1400"
    reset = datetime.strptime(found["anthropic-ratelimit-input-tokens-reset"], "%Y-%m-%dT%H:%M:%SZ")
    assert reset.replace(tzinfo=UTC).timestamp() == NOW + 6


def test_retry_after_is_whole_seconds_and_on_azure_also_milliseconds() -> None:
    assert retry_headers("openai", 0.3) == ([("retry-after", "1")], 1.0)
    assert retry_headers("azure", 1.2345) == ([("retry-after-ms", "1235"), ("retry-after", "2")], 1.235)
