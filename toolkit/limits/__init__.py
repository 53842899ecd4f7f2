"""The rate limiter: it never breaks a limit and wastes none.

How to read it, from the inside out. The first three rows do no I/O, know no threads and read no clock.

=============  =========================================================================================
counting       ``ticks`` whole-number time, ``window`` one limit over one period, ``windows`` its kinds,
               ``laws`` which of them a server has, ``charges`` what a request counts, ``fitted`` what it
               really counts, ``slots`` requests in flight
deciding       ``settings`` the numbers, ``decisions`` questions and answers, ``book`` all that is
               remembered, ``core`` who may send and when
learning       ``headers`` what a server says, ``calibration`` what follows, ``share`` how much was used
sharing        ``state`` the seam and one process's memory, ``shared`` one file for all processes,
               ``holders`` who is still alive, ``axis`` one time for all
waiting        ``waiting`` how a thread sleeps, ``together`` many threads' decisions in one transaction,
               ``admission`` what a waiter is told, ``limiter`` the line of waiters, ``registry`` one
               limiter for each quota key
=============  =========================================================================================

The way of a request::

    limiter = limiter_for(quota_key, LimitSettings(requests_per_minute=50, ...), open_state())
    admission = limiter.acquire(Demand(input_tokens=900, output_cap=256), order=3, stop=stop)
    ...                                                    # send it
    limiter.settle(admission.lease, reply.usage, read_headers(headers, time.time()))
"""

from __future__ import annotations

from toolkit.limits.admission import Admission, DayExhausted, Standing, WaitCancelled
from toolkit.limits.charges import Demand
from toolkit.limits.core import LimiterCore
from toolkit.limits.decisions import Cause, Exhausted, Lease, LeaseError, LimitEvent, Refusal, Wait
from toolkit.limits.headers import Observation, Reading, read_headers
from toolkit.limits.laws import Dimension
from toolkit.limits.limiter import Limiter
from toolkit.limits.registry import limiter_for, open_state
from toolkit.limits.server import PostgresState
from toolkit.limits.settings import LimitSettings
from toolkit.limits.share import quota_share, quota_shares, waiting_spans
from toolkit.limits.shared import SqliteState
from toolkit.limits.state import LimiterState, MemoryState
from toolkit.limits.waiting import StopEvent

__all__ = [
    "Admission",
    "Cause",
    "DayExhausted",
    "Demand",
    "Dimension",
    "Exhausted",
    "Lease",
    "LeaseError",
    "LimitEvent",
    "LimitSettings",
    "Limiter",
    "LimiterCore",
    "LimiterState",
    "MemoryState",
    "Observation",
    "PostgresState",
    "Reading",
    "Refusal",
    "SqliteState",
    "Standing",
    "StopEvent",
    "Wait",
    "WaitCancelled",
    "limiter_for",
    "open_state",
    "quota_share",
    "quota_shares",
    "read_headers",
    "waiting_spans",
]
