"""The core's time: whole ticks of 2**-30 s, so that no rounding can admit early or wake in vain.

Multiplying a float by a power of two is exact, and every epoch time since 2004 that a float can hold is a
multiple of 2**-22 s. So each ``now`` that a caller passes becomes ticks without error; amounts times
ticks are whole numbers too, and Python's do not overflow. The law is decided in whole numbers, and only
the wake-up time goes back to a float, upwards.
"""

from __future__ import annotations

import math

PER_SECOND = 1 << 30
"""Ticks in a second; one is 0.93 ns."""

NEVER = 1 << 100
"""A tick that does not come: what is asked for depends on somebody giving back, not on time."""


def from_seconds(seconds: float) -> int:
    """Return the last tick that is not after ``seconds``."""
    return math.floor(seconds * PER_SECOND)


def to_seconds(ticks: int) -> float:
    """Return the least float that is not before ``ticks``; infinity for ``NEVER``."""
    if ticks >= NEVER:
        return math.inf
    seconds = ticks / PER_SECOND
    return seconds if seconds * PER_SECOND >= ticks else math.nextafter(seconds, math.inf)
