from __future__ import annotations

import statistics

import pytest

from toolkit.errors import ConfigError
from toolkit.testing import Latency
from toolkit.testing.faults import uniforms


def test_noise_is_lognormal_with_mean_one() -> None:
    """The logarithms are normal with the sigma that was asked for; fails if a draw is used twice."""
    import math

    latency = Latency(1.0, sigma=0.5)
    draws = [latency.seconds(0, 0, *uniforms(3, f"body {i}", 0)[1:]) for i in range(4000)]
    assert statistics.mean(draws) == pytest.approx(1.0, abs=0.04)
    logs = [math.log(draw) for draw in draws]
    assert statistics.stdev(logs) == pytest.approx(0.5, abs=0.02)
    assert statistics.mean(logs) == pytest.approx(-0.125, abs=0.03)


def test_forms() -> None:
    assert Latency.of(2) == Latency(2)
    assert Latency.of([1, 2, 3]) == Latency(1, 2, 3)
    assert Latency.of({"base_s": 1, "sigma": 0.1}) == Latency(1, sigma=0.1)
    assert Latency(1, 2, 3).seconds(10, 100, 0.5, 0.5) == 1 + 20 + 300
    for wrong in ("1", (), (1, 2, 3, 4, 5), -1, float("inf"), {"base": 1}, True):
        with pytest.raises(ConfigError):
            Latency.of(wrong)
