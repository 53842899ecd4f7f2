"""Plots of runs and studies, with matplotlib.

===================  ===================================================================================
of a run             `timeline` who did what when, `throughput` and `in_flight` over time, `limits` how much
                     of each was in use, `quota_share` what came of it, `waits` by cause, `latency_ecdf`
of a study           `heatmap` of two knobs, `lines` with confidence intervals, `pareto` cost against quality
of a simulator       `predicted` against measured
===================  ===================================================================================

Each takes ``ax=``, makes a figure of its own only without it, returns the Axes, shows nothing and leaves
matplotlib's settings alone.

>>> ax = tk.plots.timeline(run)
>>> ax.figure.savefig("timeline.png")
"""

from __future__ import annotations

from toolkit.plots.durations import latency_ecdf, waits
from toolkit.plots.gantt import timeline
from toolkit.plots.grids import heatmap, lines
from toolkit.plots.quotas import in_flight, limits, quota_share
from toolkit.plots.rates import throughput
from toolkit.plots.tradeoffs import pareto, predicted

__all__ = [
    "heatmap",
    "in_flight",
    "latency_ecdf",
    "limits",
    "lines",
    "pareto",
    "predicted",
    "quota_share",
    "throughput",
    "timeline",
    "waits",
]
