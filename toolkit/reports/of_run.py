"""The page of one run."""

from __future__ import annotations

from collections.abc import Sequence

from toolkit.parts import Page, Section
from toolkit.records import Episode
from toolkit.reports.judged import quality_parts
from toolkit.reports.plotted import plots_of_run
from toolkit.reports.settings import NO_SECRETS, environment_parts, settings_of
from toolkit.runs import Run
from toolkit.views.figures import Figures
from toolkit.views.heads import alerts_of, facts_of, tiles_of
from toolkit.views.readings import references_of, summaries_of
from toolkit.views.tables import episodes_of, errors_of, limits_of, name_of, time_of


def page_of_run(run: Run, episodes: Sequence[Episode]) -> Page:
    """Return the page of a run; its episodes bring references and scores, where they are at hand."""
    of = Figures(run)
    references = references_of(episodes)
    judged = [Section("quality", "Quality", quality_parts([run], ["mean"], episodes))] if episodes else []
    return Page(
        title=f"Run {name_of(run.id)}",
        facts=facts_of(of),
        alerts=alerts_of(of),
        tiles=tiles_of(of),
        sections=[
            Section("time", "Where the time went", time_of(of)),
            Section("plots", "Plots", plots_of_run(of)),
            Section("episodes", "Episodes", [episodes_of(of)]),
            Section("errors", "Errors", errors_of(of)),
            Section("limits", "Limits", limits_of(of)),
            *judged,
            Section("summaries", "Summaries", summaries_of(run, references)),
            Section("settings", "Settings", [*settings_of(run.config), NO_SECRETS]),
            Section("environment", "Environment", environment_parts(run.environment)),
        ],
    )
