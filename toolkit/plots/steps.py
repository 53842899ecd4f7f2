"""Step functions of time: what holds from one event to the next."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def changes(times: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a step function without the events that change nothing, but for the first and the last."""
    import numpy as np

    kept = np.concatenate([[True], values[1:] != values[:-1]])
    kept[-1] = True
    return times[kept], values[kept]


def over(times: np.ndarray, values: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return mean (by time), least and greatest value of a step function in each interval.

    Parameters
    ----------
    times, values : ndarray, shape (n,)
        Ordered; a value holds until the next time, the first one also before it.
    edges : ndarray, shape (m + 1,)
        Of the intervals, increasing.

    Returns
    -------
    tuple of ndarray, each of shape (m,)
    """
    import numpy as np

    sums = np.concatenate([[0.0], np.cumsum(values[:-1] * np.diff(times))])
    place = np.clip(np.searchsorted(times, edges, side="right") - 1, 0, None)
    mean = np.diff(sums[place] + values[place] * (edges - times[place])) / np.diff(edges)
    spans = [values[first : last + 1] for first, last in pairwise(place)]
    return mean, np.array([span.min() for span in spans]), np.array([span.max() for span in spans])


def mean_number(starts: np.ndarray, ends: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return how many spans cover each interval, on average over it."""
    import numpy as np

    covered = np.zeros(len(edges))
    # Time covered up to each edge: what has begun by then less what has ended by then.
    for sign, times in ((1, np.sort(starts)), (-1, np.sort(ends))):
        before = np.searchsorted(times, edges)
        covered += sign * (edges * before - np.concatenate([[0.0], np.cumsum(times)])[before])
    mean = np.diff(covered) / np.diff(edges)
    mean[mean < 1e-9] = 0.0
    return mean
