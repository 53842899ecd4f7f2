"""Reports: one page of HTML about a run, several runs, or a study, which needs nothing but itself.

``pages`` is what users call. ``of_run``, ``of_runs`` and ``of_study`` say what stands on a page, in `parts`
that ``templates`` show. Much of it is what runs and studies show of themselves (`toolkit.views`); the rest is
made here: ``plotted`` and ``study_plots`` (with ``pictures``), ``judged`` (scores) and ``settings``.
"""

from toolkit.reports.pages import page, report

__all__ = ["page", "report"]
