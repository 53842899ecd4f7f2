"""``Account``: what a server counts for the requests that reach it, and the headers in which it says so.

A limiter believes headers where they say less than it knows, and they come in whole numbers: at 60 requests a
minute that alone can make a request wait a second longer.
"""

from __future__ import annotations

import math

from toolkit.limits import Demand, LimitSettings, charges, ticks
from toolkit.limits.laws import DIMENSIONS, MINUTE, Dimension
from toolkit.limits.window import Kind, Window
from toolkit.limits.windows import make_window

_SHOWN = (Dimension.REQUESTS, Dimension.TOKENS)


class Account:
    """The buckets of requests and tokens of a minute; other limits are shown in no header here.

    Parameters
    ----------
    settings : LimitSettings
        The server keeps to the law that they state.
    """

    def __init__(self, settings: LimitSettings) -> None:
        charge = settings.charge_in_force()
        self._charge = "sum" if charge == "fitted" else charge
        self._buckets: dict[Dimension, Window] = {
            clause.dimension: make_window(clause.kind, limit, clause.period_s)
            for clause, limit in settings.rules().items()
            if clause.dimension in _SHOWN and clause.kind is Kind.BUCKET and clause.period_s == MINUTE
        }

    def count(self, now: float, demand: Demand) -> dict[str, str]:
        """Count a request that arrives, and return the headers of its answer."""
        if not self._buckets:
            return {}
        at = ticks.from_seconds(now)
        amounts = charges.reserve(self._charge, demand, None)
        headers = {}
        for dimension, bucket in self._buckets.items():
            bucket.take(at, amounts[DIMENSIONS.index(dimension)])
            used = bucket.used(at)
            headers[f"x-ratelimit-limit-{dimension}"] = str(bucket.limit)
            headers[f"x-ratelimit-remaining-{dimension}"] = str(
                max(0, math.floor(bucket.limit - used + 1e-6))
            )
            headers[f"x-ratelimit-reset-{dimension}"] = f"{used * MINUTE / bucket.limit:.3f}s"
        return headers
