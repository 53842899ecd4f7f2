"""Fitting a latency model: what calls that were made say of the next ones.

A mean that is linear in tokens, found so that the odd slow call does not count for more; what is left over,
as quantiles; and the gaps between calls. ``LatencyModel.fit`` puts it together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import combinations
from typing import TYPE_CHECKING, Any

from toolkit.errors import ConfigError
from toolkit.records import Stage
from toolkit.runs import Run

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    Array = np.ndarray[Any, np.dtype[np.float64]]

LEAST_CALLS = 8
"""Fewer say next to nothing of four coefficients and a spread."""
MOST_CALLS = 20_000
"""More add nothing but time; so many are taken, evenly."""
QUANTILES = 201
"""How many of a distribution are kept."""
HUBER = 1.345
"""In robust standard deviations: beyond it a residual counts by its size and not by its square."""

DOUBT = 6.0
"""Difference of the information criterion from which evidence counts as strong (Kass and Raftery, 1995)."""

CLOCKS_APART_S = 0.001
"""What the wall clock and the one that measures may be apart after a call."""

_COLUMNS = (
    *("run_id", "episode_id", "provider", "model", "stage", "status", "stop_reason", "reused"),
    *("started_at", "total_s", "overhead_s", "service_s", "input_tokens", "output_tokens", "batch_size"),
)
"""Of the frame ``calls``: what a fit looks at."""


def median(values: Any) -> float:
    """Return the median; 0 of nothing."""
    import numpy as np

    return float(np.median(values)) if len(values) else 0.0


def usable_calls(calls: pd.DataFrame) -> pd.DataFrame:
    """Return the calls that say how long one takes."""
    for name in _COLUMNS:
        if name not in calls:
            raise ConfigError(
                f"LatencyModel.fit takes frames of calls (run.calls); one has no column {name!r}"
            )
    good = calls[(calls["status"] == "ok") & ~calls["reused"] & (calls["service_s"] > 0)]
    return good.dropna(subset=["input_tokens", "output_tokens"])


def observations(calls: pd.DataFrame) -> tuple[Array, Array, float]:
    """Return the terms of the formula and the seconds, a row for each call or batch, and the widest batch.

    The calls of a padded batch have the very same service time, which is how they are found. Of a model that
    takes them up at any time, each is an observation of its own, but for those that begin and end together.
    """
    import numpy as np

    width = calls["batch_size"].fillna(1).astype("float64")
    rows = calls.assign(
        width=width, alone=np.where(width > 1, -1, np.arange(len(calls))), batch=calls["service_s"]
    )
    batches = rows.groupby(["run_id", "batch", "width", "alone"], sort=False, dropna=False).agg(
        service_s=("service_s", "first"),
        input_tokens=("input_tokens", "max"),
        output_tokens=("output_tokens", "max"),
        width=("width", "first"),
    )
    if len(batches) > MOST_CALLS:
        batches = batches.iloc[np.linspace(0, len(batches) - 1, MOST_CALLS).astype(int)]
    seconds, given, written, together = (
        batches[name].to_numpy(dtype="float64")
        for name in ("service_s", "input_tokens", "output_tokens", "width")
    )
    terms = np.column_stack([np.ones_like(seconds), together * given, written, (together - 1) * written])
    return terms, seconds, float(together.max())


def regress(terms: Array, seconds: Array) -> tuple[Array, Array]:
    """Return the coefficients, and quantiles of what is measured by what they say, with mean 1."""
    import numpy as np

    usable = [place for place in range(terms.shape[1]) if terms[:, place].any()]
    best: tuple[float, Array] | None = None
    for size in range(1, len(usable) + 1):
        for chosen in combinations(usable, size):
            weights = _robust(terms[:, chosen], seconds)
            if weights is None:
                continue
            residuals = seconds / (terms[:, chosen] @ weights) - 1
            # Nothing is measured to better than a ten-thousandth: less is not worth a term.
            loss = float(np.mean(_huber_loss(residuals))) + 1e-8
            criterion = len(seconds) * math.log(loss) + size * math.log(len(seconds))
            if 0 not in chosen:  # Calls of nearly one size fit a length as well as a base, by accident.
                criterion += DOUBT
            if best is None or criterion < best[0]:
                full = np.zeros(terms.shape[1])
                full[list(chosen)] = weights
                best = (criterion, full)
    assert best is not None, "a base alone always fits"
    weights = best[1]
    ratios = np.quantile(seconds / (terms @ weights), np.linspace(0, 1, min(QUANTILES, len(seconds))))
    mean = float((ratios[1:] + ratios[:-1]).mean() / 2)
    return weights * mean, ratios / mean


def _huber_loss(residuals: Array) -> Array:
    import numpy as np

    bound = HUBER * _scale(residuals)
    size = np.abs(residuals)
    return np.where(size <= bound, size**2, bound * (2 * size - bound))


def _scale(residuals: Array) -> float:
    import numpy as np

    return max(1.4826 * float(np.median(np.abs(residuals))), 1e-6)


def _robust(terms: Array, seconds: Array) -> Array | None:
    """Return coefficients for relative residuals; None unless all are above zero.

    A term that would be negative is left out by another choice of terms, which makes the best of these
    choices the non-negative least squares.
    """
    import numpy as np

    means = np.full_like(seconds, float(np.median(seconds)))
    trust = np.ones_like(seconds)
    weights: Array = np.zeros(terms.shape[1])
    for _ in range(25):
        root = np.sqrt(trust) / means
        before = weights
        solved = np.linalg.lstsq(terms * root[:, None], seconds * root, rcond=None)
        weights = np.asarray(solved[0], dtype="float64")
        if (weights <= 0).any():
            return None
        means = np.asarray(terms @ weights, dtype="float64")
        if (means <= 0).any():  # of terms that are nothing for some calls
            return None
        residuals = seconds / means - 1
        bound = HUBER * _scale(residuals)
        trust = np.minimum(1.0, bound / np.maximum(np.abs(residuals), 1e-12))
        if np.allclose(weights, before, rtol=1e-6, atol=0):
            break
    return weights


def reply_lengths(calls: pd.DataFrame) -> dict[str, tuple[float, ...]]:
    """Return quantiles of the replies by stage; one that a cap has cut would have been longer by a token."""
    import numpy as np

    wanted = calls["output_tokens"].astype("float64") + (calls["stop_reason"] == "length")
    found = {}
    for stage, lengths in wanted.groupby(calls["stage"]):
        steps = np.linspace(0, 1, min(QUANTILES, len(lengths)))
        found[str(stage)] = tuple(float(value) for value in np.quantile(lengths, steps))
    return found


def _handovers(starts: Array, ends: Array) -> Array:
    """Return how long each place stood empty, in a queue whose places are filled as they become free.

    With never more than w at a time, the (w + n)-th start comes after the n-th end.
    """
    import numpy as np

    starts, ends = np.sort(starts), np.sort(ends)
    # Starts are read off another clock than lengths: what seems to overlap by less does not.
    at_a_time = np.arange(1, len(starts) + 1) - np.searchsorted(ends - CLOCKS_APART_S, starts, side="right")
    width = int(at_a_time.max(initial=0))
    return np.maximum(0.0, starts[width:] - ends[: len(starts) - width])


def gaps_between(calls: pd.DataFrame) -> tuple[Array, Array]:
    """Return the gaps between calls of an episode and between episodes, in seconds."""
    import numpy as np

    between_calls, between_episodes = [np.empty(0)], [np.empty(0)]
    spans = calls.assign(began=_began(calls), ended=_began(calls) + calls["total_s"].to_numpy())
    for _, run in spans.groupby("run_id"):
        for (_, stage), step in run.groupby(["episode_id", "stage"]):
            if stage == Stage.MAP and len(step) > 1:
                between_calls.append(_handovers(step["began"].to_numpy(), step["ended"].to_numpy()))
        episodes = run.groupby("episode_id").agg(began=("began", "min"), ended=("ended", "max"))
        between_episodes.append(_handovers(episodes["began"].to_numpy(), episodes["ended"].to_numpy()))
    return np.concatenate(between_calls), np.concatenate(between_episodes)


def seconds_beside(run: Run) -> float:
    """Return what a run took before its first call and after its last."""
    began = _began(run.calls)
    return max(0.0, run.makespan_s - float((began + run.calls["total_s"].to_numpy()).max() - began.min()))


def _began(calls: pd.DataFrame) -> Array:
    """Return when calls began, in epoch seconds."""
    import pandas as pd

    times = pd.to_datetime(calls["started_at"], utc=True, format="ISO8601")  # text, if read from a file
    began: Array = times.dt.as_unit("us").astype("int64").to_numpy() / 1e6
    return began


def input_scale_of(runs: Iterable[Run]) -> float | None:
    """Return what servers counted for prompts by the first estimates, before anything was learned of them."""
    estimated = counted = 0
    for run in runs:
        if run.simulated:
            continue
        first = {}
        for event in run.limit_events:
            if event.event == "admitted":
                first[event.lease_id] = event.input_tokens
            elif event.event == "settled":
                break
        for event in run.limit_events:
            if event.event == "settled" and event.lease_id in first:
                estimated += first[event.lease_id]
                counted += first[event.lease_id] + event.input_tokens
    return counted / estimated if estimated and counted > 0 else None
