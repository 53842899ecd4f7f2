"""Tuning: the best of many settings, of which few are really run."""

from toolkit.tuning.search import tune
from toolkit.tuning.tuned import Tuned

__all__ = ["Tuned", "tune"]
