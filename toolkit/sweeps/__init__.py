"""Sweeps: the same episodes under many settings, each measured several times."""

from toolkit.sweeps.results import Sweep
from toolkit.sweeps.study import sweep

__all__ = ["Sweep", "sweep"]
