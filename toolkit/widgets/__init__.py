"""Widgets for a notebook: ``TuningPanel`` and ``SweepExplorer``.

Of the panel, ``knobs`` says which settings have a control, and ``controls`` makes them. ``predicting`` works
out what a setting would come to, by the latency that ``latencies`` knows; ``driving`` runs and stops;
``watching`` keeps what is seen of a run. ``pictures`` draws it, ``pages`` and ``results`` write it, ``face``
arranges it, ``lines`` are the code that does the same, ``places`` says which panel stands in which cell, and
``panel`` is all of it.

``explorer`` is `SweepExplorer`; ``choice`` says what can be chosen in one, and writes it as lines of code.
"""

from toolkit.widgets.explorer import SweepExplorer
from toolkit.widgets.panel import TuningPanel

__all__ = ["SweepExplorer", "TuningPanel"]
