"""What is kept of a cell: a row of figures, not its run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from toolkit.errors import BudgetExceeded, RateLimited
from toolkit.quality import scores
from toolkit.records import Episode, Status
from toolkit.runs import Run

ROUGE = ("rouge1", "rouge2", "rougeL")
TIMES = ("makespan_s", "episodes_per_h", "output_tokens_per_s", "quota_share")
"""Figures that are no measurement of a cell which was begun in an earlier start."""
MEASURES = (*TIMES, "rate_limited_attempts", "cost_usd", *ROUGE, "peak_rss_mb")
"""Figures that have means over the repeats, besides a score's own."""

Score = Callable[[Run, Sequence[Episode]], Mapping[str, float | None]]


class Ended(NamedTuple):
    """How a run ended, as a cell's status and the reason for it; ``stops``: no further cell could run."""

    status: Status
    error: str | None
    stops: bool = False


def how_it_ended(run: Run) -> Ended:
    """Return a cell's status: that of the worst of its episodes."""
    if run.stopped_because:
        spent = run.stopped_kind == BudgetExceeded.__name__
        return Ended(Status.CANCELLED if spent else Status.FAILED, run.stopped_because, stops=spent)
    for status in (Status.FAILED, Status.CANCELLED, Status.PARTIAL):
        those = [record for record in run.records if record.summary.status is status]
        if those:
            first = f"{those[0].episode_id}: {those[0].summary.error}"
            more = "" if len(those) == 1 else f" (and {len(those) - 1} more of {len(run.records)} episodes)"
            return Ended(status, first + more)
    return Ended(Status.OK, None)


def measure(run: Run) -> dict[str, Any]:
    """Return the figures of a run by the names of the frame ``cells``.

    The times of a run that took answers from an earlier start of it are left out.
    """
    totals, counts = run.totals(), run.counts()
    reused = run.reused
    refused = sum(
        attempt.error_kind == RateLimited.__name__
        for record in run.records
        for call in record.summary.calls
        for attempt in call.attempts
    )
    summarized = counts.get(Status.OK, 0) + counts.get(Status.PARTIAL, 0)
    span_s = run.makespan_s
    costs = [cost for cost in (totals["cost_usd"], reused.usd if reused.calls else None) if cost is not None]
    figures: dict[str, Any] = {
        "makespan_s": span_s,
        "episodes_per_h": 3600 * summarized / span_s if span_s > 0 else None,
        "output_tokens_per_s": (totals["output_tokens"] or 0) / span_s if span_s > 0 else None,
        "quota_share": run.quota_share,
        "rate_limited_attempts": refused,
        "cost_usd": sum(costs) if costs else None,
        "calls": totals["calls"],
        "calls_reused": reused.calls,
        "resumed": reused.calls > 0,
    }
    if figures["resumed"]:
        figures |= dict.fromkeys(TIMES)
    return figures


def rouge_of(run: Run, episodes: Sequence[Episode]) -> dict[str, float | None]:
    """Return the mean ROUGE F-measures over the episodes that have a summary and a reference."""
    if not any(episode.reference for episode in episodes) or not any(
        record.summary.text for record in run.records
    ):
        return dict.fromkeys(ROUGE)
    frame = scores(run, episodes)
    return {name: _mean(frame[name]) for name in ROUGE}


def _mean(values: Any) -> float | None:
    known = values.dropna()
    return float(known.mean()) if len(known) else None
