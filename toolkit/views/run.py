"""What a run shows of itself in a notebook."""

from __future__ import annotations

from toolkit.parts import Fold, Part, View
from toolkit.views.figures import Figures, Ran
from toolkit.views.heads import alerts_of, facts_of, tiles_of
from toolkit.views.readings import summaries_of
from toolkit.views.tables import episodes_of, errors_of, name_of, time_of
from toolkit.wording import counted

MOST_EPISODES = 30
MOST_SUMMARIES = 10
"""A notebook is read from top to bottom: what is longer is in the frames, and on the page of a report."""


def view_of(run: Ran) -> View:
    """Return what came of a run, its figures first, the rest folded."""
    of = Figures(run)
    parts: list[Part] = [
        Fold("Where the time went", time_of(of)),
        Fold(counted(len(run.records), "episode"), [episodes_of(of, MOST_EPISODES)]),
    ]
    if of.failed_calls or of.failed_attempts:
        parts.append(Fold("Errors", errors_of(of)))
    if any(record.summary.text for record in run.records):
        parts.append(Fold("Summaries", summaries_of(run, {}, MOST_SUMMARIES)))
    kind = "Simulated run" if of.simulated else "Run"
    return View(f"{kind} {name_of(run.id)}", facts_of(of), alerts_of(of), tiles_of(of), parts)
