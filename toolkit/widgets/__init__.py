"""Widgets for a notebook: ``TuningPanel``.

``knobs`` says which settings have a control, ``controls`` makes the controls. ``predicting`` works out what a
setting would come to, by the latency that ``latencies`` knows; ``driving`` runs and stops; ``watching`` keeps
what is seen of a run. ``pictures`` draws it, ``pages`` and ``results`` write it, ``lines`` are the code that
does the same, ``places`` says which panel stands in which cell, and ``panel`` is all of it.
"""

from toolkit.widgets.panel import TuningPanel

__all__ = ["TuningPanel"]
