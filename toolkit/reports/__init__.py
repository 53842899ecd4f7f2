"""Reports: one page of HTML about a run, several runs, or a study, which needs nothing but itself.

``pages`` is what users call. ``of_run``, ``of_runs`` and ``of_study`` say what stands on a page, in the
``parts`` that ``templates`` show; ``figures`` are its numbers, ``pictures`` its plots and ``settings`` what
was set. ``wording`` writes numbers, and makes foreign text fit to be shown.
"""

from toolkit.reports.pages import page, report

__all__ = ["page", "report"]
