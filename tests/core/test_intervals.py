"""Confidence intervals of means: Student's t, and only repeats make them wide."""

from __future__ import annotations

import math
import random

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.intervals import mean_interval, mean_of_settings, t_quantile

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=8)


@pytest.mark.parametrize(
    ("degrees", "ninety_five", "ninety_nine"),
    [(1, 12.706, 63.657), (2, 4.303, 9.925), (5, 2.571, 4.032), (10, 2.228, 3.169), (30, 2.042, 2.750)],
)
def test_quantiles_are_those_of_the_tables(degrees: int, ninety_five: float, ninety_nine: float) -> None:
    """As printed in the appendix of any textbook."""
    assert t_quantile(0.975, degrees) == pytest.approx(ninety_five, abs=5e-4)
    assert t_quantile(0.995, degrees) == pytest.approx(ninety_nine, abs=5e-4)


def test_many_degrees_are_the_normal_distribution() -> None:
    """1.96 in the end."""
    assert t_quantile(0.975, 5000) == pytest.approx(1.96, abs=1e-3)
    assert t_quantile(0.5, 3) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(("probability", "degrees"), [(1.0, 3), (0.4, 3), (0.975, 0)])
def test_no_quantile_where_there_is_none(probability: float, degrees: int) -> None:
    """Rather an error than a number."""
    with pytest.raises(ValueError, match="no t quantile"):
        t_quantile(probability, degrees)


def test_interval_of_three() -> None:
    """1, 2, 3: mean 2, deviation 1, and 4.303 / sqrt(3)."""
    found = mean_interval([1, 2, 3])
    assert found == pytest.approx((2.0, 4.302652729749458 / math.sqrt(3), 3))


@pytest.mark.parametrize("missing", [None, math.nan, pd.NA])
def test_missing_values_do_not_count(missing: object) -> None:
    """A failed repeat makes the mean less sure, not smaller."""
    assert mean_interval([1.0, missing, 3.0])[:1] + mean_interval([1.0, missing, 3.0])[2:] == (2.0, 2)
    assert mean_interval([missing]).number == 0
    assert math.isnan(mean_interval([missing]).mean)
    assert math.isnan(mean_interval([4.0, missing]).half_width)


@pytest.mark.parametrize("value", [0.1, 1 / 3, -0.7, 1e-300, 123.456])
@pytest.mark.parametrize("number", [2, 3, 5, 7, 10])
def test_equal_repeats_have_an_interval_of_nothing(value: float, number: int) -> None:
    """Their mean is what they are, and rounding makes no spread."""
    assert mean_interval([value] * number) == (value, 0.0, number)


def test_rounding_is_no_spread_and_all_else_is() -> None:
    """Costs summed in another order differ in their last digit; times differ by more."""
    assert mean_interval([0.1 + 0.2 + 0.3, 0.3 + 0.2 + 0.1, 0.6]).half_width == 0.0
    assert mean_interval([1.0, 1.0 + 1e-9]).half_width == pytest.approx(6.353e-9, rel=1e-3)


@given(VALUES)
def test_one_setting_is_its_repeats(values: list[float]) -> None:
    """The mean over settings is a wider notion of the same thing."""
    assert mean_of_settings([values, [None]]) == mean_interval(values)


@given(st.lists(VALUES, min_size=2, max_size=5), st.lists(st.floats(-1e6, 1e6), min_size=5, max_size=5))
def test_how_settings_differ_makes_no_mean_less_sure(
    settings: list[list[float]], shifts: list[float]
) -> None:
    """Moving a whole setting moves the mean, and leaves the interval as wide as it was."""
    moved = [[value + shift for value in values] for values, shift in zip(settings, shifts, strict=False)]
    before, after = mean_of_settings(settings), mean_of_settings(moved)
    assert after.mean == pytest.approx(before.mean + sum(shifts[: len(settings)]) / len(settings), abs=1e-4)
    assert after.half_width == pytest.approx(before.half_width, rel=1e-3, abs=1e-3)


def test_two_alike_settings_halve_the_variance() -> None:
    """Two of three repeats with one variance are four degrees of freedom."""
    found = mean_of_settings([[1, 2, 3], [11, 12, 13]])
    assert found == pytest.approx((7.0, t_quantile(0.975, 4) * math.sqrt(2 / 3) / 2, 6))


def test_setting_without_a_repeat_has_no_interval() -> None:
    """Nothing is known of its spread."""
    found = mean_of_settings([[1, 2, 3], [5]])
    assert (found.mean, found.number) == (3.5, 4)
    assert math.isnan(found.half_width)
    assert mean_of_settings([[2, 2], [4, 4]]) == (3.0, 0.0, 4)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Of 2,000 samples of five, 90 % intervals miss the true mean in about one in ten."""
    source = random.Random(1)
    held = 0
    for _ in range(2000):
        found = mean_interval([source.gauss(0.3, 0.1) for _ in range(5)], 0.9)
        held += abs(found.mean - 0.3) <= found.half_width
    assert held / 2000 == pytest.approx(0.9, abs=0.02)
