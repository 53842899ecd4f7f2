"""Means of repeats and how sure they are."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

ROUNDING = 1e-13
"""Of a mean: what deviates less from it differs by how sums of floats are rounded, and by nothing else."""


class Mean(NamedTuple):
    """A mean over repeats.

    Attributes
    ----------
    mean : float
        NaN without a value.
    half_width : float
        Half the width of the confidence interval around it; NaN with less than two values.
    number : int
        Of values that it is of.
    """

    mean: float
    half_width: float
    number: int


def mean_interval(values: Iterable[float | None], confidence: float = 0.95) -> Mean:
    r"""Return the mean of independent repeats and its confidence interval by Student's t.

    .. math:: \bar x \pm t_{n-1,\,(1+c)/2}\; s / \sqrt n

    which holds for any number of repeats if they are distributed normally, and roughly if they are not.

    Parameters
    ----------
    values : iterable of float or None
        Missing ones (None, NaN) do not count.
    confidence : float
        :math:`c`, between 0 and 1.

    Returns
    -------
    Mean

    Raises
    ------
    ValueError
        If ``confidence`` does not lie between 0 and 1.
    """
    known = [float(value) for value in values if value is not None and not _is_missing(value)]
    count = len(known)
    if not count:
        return Mean(math.nan, math.nan, 0)
    # Rounding may take a mean out of the range of its values.
    mean = min(max(math.fsum(known) / count, min(known)), max(known))
    if count == 1:
        return Mean(mean, math.nan, 1)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in known) / (count - 1))
    if deviation < ROUNDING * abs(mean):
        return Mean(mean, 0.0, count)
    return Mean(mean, t_quantile((1 + confidence) / 2, count - 1) * deviation / math.sqrt(count), count)


def mean_of_settings(settings: Iterable[Iterable[float | None]], confidence: float = 0.95) -> Mean:
    r"""Return the mean of several settings' means, each with repeats of its own, and its confidence interval.

    How much the settings differ is no uncertainty of their mean: only repeats are. With :math:`k` settings of
    :math:`n_i` repeats and variance :math:`s_i^2` the interval is

    .. math:: \pm\, t_{\nu} \sqrt{\textstyle\sum_i s_i^2 / n_i}\; / k, \qquad
        \nu = \frac{(\sum_i s_i^2/n_i)^2}{\sum_i (s_i^2/n_i)^2 / (n_i - 1)}

    with :math:`\nu` rounded down (Welch and Satterthwaite). Of one setting it is that of `mean_interval`.

    Parameters
    ----------
    settings : iterable of iterable of float or None
        A setting without any value does not count.
    confidence : float

    Returns
    -------
    Mean
        ``number`` is that of all values; ``half_width`` is NaN if a setting has only one.
    """
    means = [each for values in settings if (each := mean_interval(values, confidence)).number]
    number = sum(each.number for each in means)
    if len(means) < 2:
        return means[0] if means else Mean(math.nan, math.nan, 0)
    mean = math.fsum(each.mean for each in means) / len(means)
    if any(each.number < 2 for each in means):
        return Mean(mean, math.nan, number)
    probability = (1 + confidence) / 2
    squares = [(each.half_width / t_quantile(probability, each.number - 1)) ** 2 for each in means]
    if not (total := math.fsum(squares)):
        return Mean(mean, 0.0, number)
    parts = [(square / total) ** 2 / (each.number - 1) for square, each in zip(squares, means, strict=True)]
    # What rounding took off a whole number must not cost a degree.
    degrees = max(1, math.floor(1 / math.fsum(parts) * (1 + 1e-9)))
    return Mean(mean, t_quantile(probability, degrees) * math.sqrt(total) / len(means), number)


@lru_cache(maxsize=1024)
def t_quantile(probability: float, degrees: int) -> float:
    """Return the value that Student's t stays below with a probability.

    Parameters
    ----------
    probability : float
        From 0.5 up to, and not with, 1.
    degrees : int
        Degrees of freedom, at least 1.

    Raises
    ------
    ValueError
        If they are not.
    """
    if not 0.5 <= probability < 1 or degrees < 1:
        raise ValueError(f"no t quantile of {probability} with {degrees} degrees of freedom")
    # In the angle whose tangent is t / sqrt(degrees) the way from the median to infinity is finite.
    low, high = 0.0, math.pi / 2
    while low < (middle := (low + high) / 2) < high:
        if _inside(middle, degrees) < 2 * probability - 1:
            low = middle
        else:
            high = middle
    return math.sqrt(degrees) * math.tan(low)


def _inside(angle: float, degrees: int) -> float:
    r"""Return the probability of :math:`|t| < \sqrt\nu \tan\theta`: a finite series for whole :math:`\nu`.

    For odd :math:`\nu` it is :math:`\frac2\pi(\theta + \sin\theta (\cos\theta + \frac23\cos^3\theta + …))` up
    to the power :math:`\nu-2`, for even :math:`\nu` it is
    :math:`\sin\theta (1 + \frac12\cos^2\theta + \frac{1\cdot3}{2\cdot4}\cos^4\theta + …)` likewise
    (Abramowitz and Stegun, 26.7.3 and 26.7.4).
    """
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term = cosine if odd else 1.0
    terms = []
    for power in range(odd, degrees - 1, 2):
        terms.append(term)
        term *= cosine**2 * (power + 1) / (power + 2)
    total = sine * math.fsum(terms)
    return 2 / math.pi * (angle + total) if odd else total


def _is_missing(value: float) -> bool:
    try:
        return math.isnan(value)
    except TypeError:  # pandas' NA
        return True
