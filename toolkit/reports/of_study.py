"""The page of a study: the same episodes under many settings."""

from __future__ import annotations

from typing import Any

from toolkit.parts import Page, Section, Text
from toolkit.reports.settings import NO_SECRETS, environment_parts, settings_of
from toolkit.reports.study_plots import plots_of_study
from toolkit.views.study import Study, alerts_of, facts_of, failed_of, means_of, rows_of, tiles_of
from toolkit.wording import plain


def page_of_study(study: Any) -> Page:
    """Return the page of a sweep, or of anything else with ``.cells``.

    Raises
    ------
    ConfigError
        If these are no cells.
    """
    of = Study(study)
    parts = [
        Section("means", "Means of the cells", [means_of(of)]),
        Section("plots", "Plots", plots_of_study(of)),
        Section("failed", "Cells that failed", [failed_of(of)]),
        Section("rows", "Every cell and repeat", [rows_of(of)]),
    ]
    if (config := getattr(study, "config", None)) is not None:
        told = [
            Text("What all cells have in common; the knobs have values of their own."),
            *settings_of(config),
            NO_SECRETS,
        ]
        parts.append(Section("settings", "Settings", told))
    environment = getattr(study, "environment", None) or {}
    parts.append(Section("environment", "Environment", environment_parts(environment)))
    return Page(
        title=f"Sweep {plain(of.name, 80)}" if of.name else "Study",
        facts=facts_of(of),
        alerts=alerts_of(of),
        tiles=tiles_of(of),
        sections=parts,
    )
