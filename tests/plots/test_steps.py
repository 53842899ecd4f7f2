"""Step functions: means that keep the sum, and extremes that keep the peaks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.plots.steps import changes, mean_number, over

EVENTS = st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 50)), min_size=2, max_size=40).filter(
    lambda events: min(events)[0] < max(events)[0]
)


@given(EVENTS, st.integers(1, 30))
def test_mean_keeps_the_area_and_extremes_the_peaks(events: list[tuple[int, int]], number: int) -> None:
    """However many intervals: no time in flight is lost, no peak is smoothed away."""
    events.sort(key=lambda event: event[0])
    times, values = np.array(events, dtype=float).T
    edges = np.linspace(times[0], times[-1], number + 1)
    mean, least, most = over(times, values, edges)
    assert (mean * np.diff(edges)).sum() == pytest.approx((values[:-1] * np.diff(times)).sum(), abs=1e-6)
    lasting = values[:-1][np.diff(times) > 0]
    assert most.max() >= lasting.max()
    assert least.min() <= lasting.min()
    assert (least <= mean + 1e-6).all()
    assert (mean <= most + 1e-6).all()


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 50)), min_size=1, max_size=40))
def test_spans_are_counted_for_as_long_as_they_last(spans: list[tuple[int, int]]) -> None:
    """The area under the number of spans is the sum of their lengths."""
    starts = np.array([start for start, _ in spans], dtype=float)
    ends = starts + [length for _, length in spans]
    edges = np.linspace(0, 151, 38)
    level = mean_number(starts, ends, edges)
    assert (level * np.diff(edges)).sum() == pytest.approx((ends - starts).sum(), abs=1e-5)
    assert (level >= 0).all()


def test_what_changes_nothing_is_left_out() -> None:
    """A limit that holds for a thousand events is a line of two points."""
    times, values = changes(np.arange(6.0), np.array([5.0, 5, 5, 3, 3, 3]))
    assert times.tolist() == [0, 3, 5]
    assert values.tolist() == [5, 3, 3]
