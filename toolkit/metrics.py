"""From frames to figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from toolkit.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

WAITS = {
    "queue_s": "queue",
    "wait_slots_s": "wait: slots",
    "wait_requests_s": "wait: requests",
    "wait_tokens_s": "wait: tokens",
    "wait_cooldown_s": "wait: cool-down",
    "retry_wait_s": "wait: retry",
}
PHASES = WAITS | {
    "failed_attempts_s": "failed attempts",
    "service_s": "service",
    "overhead_s": "overhead",
}
"""What the phases of a call are called, by their columns, in the order in which a call has them."""


def made(calls: pd.DataFrame) -> pd.DataFrame:
    """Return the calls that brought a reply which was made for this run, and not taken from the store."""
    return calls[(calls["status"] == "ok") & ~reused(calls)]


def reused(calls: pd.DataFrame) -> pd.Series:
    """Return which calls were answered from the store."""
    return calls["reused"].fillna(False).astype(bool)


def seconds_of(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return columns of seconds as plain numbers: missing ones, nulls and what is no time count as none."""
    import numpy as np

    seconds = frame.reindex(columns=list(columns)).astype("float64").replace([np.inf, -np.inf], np.nan)
    return seconds.fillna(0.0).clip(lower=0.0)


def throughput(calls: pd.DataFrame, freq: str = "1s") -> pd.DataFrame:
    """Spread calls over time.

    Parameters
    ----------
    calls : DataFrame
        Frame ``calls`` of a run. Calls without a reply and reused ones do not enter.
    freq : str
        Length of an interval, as pandas writes it (``"500ms"``, ``"1s"``, ``"1min"``).

    Returns
    -------
    DataFrame
        A row for each interval from the first call to the end of the last, indexed by ``t_s`` (seconds from
        the first call to the interval's start), also for intervals in which nothing happened. Columns:
        ``calls`` (finished in the interval), ``input_tokens`` and ``output_tokens`` (a call's tokens are
        spread evenly over its service time, so that the columns' sums are the run's),
        ``output_tokens_per_s``, and ``in_service`` (mean number of calls that the model worked on).

    Raises
    ------
    ConfigError
        If ``freq`` is no length of time above zero.
    """
    import numpy as np
    import pandas as pd

    columns = ["calls", "input_tokens", "output_tokens", "output_tokens_per_s", "in_service"]
    try:
        width = pd.Timedelta(freq).total_seconds() if isinstance(freq, str) else math.nan
    except ValueError:
        width = math.nan
    if not width > 0:
        raise ConfigError(f"freq={freq!r} must be a length of time above zero, such as '500ms' or '1min'")
    done = calls[(calls["status"] == "ok") & ~calls["reused"]]
    if done.empty:
        return pd.DataFrame(columns=columns, index=pd.Index([], name="t_s", dtype="float64"), dtype="float64")

    began = (done["started_at"] - done["started_at"].min()).dt.total_seconds().to_numpy()
    ended = began + done["total_s"].to_numpy()
    left = ended - done["overhead_s"].to_numpy() - done["service_s"].to_numpy()
    right = left + done["service_s"].to_numpy()
    intervals = max(int(np.ceil(ended.max() / width)), 1)
    counts = {
        name: done[name].fillna(0).to_numpy(dtype="float64") for name in ("input_tokens", "output_tokens")
    }
    tokens = {name: np.zeros(intervals) for name in counts}
    busy = np.zeros(intervals)
    for call, (start, stop) in enumerate(zip(left, right, strict=True)):
        first = min(max(int(start // width), 0), intervals - 1)
        last = min(max(int(stop // width), first), intervals - 1)
        edges = np.arange(first, last + 2) * width
        overlap = np.clip(np.minimum(edges[1:], stop) - np.maximum(edges[:-1], start), 0, None)
        busy[first : last + 1] += overlap
        # A call that took no time at all has its tokens in the interval of its end.
        if overlap.sum() == 0:
            overlap[-1] = 1.0
        share = overlap / overlap.sum()
        for name, count in counts.items():
            tokens[name][first : last + 1] += share * count[call]
    finished = np.bincount(np.minimum((ended // width).astype(int), intervals - 1), minlength=intervals)
    return pd.DataFrame(
        {
            "calls": finished,
            **tokens,
            "output_tokens_per_s": tokens["output_tokens"] / width,
            "in_service": busy / width,
        },
        index=pd.Index(np.arange(intervals) * width, name="t_s"),
    )[columns]
