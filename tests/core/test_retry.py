"""The backoff: how long, how often, and when it gives up."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.errors import RateLimited, RequestRejected, TransientError
from toolkit.protocols import Retry, RetryDecision
from toolkit.retry import RetryPolicy

QUICK = settings(deadline=None, max_examples=200)
BROKEN = RetryDecision(TransientError("broken"), Retry.TRANSIENT)
REJECTED = RetryDecision(RequestRejected("wrong"), Retry.NEVER)
PATIENT = RetryPolicy(max_attempts=10**9, total_s=math.inf)

policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 100),
    total_s=st.floats(0, 1e4),
    first_wait_s=st.floats(0.01, 10),
    max_wait_s=st.floats(0.01, 100),
)


def limited(retry_after_s: float | None = None) -> RetryDecision:
    return RetryDecision(RateLimited("slow down"), Retry.RATE_LIMITED, retry_after_s)


def wait(policy: RetryPolicy, decision: RetryDecision, failures: int = 1, **told: float) -> float | None:
    given: dict[str, float] = {"counted": failures, "elapsed_s": 0.0, **told}
    return policy.wait_s(decision, failures=failures, rng=random.Random(1), **given)  # type: ignore[arg-type]


@QUICK
@given(policies, st.integers(1, 10_000), st.randoms(use_true_random=False))
def test_jitter_is_between_half_and_the_whole_backoff(
    policy: RetryPolicy, failures: int, rng: random.Random
) -> None:
    """The wait is the doubled backoff or its cap, times a number from 0.5 to 1; no count overflows it."""
    patient = RetryPolicy(10**9, math.inf, policy.first_wait_s, policy.max_wait_s)
    waited = patient.wait_s(BROKEN, failures=failures, counted=failures, elapsed_s=0.0, rng=rng)
    backoff = min(policy.max_wait_s, policy.first_wait_s * 2.0 ** min(failures - 1, 1000))
    assert waited is not None
    assert backoff / 2 <= waited <= backoff


def test_backoff_doubles_up_to_its_cap() -> None:
    """Waits grow with the failures: a server in trouble is not asked at a steady pace."""
    waits = [wait(RetryPolicy(99, 1e9, 1.0, 8.0), BROKEN, n, counted=0) for n in range(1, 7)]
    ratios = [float(after or 0) / float(before or 1) for before, after in itertools.pairwise(waits)]
    assert ratios == pytest.approx([2, 2, 2, 1, 1])


@QUICK
@given(st.floats(0, 1e6), st.integers(1, 50))
def test_retry_after_is_a_floor(retry_after_s: float, failures: int) -> None:
    """No try comes before the server's own figure, and the figure does not shorten the backoff."""
    without = wait(PATIENT, limited(), failures)
    waited = wait(PATIENT, limited(retry_after_s), failures)
    assert without is not None
    assert waited == max(retry_after_s, without)


@QUICK
@given(policies, st.floats(0, 2e4), st.none() | st.floats(0, 1e4), st.integers(1, 50))
def test_no_try_starts_after_the_total_time(
    policy: RetryPolicy, elapsed_s: float, retry_after_s: float | None, failures: int
) -> None:
    """Waiting never leads beyond ``total_s``, unless the server itself says when to come again."""
    waited = wait(policy, limited(retry_after_s), failures, counted=0, elapsed_s=elapsed_s)
    if retry_after_s is not None:
        assert (waited is not None) == (elapsed_s <= policy.total_s)
    elif waited is not None:
        assert elapsed_s + waited <= policy.total_s
    else:
        assert elapsed_s + policy.max_wait_s > policy.total_s


@pytest.mark.parametrize(("counted", "again"), [(0, True), (3, True), (4, False), (5, False)])
def test_counted_failures_are_bounded(counted: int, again: bool) -> None:
    """``max_attempts`` tries are made in all: after the last there is no further one."""
    assert (wait(RetryPolicy(max_attempts=4), BROKEN, 5, counted=counted) is not None) == again


def test_request_that_is_wrong_is_never_tried_again() -> None:
    """What would fail again costs no second call, whatever is left of time and tries."""
    assert wait(PATIENT, REJECTED, 1, counted=0) is None


@pytest.mark.parametrize("retry_after_s", [math.inf, math.nan, -5.0])
def test_senseless_retry_after_breaks_nothing(retry_after_s: float) -> None:
    """A server's nonsense neither makes a call wait for ever nor run at once."""
    waited = wait(RetryPolicy(), limited(retry_after_s))
    assert waited is None or 0.25 <= waited <= 0.5
