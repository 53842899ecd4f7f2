"""What a limiter tells those who wait: an admission, what the first in line waits for, why the wait ended."""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import CancelledError
from typing import NamedTuple

from toolkit.errors import QuotaExhausted
from toolkit.limits.decisions import Cause, Lease
from toolkit.limits.laws import Dimension


class DayExhausted(QuotaExhausted):
    """A limit per day is used up; the run should drain.

    Attributes
    ----------
    until : float
        When it may go on, in epoch seconds.
    wait_s : float
        How long that is from now.
    dimension : Dimension
    """

    def __init__(self, until: float, wait_s: float, dimension: Dimension) -> None:
        hours, minutes = divmod(math.ceil(wait_s / 60), 60)
        name = dimension.replace("_", " ")
        super().__init__(f"The limit of {name} per day is used up; it may go on in {hours} h {minutes} min.")
        self.until = until
        self.wait_s = wait_s
        self.dimension = dimension


class Admission(NamedTuple):
    """A lease, and the seconds that were waited for it by cause; together they are the whole wait.

    Each moment of waiting belongs to what the first in line was waiting for at that moment, which is the
    constraint that the core named as the last to be met.
    """

    lease: Lease
    waited_s: Mapping[Cause, float]


class Standing(NamedTuple):
    """What the first in line waits for.

    Attributes
    ----------
    cause : Cause
    until : float
        Epoch seconds at which it goes on if nothing else happens; infinity if somebody has to give back.
    waiting : int
        How many wait.
    trouble : str
        Why the shared state cannot be reached, which all wait for then; else empty.
    """

    cause: Cause
    until: float
    waiting: int
    trouble: str = ""


class WaitCancelled(CancelledError):
    """The waiting was stopped; ``waited_s`` as in an `Admission`."""

    def __init__(self, waited_s: Mapping[Cause, float]) -> None:
        super().__init__()
        self.waited_s = waited_s
