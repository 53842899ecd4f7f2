r"""``ChargeModel``: what a server really charges for a request, fitted to what it says is left.

Servers charge by an estimate of their own, which is neither the client's nor the usage in the reply. A
non-negative least-squares fit on four features learns it:

.. math:: charge \approx c_0 + c_1 \cdot bytes + c_2 \cdot input + c_3 \cdot cap, \quad c_i \ge 0

With four features the best non-negative fit is found exactly: it is the ordinary fit of one of the 15 sets
of features, and all are tried.

Until ``ENOUGH`` samples are there it has no figure. Afterwards it gives the fit plus the guard: the largest
underestimate of any sample it keeps, so that every one of them would have been covered. The optimistic
figure leaves the guard out, and takes it back once what it fell short by in a minute exceeds
``OVERSHOOT_SHARE`` of the limit.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from typing import Any

from toolkit.limits.charges import Demand

ENOUGH = 8
"""Samples before the fit is used: twice the features."""
KEPT = 64
"""Samples kept; a server's estimate changes at most with its deployments."""
OVERSHOOT_SHARE = 0.02
"""Share of a minute's limit by which the optimistic figures of a minute may fall short."""
PROBES = 3 * ENOUGH
"""Requests sent one at a time to find samples, before it is given up: the headers may not be there."""

Features = tuple[float, float, float, float]
_CONSTANT, _BYTES, _INPUT, _CAP = range(4)


class ChargeModel:
    """Learns charges from samples; deterministic, no clock."""

    def __init__(self) -> None:
        self.probes = 0
        self._samples: deque[tuple[Features, float]] = deque(maxlen=KEPT)
        self._weights: Features = (0.0, 0.0, 0.0, 0.0)
        self._guard = 0.0

    @property
    def ready(self) -> bool:
        """Whether there is a figure."""
        return len(self._samples) >= ENOUGH

    @property
    def probing(self) -> bool:
        """Whether requests should go one at a time, so that a drop is one request's charge."""
        return not self.ready and self.probes < PROBES

    def learn(self, demand: Demand, charged: float) -> None:
        """Take in what a server charged for a request."""
        self._samples.append((_features(demand), float(charged)))
        if self.ready:
            self._fit()

    def estimate(self, demand: Demand, *, guarded: bool = True) -> int | None:
        """Return what the server will charge in tokens, rounded up; None while there is no fit."""
        if not self.ready:
            return None
        fit = _dot(self._weights, _features(demand))
        return max(1, math.ceil(fit + (self._guard if guarded else 0.0) - 1e-6))

    def _fit(self) -> None:
        samples = self._samples
        gram = [[sum(x[i] * x[j] for x, _ in samples) for j in range(4)] for i in range(4)]
        moment = [sum(x[i] * y for x, y in samples) for i in range(4)]
        best: Features = (0.0, 0.0, 0.0, 0.0)
        best_gain = 0.0
        for size in range(1, 5):
            # Of sets that explain the same, the one that says what a larger request costs: while every cap is
            # the same it could be a constant, and the next stage has another cap.
            for chosen in itertools.combinations((_BYTES, _CAP, _CONSTANT, _INPUT), size):
                weights = _solve([[gram[i][j] for j in chosen] for i in chosen], [moment[i] for i in chosen])
                if weights is None or min(weights) < 0:
                    continue
                gain = sum(w * moment[i] for w, i in zip(weights, chosen, strict=True))
                # What explains less than a token a sample more explains the rounding of the readings: a
                # larger set must do better, and an input estimate, which changes as it learns, than bytes.
                if gain > best_gain + len(samples) * bool(best_gain):
                    full = [0.0] * 4
                    for w, i in zip(weights, chosen, strict=True):
                        full[i] = w
                    best, best_gain = (full[0], full[1], full[2], full[3]), gain
        self._weights = best
        self._guard = max(0.0, *(y - _dot(best, x) for x, y in samples))

    def dump(self) -> list[Any]:
        """Return the state as plain values."""
        return [self.probes, [[list(x), y] for x, y in self._samples]]

    def load(self, state: list[Any]) -> None:
        """Take over what ``dump`` returned."""
        self.probes, samples = state
        given = deque(((x[0], x[1], x[2], x[3]), y) for x, y in samples)
        if list(given) != list(self._samples):
            self._samples = deque(given, maxlen=KEPT)
            if self.ready:
                self._fit()


def _features(demand: Demand) -> Features:
    return (1.0, float(demand.body_bytes), float(demand.input_tokens), float(demand.output_cap))


def _dot(weights: Features, features: Features) -> float:
    return sum(w * x for w, x in zip(weights, features, strict=True))


def _solve(matrix: list[list[float]], right: list[float]) -> list[float] | None:
    """Solve by elimination with scaling; None if the features say the same thing."""
    size = len(right)
    scale = [math.sqrt(matrix[i][i]) for i in range(size)]
    if min(scale) == 0:
        return None
    rows = [
        [matrix[i][j] / (scale[i] * scale[j]) for j in range(size)] + [right[i] / scale[i]]
        for i in range(size)
    ]
    for column in range(size):
        pivot = max(range(column, size), key=lambda row: abs(rows[row][column]))
        if abs(rows[pivot][column]) < 1e-9:
            return None
        rows[column], rows[pivot] = rows[pivot], rows[column]
        for row in range(size):
            if row != column:
                factor = rows[row][column] / rows[column][column]
                rows[row] = [a - factor * b for a, b in zip(rows[row], rows[column], strict=True)]
    return [rows[i][size] / rows[i][i] / scale[i] for i in range(size)]
