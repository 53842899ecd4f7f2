"""Runs that do not take place: what they would take in time, calls and money, known in advance.

Everything that decides is the real thing: map-reduce, the path of a call, the limiter with its line, retries
and prices. What takes time is put on an agenda in place of being waited for.
"""

from __future__ import annotations

from toolkit.simulation.faults import Faults
from toolkit.simulation.simulations import Simulations, simulate

__all__ = ["Faults", "Simulations", "simulate"]
