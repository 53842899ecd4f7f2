"""When to try a failed call again: arithmetic only, no waiting."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from toolkit.protocols import Retry, RetryDecision


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    r"""Backoff with jitter, bounded in tries and in time.

    The wait before the try after failure :math:`n` (from 1) is

    .. math:: \min(w_{max},\ w_1 \cdot 2^{n-1}) \cdot U(0.5, 1)

    and at least what the server asked for.

    Attributes
    ----------
    max_attempts : int
        Tries of a call, the first included; rate-limited tries are not counted.
    total_s : float
        No try is waited for beyond this many seconds after the first one began; only where a server
        says itself when to come again that is waited for, however long it is.
    first_wait_s, max_wait_s : float
        :math:`w_1` and :math:`w_{max}`.
    """

    max_attempts: int = 4
    total_s: float = 300.0
    first_wait_s: float = 0.5
    max_wait_s: float = 30.0

    def wait_s(
        self, decision: RetryDecision, *, failures: int, counted: int, elapsed_s: float, rng: random.Random
    ) -> float | None:
        """Return the seconds to wait before the next try, or None to give up.

        Parameters
        ----------
        decision : RetryDecision
            What the provider made of the last failure.
        failures : int
            Failed tries so far, from 1.
        counted : int
            Those of them that use up an attempt.
        elapsed_s : float
            Seconds since the first try began.
        rng : random.Random
            Source of the jitter.
        """
        if decision.retry is Retry.NEVER or counted >= self.max_attempts:
            return None
        # 2**n of a call that waits for hours behind a rate limit would overflow a float.
        wait = min(self.max_wait_s, self.first_wait_s * 2.0 ** min(failures - 1, 60)) * rng.uniform(0.5, 1.0)
        wait = max(wait, decision.retry_after_s or 0.0)
        asked_to = (
            decision.retry is Retry.RATE_LIMITED
            and decision.retry_after_s is not None
            and math.isfinite(decision.retry_after_s)
        )
        return wait if elapsed_s + (0.0 if asked_to else wait) <= self.total_s else None
