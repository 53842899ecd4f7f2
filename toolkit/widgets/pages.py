"""What a panel writes: what a setting would come to, and how far a run is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from toolkit.config import Config
from toolkit.handle import RunHandle
from toolkit.parts import Alert, Code, Column, Fold, Items, Part, Table, Text, Tile, View
from toolkit.parts.showing import template
from toolkit.planning.advice import Plan
from toolkit.runs import Run
from toolkit.sweeps.results import Row, describe_row
from toolkit.sweeps.spending import Ahead
from toolkit.widgets import watching
from toolkit.widgets.knobs import differences
from toolkit.widgets.pictures import curves, timeline
from toolkit.widgets.predicting import Played, Prediction
from toolkit.wording import counted, duration, listed, money, percent, plain, real, shown

_TEMPLATES = Path(__file__).parent / "templates"
_SHOWN_STATES = ("ok", "partial", "failed", "cancelled", "under way", "waiting")
_EPISODE_WIDTH = 34


def style_html() -> str:
    """Return the style of a panel: JupyterLab's own colours, to be read in the light and in the dark."""
    return template("style.html", _TEMPLATES).render()


def panel_html(view: View) -> Markup:
    """Return what a part of the panel shows; its style is the panel's."""
    return Markup(template("panel.html", _TEMPLATES).render(view=view))


def plan_html(prediction: Prediction) -> str:
    """Return what is known of a setting before it runs: its least time, its calls, its cost."""
    if prediction.plan is None:
        return problem_html(prediction.error or "")
    return panel_html(View("", tiles=_plan_tiles(prediction.plan)))


def conflicts_html(prediction: Prediction) -> str:
    """Return what of a setting does not go together."""
    if prediction.plan is None:
        return ""
    conflicts = [Alert("Conflict", str(conflict), "bad") for conflict in prediction.plan.conflicts]
    return panel_html(View("", alerts=conflicts, parts=[] if conflicts else [Text("No conflicts.")]))


def suggestions_html(prediction: Prediction) -> str:
    """Return what would do better."""
    if prediction.plan is None or not prediction.plan.suggestions:
        return ""
    plan = prediction.plan
    why = Items("Each counts on those before it", list(map(str, plan.suggestions)))
    return panel_html(View("", parts=[Fold(f"Suggested: {settings_text(plan.suggested)}", [why])]))


_BY_MEANS = frozenset({"cores", "latency", "memory", "slots"})
"""Bounds that go by the mean time of calls: a run whose calls are shorter by chance takes less."""


def _plan_tiles(plan: Plan) -> list[Tile]:
    bottleneck = "nothing is asked" if plan.bottleneck is None else f"bound by {_words(plan.bottleneck)}"
    if plan.bottleneck in _BY_MEANS:
        bottleneck += ", on average"
    most = "" if plan.cost_most_usd is None else f"{money(plan.cost_most_usd)} at most"
    at_once = [level for level in plan.levels if level.name == "requests"]
    return [
        Tile("At least", duration(plan.bound_s), bottleneck),
        Tile("Calls", f"{plan.calls:,}", f"{real(at_once[0].effective)} at a time" if at_once else ""),
        Tile("Cost", money(plan.cost_usd), most or "no price is known"),
    ]


def played_html(prediction: Prediction) -> str:
    """Return what a simulation of a setting says: its time, and who does what when."""
    played, known = prediction.played, prediction.latency
    if played is None or known is None:
        return problem_html(prediction.error or "") if prediction.plan is not None else ""
    label = "Simulated, by a guess" if known.is_guess else "Simulated"
    tiles = [
        Tile(label, duration(played.seconds), _scale(played, prediction.plan)),
        Tile("Simulated cost", money(played.cost_usd), ""),
    ]
    alerts = []
    if lost := [record for record in played.run.records if record.summary.error]:
        said = plain(lost[0].summary.error, 300)
        text = f"{counted(len(lost), 'episode')} of {len(played.run.records)}: {said}"
        alerts.append(Alert("Would be missing", text, "bad"))
    about = Markup('<p class="note">How long calls take: {}.</p>').format(known.source)
    return panel_html(View("", alerts=alerts, tiles=tiles)) + timeline(played.run) + about


def _scale(played: Played, plan: Plan | None) -> str:
    if not played.is_sample or plan is None:
        return f"all {counted(len(played.episodes), 'episode')}"
    return (
        f"scaled up from a sample: {len(played.episodes):,} of {counted(plan.episodes, 'episode')}, which is "
        "what the timeline shows"
    )


def details_html(prediction: Prediction) -> str:
    """Return the plan as a whole, folded."""
    if prediction.plan is None:
        return ""
    whole = Markup(prediction.plan._repr_html_())
    return Markup('<details class="tk-view"><summary>The plan in full</summary>{}</details>').format(whole)


def problem_html(text: str) -> str:
    """Return what went wrong, as one text."""
    return Markup('<p class="problem" role="alert">{}</p>').format(plain(text)) if text else ""


def note_html(text: str) -> str:
    """Return what is to be known, as one text."""
    return Markup('<p role="status">{}</p>').format(plain(text)) if text else ""


def code_html(lines: str) -> str:
    """Return lines to be copied."""
    return panel_html(View("", parts=[Code(lines)]))


def settings_text(settings: Mapping[str, Any]) -> str:
    """Return ``summary_batch_size=4, chunk_tokens=512``."""
    return ", ".join(f"{name}={value!r}" for name, value in settings.items())


def pending_html(pending: Mapping[str, Any], handle: RunHandle | None, config: Config) -> str:
    """Say what is set and not in force in the run that goes on."""
    if handle is None:
        return ""
    others = [name for name in differences(handle.config, config) if name not in pending]
    told = [f"Set, and not applied to the run: {settings_text(pending)}."] if pending else []
    told += [f"For the next run only: {listed(others)}."] if others else []
    return note_html(" ".join(told))


def consent_html(ahead: Ahead) -> str:
    """Say what may be spent, before it is."""
    text = f"This would really call {ahead.names}: {ahead}. Nothing is sent yet: set a budget, or say yes."
    return note_html(text)


def consent_label(ahead: Ahead) -> str:
    """Return what the button says that consents."""
    return f"Make {ahead.calls:,} calls" if ahead.usd is None else f"Spend up to {money(ahead.usd)}"


def cells_html(cells: Sequence[Mapping[str, Any]]) -> str:
    """Return the settings that were collected for a sweep."""
    if not cells:
        return note_html("No settings are collected.")
    items = [settings_text(cell) for cell in cells]
    return panel_html(View("", parts=[Items("Collected for a sweep", items)]))


def measured_html(row: Row, cells: int) -> str:
    """Say which cell of a sweep was measured."""
    return note_html(f"Sweep of {counted(cells, 'setting')}: {describe_row(row)}.")


def ended_html(run: Run) -> str:
    """Say in a sentence how a run ended, and what is to be done."""
    lost = [record for record in run.records if record.summary.error and record.summary.status != "cancelled"]
    told = [repr(run).strip("<>") + "."]
    if run.interrupted:
        told.append("Run goes on from there.")
    if run.reused.calls and not run.totals()["calls"]:
        told.append("All calls were taken from the store, and nothing was measured; take none, to ask anew.")
    trouble = run.stopped_because or (lost[0].summary.error if lost else None)
    return note_html(" ".join(told)) + problem_html(trouble or "")


# A run that goes on


def running_html(view: watching.View) -> str:
    """Return how far a run is: its figures, and why it waits."""
    progress = view.progress
    of = "" if progress.episodes_total is None else f" of {progress.episodes_total:,}"
    states = [f"{view.counts[state]:,} {state}" for state in _SHOWN_STATES if state in view.counts]
    calls = ["known so far", *([f"{view.reused:,} taken from the store"] if view.reused else [])]
    calls += [counted(view.failed_attempts, "failed attempt")] if view.failed_attempts else []
    tiles = [
        Tile("Episodes", f"{progress.episodes:,}{of}", listed(states)),
        Tile("Calls", f"{progress.calls:,} of {progress.calls_planned:,}", ", ".join(calls)),
        Tile("Time", duration(progress.elapsed_s), _left(progress.eta_s)),
        Tile("Cost so far", money(view.cost_usd), _in_the_end(view)),
    ]
    parts: list[Part] = []
    if progress.waits_for is not None:
        parts.append(Text(f"Now {progress.waits_for}."))
    if view.waits_s:
        waits = [
            f"{label.removeprefix('wait: ')} {duration(seconds)}" for label, seconds in view.waits_s.items()
        ]
        parts.append(Text(f"Calls that ended have waited, summed over them: {listed(waits)}."))
    return panel_html(View("", tiles=tiles, parts=parts))


def _left(eta_s: float | None) -> str:
    return "" if not eta_s else f"about {duration(eta_s)} left"


def _in_the_end(view: watching.View) -> str:
    if view.cost_usd is None:
        return "no price is known"
    usd = view.cost_in_the_end_usd
    return "" if usd is None else f"about {money(usd)} in the end"


def curves_html(view: watching.View) -> str:
    """Return throughput and use of the limits over time."""
    until = view.progress.elapsed_s
    heading = Markup("<div><h4>{}</h4>{}</div>")
    drawn = []
    if not watching.is_flat(view.tokens_per_s):
        most = max(value for _, value in view.tokens_per_s)
        words = f"Output tokens a second over time, at most {real(most)}"
        tokens = curves({"tokens/s": view.tokens_per_s}, words, until=until)
        drawn.append(heading.format("Output tokens a second, of calls that ended", tokens))
    if view.quota:
        last = [f"{name} {percent(points[-1][1])}" for name, points in view.quota.items() if points]
        words = f"Share of the limits in use over time, now {listed(last)}"
        quota = curves(view.quota, words, until=until, percent=True)
        drawn.append(heading.format("Limits in use, of all who draw from them", quota))
    return Markup('<div class="tk-curves">{}</div>').format(Markup("").join(drawn))


def episodes_html(view: watching.View, titles: Mapping[str, str]) -> str:
    """Return a row for each episode: where it is."""
    rows = [
        [
            shown(titles.get(row.episode_id) or row.episode_id, _EPISODE_WIDTH),
            row.state,
            "" if row.calls_planned is None else f"{row.calls:,} of {row.calls_planned:,}",
            "" if row.seconds is None else duration(row.seconds),
            plain(row.error or "", 200),
        ]
        for row in view.rows
    ]
    columns = [
        Column("episode"),
        Column("state"),
        Column("calls", "", True),
        Column("time", "", True),
        Column(""),
    ]
    left_out = f"{view.left_out:,} more have no row." if view.left_out else ""
    return panel_html(View("", parts=[Table("Episodes", columns, rows, left_out)]))


def _words(bottleneck: str) -> str:
    return bottleneck.replace("_", " ")
