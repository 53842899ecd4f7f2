"""The head of a run's page: what it was, what must be known first, and its headline figures."""

from __future__ import annotations

from toolkit.parts import Alert, Tile
from toolkit.records import Status
from toolkit.views.figures import BOUNDS, Figures
from toolkit.wording import (
    NONE,
    count,
    counted,
    duration,
    listed,
    moment,
    money,
    percent,
    plain,
    real,
)

MOST_REASON = 600
"""Characters of why something stopped."""


def facts_of(of: Figures) -> list[tuple[str, str]]:
    """Return what a run was, when, and where it is kept."""
    run = of.run
    if of.simulated:
        kept = "nowhere: simulated runs are not kept"
    elif run.store in (None, "memory://"):
        kept = "in the memory of the process that made it"
    else:
        kept = plain(run.store)
    return [
        ("Provider", plain(run.provider)),
        ("Model", plain(run.model)),
        # A simulation's clock says nothing of any day.
        *([] if of.simulated else [("Began", moment(of.began_at))]),
        ("State", run.state),
        ("Kept", kept),
    ]


def alerts_of(of: Figures) -> list[Alert]:
    """Return what must be known before any figure of a run is read."""
    run, found = of.run, of.episodes
    alerts = []
    if of.simulated:
        alerts.append(
            Alert("Simulated", "Nothing was called: all times are computed, and there are no texts.")
        )
    ended = sum(found.values()) - found.get(Status.CANCELLED, 0)
    given = f" of {run.episodes_given:,}" if run.episodes_given is not None else ""
    go_on = "Started again with the same settings, it goes on from what is kept."
    if run.state == "running":
        text = f"When this page was made {ended:,}{given} episodes had ended; all figures are those so far."
        alerts.append(Alert("Still running", text))
    elif run.state == "died":
        text = f"Its process ended before it did, after {ended:,}{given} episodes. {go_on}"
        alerts.append(Alert("Died", text, "bad"))
    elif run.stopped_because:
        alerts.append(
            Alert(
                "Stopped by itself", f"{plain(run.stopped_because, MOST_REASON).rstrip('.')}. {go_on}", "bad"
            )
        )
    elif run.interrupted:
        alerts.append(
            Alert("Interrupted", f"Stopped before its end, after {ended:,}{given} episodes. {go_on}", "bad")
        )
    # What a run that goes on has not ended is not missing.
    lost = ("partial", "failed", *(["cancelled"] if run.state != "running" else []))
    missing = [f"{found[status]:,} {status}" for status in lost if status in found]
    if missing:
        text = f"{listed(missing)} of {counted(sum(found.values()), 'episode')}; the episodes below say why."
        alerts.append(Alert("Something is missing", text, "bad"))
    if of.calls_reused:
        text = (
            f"{of.run.reused}. They were answered from the store in next to no time, so that the makespan is "
            "not that of a run which asks everything; they are in no rate, wait or latency."
        )
        alerts.append(Alert("Reused", text))
    return alerts


def tiles_of(of: Figures) -> list[Tile]:
    """Return the headline figures of a run."""
    run, longest = of.run, of.longest_phase
    # Of a run that goes on, those that have not ended are not lost.
    names = {"cancelled": "under way"} if run.state == "running" else {}
    ended = listed([f"{number:,} {names.get(status, status)}" for status, number in of.episodes.items()])
    rate_note = "not stated: calls were reused" if of.calls_reused else ""
    at_once = f"{real(of.at_once)} calls under way at a time" if of.at_once else ""
    return [
        Tile("Episodes summarized", f"{of.summarized:,} of {of.given:,}", ended),
        Tile("Makespan", duration(of.makespan_s), reuse_note(of)),
        Tile("Episodes an hour", real(of.episodes_per_h), rate_note),
        Tile(
            "Output tokens/s",
            real(of.tokens_per_s("output_tokens")),
            f"{real(of.tokens_per_s('input_tokens'))} input tokens/s",
        ),
        Tile("Calls made", count(of.calls), f"{of.failed_calls:,} failed, {of.calls_reused:,} reused"),
        Tile("Cost", money(of.cost_usd), cost_note(of)),
        Tile(
            "Refused as too many", count(of.rate_limited_attempts), "attempts that a server answered with 429"
        ),
        Tile(
            "Quota used",
            percent(run.quota_share),
            "no request waited for a limit" if run.quota_share is None else "of the limit that bound",
        ),
        Tile(
            "Most time went to",
            NONE if longest is None else BOUNDS[longest.column],
            "" if longest is None else f"{percent(longest.share)} of the calls' time; {at_once}".rstrip("; "),
        ),
        Tile("Calls waited for", listed(waits_of(of)) or "nothing", "summed over calls" if of.waits else ""),
        *([Tile("Peak memory", peak_memory(of), "of the whole process")] if run.peak_rss_mb else []),
    ]


def peak_memory(of: Figures) -> str:
    """Return the most memory that the process had during a run."""
    peak_mb = of.run.peak_rss_mb
    return NONE if peak_mb is None else f"{peak_mb:,.0f} MB"


def reuse_note(of: Figures) -> str:
    """Say beside a makespan that some of it was another run's work."""
    return f"with {counted(of.calls_reused, 'reused call')}" if of.calls_reused else ""


def cost_note(of: Figures) -> str:
    """Say what a cost leaves out."""
    saved = of.totals["saved_usd"]
    notes = []
    if of.cost_usd is None and of.calls:
        notes.append("no price is known")
    elif of.unpriced:
        notes.append(f"at least: {of.unpriced:,} calls have no price")
    if saved:
        notes.append(f"{money(saved)} saved by reuse")
    return "; ".join(notes)


def waits_of(of: Figures) -> list[str]:
    """Return what the calls waited for and how long, summed over them."""
    return [f"{phase.label.removeprefix('wait: ')} {duration(phase.seconds)}" for phase in of.waits]
