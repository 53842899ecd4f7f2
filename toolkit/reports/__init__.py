"""Reports: one page of HTML about a run, several runs, or a study, which needs nothing but itself.

``pages`` is what users call. ``of_run``, ``of_runs`` and ``of_study`` say what stands on a page, in ``parts``
that ``templates`` show; ``heads``, ``tables``, ``plotted`` (with ``pictures``), ``judged`` (scores),
``readings`` (summaries) and ``settings`` make these. ``figures`` are a run's numbers; ``wording`` writes
them, and makes foreign text fit to be shown.
"""

from toolkit.reports.pages import page, report

__all__ = ["page", "report"]
