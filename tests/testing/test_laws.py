"""The laws on a clock of their own: what each preset counts, charges and gives back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.testing.laws import Admission, Law, Refusal, Size, build_law, reserved_tokens

START = 1_700_000_000.0 - 1_700_000_000.0 % 60
SIZE = Size(input_tokens=100, output_cap=50, characters=600, body_bytes=800)


def admitted(law: Law, now: float, size: Size = SIZE) -> Admission:
    outcome = law.admit(now, size)
    assert isinstance(outcome, Admission), outcome
    return outcome


def refused(law: Law, now: float, size: Size = SIZE) -> Refusal:
    outcome = law.admit(now, size)
    assert isinstance(outcome, Refusal)
    return outcome


def left(law: Law, name: str, now: float) -> float:
    return next(meter for meter in law.meters if meter.name == name).remaining(now)


@pytest.mark.parametrize(("charge", "tokens"), [("sum", 200), ("actual", 200), ("max", 150), ("bytes", 300)])
def test_charges(charge: str, tokens: int) -> None:
    """Each charge is the formula that its table gives."""
    assert reserved_tokens(charge, Size(100, 0, 50, 2, 600, 800)) == tokens


def test_a_request_without_a_cap_is_charged_for_sixteen_tokens() -> None:
    assert reserved_tokens("sum", Size(100)) == 116


def test_max_takes_the_characters_where_they_are_more() -> None:
    assert reserved_tokens("max", Size(100, 0, 50, 1, 4000, 0)) == 1000


@settings(max_examples=60, deadline=None)
@given(
    gaps=st.lists(st.tuples(st.integers(0, 80), st.integers(1, 400)), max_size=40),
    law_name=st.sampled_from(["openai", "azure", "sliding", "fixed", "first_request"]),
)
def test_all_or_nothing(gaps: list[tuple[int, int]], law_name: str) -> None:
    """A refused request leaves every meter as it was; fails if one is taken before another refuses."""
    law = build_law(
        law_name, requests_per_minute=6, tokens_per_minute=600, charge="sum", failed_requests_count=False
    )
    now = START
    for gap, tokens in gaps:
        now += gap / 4
        before = [meter.remaining(now) for meter in law.meters]
        if isinstance(law.admit(now, Size(tokens, 0, 10)), Refusal):
            assert [meter.remaining(now) for meter in law.meters] == before
        else:
            assert all(meter.remaining(now) < was for meter, was in zip(law.meters, before, strict=True))


@pytest.mark.parametrize("law_name", ["openai", "azure", "sliding", "fixed", "first_request"])
def test_retry_after_is_kept(law_name: str) -> None:
    """One that comes again when it was told to is let in, although its failed request counted."""
    law = build_law(law_name, requests_per_minute=60, tokens_per_minute=1000, charge="sum")
    now = START + 7
    for _ in range(200):
        outcome = law.admit(now, SIZE)
        if isinstance(outcome, Refusal):
            now += outcome.wait_s + 1e-6
            admitted(law, now)


def test_failed_requests_count() -> None:
    """A refused request takes one from the requests, as OpenAI says; with the option off it does not."""
    for counts, rest in ((True, 8), (False, 9)):
        law = build_law(
            "fixed",
            requests_per_minute=10,
            tokens_per_minute=150,
            charge="sum",
            failed_requests_count=counts,
        )
        admitted(law, START)
        assert refused(law, START).meter.name == "tokens"
        assert left(law, "requests", START) == rest


def test_oversize_never_fits() -> None:
    law = build_law("openai", tokens_per_minute=100, charge="sum")
    refusal = refused(law, START)
    assert refusal.oversize
    assert math.isinf(refusal.wait_s)
    assert refusal.requested == 150


def test_azure_binds_requests_in_ten_seconds_and_in_one() -> None:
    """600 a minute are 10 a second and 100 in ten seconds; tokens wait for the minute."""
    law = build_law("azure", requests_per_minute=600, tokens_per_minute=60_000)
    for _ in range(10):
        admitted(law, START + 0.2)
    assert refused(law, START + 0.9).meter.name == "requests_1s"
    admitted(law, START + 1)
    crowd = build_law("azure", requests_per_minute=60, tokens_per_minute=300)
    admitted(crowd, START)
    admitted(crowd, START + 1)
    refusal = refused(crowd, START + 2)
    assert (refusal.meter.name, refusal.wait_s) == ("tokens", 58)


def test_short_windows_are_rounded_up() -> None:
    law = build_law("azure", requests_per_minute=50)
    assert {meter.name: meter.limit for meter in law.meters} == {
        "requests": 50,
        "requests_10s": 9,
        "requests_1s": 1,
    }
    exact = build_law("azure", requests_per_minute=600, request_windows_s=(0.1,))
    assert exact.meters[1].limit == 1


def test_anthropic_counts_output_at_the_end() -> None:
    """The cap is not counted up front; what was written is, into the red, and then nothing is let in."""
    law = build_law("anthropic", input_tokens_per_minute=1000, output_tokens_per_minute=100)
    first = admitted(law, START, Size(100, 0, 90))
    second = admitted(law, START, Size(100, 0, 90))
    assert left(law, "output_tokens", START) == 100
    assert law.settle(START, first, 100, 80) == 180
    law.settle(START, second, 100, 80)
    assert left(law, "output_tokens", START) == -60
    refusal = refused(law, START, Size(100, 0, 90))
    assert refusal.meter.name == "output_tokens"
    # 61 tokens are missing at 100 a minute.
    assert refusal.wait_s == pytest.approx(61 * 60 / 100)


def test_anthropic_does_not_count_cache_reads() -> None:
    law = build_law("anthropic", input_tokens_per_minute=1000)
    admitted(law, START, Size(input_tokens=900, cached_tokens=850))
    assert left(law, "input_tokens", START) == 950


def test_actual_gives_back_what_was_not_used() -> None:
    law = build_law("openai", tokens_per_minute=1000, charge="actual")
    admission = admitted(law, START)
    assert left(law, "tokens", START) == 850
    assert law.settle(START, admission, 100, 5) == 105
    assert left(law, "tokens", START) == 895


def test_others_give_nothing_back() -> None:
    law = build_law("openai", tokens_per_minute=1000, charge="sum")
    admission = admitted(law, START)
    assert law.settle(START, admission, 100, 5) == 150
    assert left(law, "tokens", START) == 850


def test_a_failed_service_stays_charged_unless_failed_requests_are_free() -> None:
    for counts, rest in ((True, 850), (False, 1000)):
        law = build_law(
            "fixed",
            requests_per_minute=10,
            tokens_per_minute=1000,
            charge="sum",
            failed_requests_count=counts,
        )
        assert law.undo(START, admitted(law, START)) == 1000 - rest
        assert left(law, "tokens", START) == rest


def test_a_day_is_counted_beside_the_minute() -> None:
    law = build_law("sliding", requests_per_minute=10, requests_per_day=12)
    for _ in range(10):
        admitted(law, START)
    for _ in range(2):
        admitted(law, START + 61)
    refusal = refused(law, START + 61)
    assert refusal.meter.name == "requests_per_day"
    assert refusal.wait_s == 86_400 - 61


def test_first_request_window_starts_with_the_first_request() -> None:
    law = build_law("first_request", requests_per_minute=2)
    admitted(law, START + 50)
    admitted(law, START + 70)
    assert refused(law, START + 80).wait_s == 30
    admitted(law, START + 110)


def test_share_is_measured_from_the_first_admission() -> None:
    """Idle time before the first and after the last admission does not count."""
    law = build_law("openai", requests_per_minute=60)
    for i in range(60 + 30):
        admitted(law, START + 1000 + max(0, i - 59))
    assert law.shares()["requests"] == pytest.approx(1.0)
    law.reset_shares()
    assert law.shares()["requests"] == 0
    # The bucket is empty: a new measurement starts from what is there and not from a full one.
    admitted(law, START + 1031)
    assert law.shares()["requests"] == pytest.approx(1.0)
