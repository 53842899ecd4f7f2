"""What limits allowed and what was used of it: ``in_flight``, ``limits`` and ``quota_share``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from toolkit.metrics import made
from toolkit.plots import look
from toolkit.plots.canvas import axes_for, finish, name_ticks, say_nothing_to_draw
from toolkit.plots.sources import frame_of, notes_of, runs_of, short_name_of, timed_calls, title_of
from toolkit.plots.steps import changes, over
from toolkit.wording import shown, span

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes

MOST_EVENTS = 1500
"""Steps that can be told apart at notebook size; of more their mean, least and greatest in an interval."""
_TIME = "time since the first call (s)"
_LIMIT_TIME = "time since the run's start (s)"


def in_flight(run: Any, *, ax: Axes | None = None) -> Axes:
    """Draw how many requests were in flight and how many waited, with the cap on them.

    Of a run without a limiter it draws how many calls the model worked on, from their service times.

    Parameters
    ----------
    run : Run
        Or anything with the frames ``limits`` and ``calls``.
    ax : Axes, optional

    Returns
    -------
    Axes
        x: seconds; y: requests.

    Raises
    ------
    ConfigError
        If the run has no such frames.
    """
    frame = frame_of(run, "limits")
    title, notes = title_of(run, "Requests in flight"), notes_of(run)
    ax = axes_for(ax)
    if frame.empty:
        return _in_service(ax, run, title, notes)
    legend: list[tuple[Any, str]] = []
    for place, (key, events) in enumerate(_keys(frame)):
        suffix = f"\n{shown(key, 18)}" if key else ""
        colour = look.series(place).colour
        waiting, flying, cap = (
            (known["t_s"].to_numpy(), known[name].to_numpy())
            for name in ("waiting", "in_flight", "slot_cap")
            for known in [events.reindex(columns=["t_s", name]).dropna().astype("float64")]
        )
        if len(waiting[0]) and waiting[1].any():
            legend.append((_waiting(ax, *waiting), f"waiting in line{suffix}"))
        if len(flying[0]):
            legend.append((_counts(ax, *flying, colour, "in flight"), _most("in flight", flying[1]) + suffix))
        if len(cap[0]):
            times, caps = changes(*cap)
            if len(times) > MOST_EVENTS / 10:
                times, (caps, _, _) = _intervals(times, caps)
                caps = caps[[*range(len(caps)), -1]]
            (line,) = ax.step(times, caps, where="post", **look.LIMIT, label="cap")
            legend.append((line, f"cap {span(cap[1])}{suffix}"))
    if len(frame) > MOST_EVENTS:
        notes.append("line: mean of an interval, band: least to most")
    _from_zero(ax)
    return finish(ax, title, notes, x=_LIMIT_TIME, y="requests", legend=legend)


def _in_service(ax: Axes, run: Any, title: str, notes: list[str]) -> Axes:
    """Draw how many calls the model worked on at once: +1 at the start of a service, -1 at its end."""
    import numpy as np

    calls = made(timed_calls(run))
    if calls.empty:
        say_nothing_to_draw(ax, "no limiter, and no call brought a new reply")
        return finish(ax, title, notes, x=_TIME, y="requests")
    ends = (calls["end"] - calls["overhead_s"]).to_numpy()
    times = np.concatenate([ends - calls["service_s"].to_numpy(), ends])
    # Ends go first among what happens at one time, or a model at work on one would seem to have two.
    order = np.lexsort((np.repeat([1, 0], len(calls)), times))
    counts = np.cumsum(np.repeat([1.0, -1.0], len(calls))[order])
    line = _counts(ax, times[order], counts, look.series(0).colour, "in service")
    notes.append("no limiter")
    if len(times) > MOST_EVENTS:
        notes.append("line: mean of an interval, band: least to most")
    _from_zero(ax)
    return finish(ax, title, notes, x=_TIME, y="requests", legend=[(line, _most("in service", counts))])


def _counts(ax: Axes, times: np.ndarray, counts: np.ndarray, colour: str, label: str) -> Any:
    """Draw a number that changes with every event, or its mean and range if there are too many to see."""
    if len(times) <= MOST_EVENTS:
        (line,) = ax.step(times, counts, where="post", color=colour, linewidth=1.4, label=label)
        return line
    edges, (mean, least, most) = _intervals(times, counts)
    ax.fill_between(
        edges,
        [*least, least[-1]],
        [*most, most[-1]],
        step="post",
        facecolor=colour,
        alpha=0.3,
        linewidth=0,
        label="range",
    )
    return ax.stairs(mean, edges, baseline=None, color=colour, linewidth=1.6, label=label)


def _waiting(ax: Axes, times: np.ndarray, counts: np.ndarray) -> Any:
    """Draw how many waited as an area behind everything."""
    if len(times) > MOST_EVENTS:
        times, (mean, _, _) = _intervals(times, counts)
        counts = mean[[*range(len(mean)), -1]]
    area = ax.fill_between(
        times,
        counts,
        step="post",
        facecolor="#e6e6e6",
        edgecolor="#8a8a8a",
        linewidth=0.6,
        hatch="....",
        zorder=0,
        label="waiting",
    )
    area.set_hatch_linewidth(look.HATCH_WIDTH)
    return area


def _intervals(times: np.ndarray, values: np.ndarray, number_of: int = 150) -> tuple[Any, Any]:
    import numpy as np

    edges = np.linspace(times[0], max(times[-1], times[0] + 1e-9), number_of + 1)
    return edges, over(times, values, edges)


def _most(what: str, counts: np.ndarray) -> str:
    return f"{what} (most {counts.max():.0f})"


def limits(run: Any, *, ax: Axes | None = None) -> Axes:
    """Draw how much of each limit was in use: slots, and requests and tokens of the last 60 s.

    The limit that bound is the one whose line stays at the top. A limit that works like a bucket may let
    through up to twice itself in the first minute, its capacity and its refill.

    Parameters
    ----------
    run : Run
        Or anything with the frames ``limits`` and ``calls``.
    ax : Axes, optional

    Returns
    -------
    Axes
        x: seconds; y: percent of the limit in force at that time.

    Raises
    ------
    ConfigError
        If the run has no such frames.
    """
    frame = frame_of(run, "limits")
    ax = axes_for(ax)
    title, notes = title_of(run, "Use of the limits"), notes_of(run)
    legend = []
    axis = "in use (% of the limit)"
    for place, (used, limit, name, unit) in enumerate(
        (
            ("in_flight", "slot_cap", "slots", ""),
            ("requests_60s", "requests_limit", "requests in 60 s", "/min"),
            ("tokens_60s", "tokens_limit", "tokens in 60 s", "/min"),
        )
    ):
        for key, events in _keys(frame):
            if not {used, limit} <= set(events.columns):
                continue
            known = events[["t_s", used, limit]].dropna().astype("float64")
            known = known[known[limit] > 0]
            if known.empty:
                continue
            style = look.series(place)
            edges, (mean, _, _) = _intervals(
                known["t_s"].to_numpy(), (100 * known[used] / known[limit]).to_numpy(), 60
            )
            (line,) = ax.step(
                edges,
                [*mean, mean[-1]],
                where="post",
                color=style.colour,
                linestyle=style.line,
                linewidth=1.6,
                marker=style.marker,
                markevery=(2 + 3 * place, 10),
                markersize=4.5,
                label=name,
            )
            suffix = f"\n{shown(key, 18)}" if key else ""
            legend.append((line, f"{name}\nof {span(known[limit])}{unit}{suffix}"))
    if not legend:
        say_nothing_to_draw(ax, "no limits")
        return finish(ax, title, notes, x=_LIMIT_TIME, y=axis)
    line = ax.axhline(100, **look.LIMIT, label="limit")
    ax.set_ylim(bottom=0)
    ax.margins(x=0)
    notes.append("mean of an interval")
    return finish(ax, title, notes, x=_LIMIT_TIME, y=axis, legend=[*legend, (line, "limit")])


def quota_share(runs: Any, *, ax: Axes | None = None) -> Axes:
    """Draw the share of each limit that was used while somebody waited; the longest bar of a run bound it.

    Parameters
    ----------
    runs : Run or list of Run
        With ``quota_shares``, as hosted runs have them.
    ax : Axes, optional

    Returns
    -------
    Axes
        x: percent of what the law allowed; a bar for each limit.

    Raises
    ------
    ConfigError
        If a run has no frame ``calls``.
    """
    several = runs_of(runs)
    notes = notes_of(*several)
    ax = axes_for(ax)
    bars = [
        (place, name, share)
        for place, run in enumerate(several)
        for name, share in (getattr(run, "quota_shares", None) or {}).items()
        if share is not None and math.isfinite(share)
    ]
    one = len(several) == 1
    title = title_of(several[0], "Share of the quota used") if one else "Share of the quota used"
    axis = "admitted of what was allowed while somebody waited (%)"
    if not bars:
        say_nothing_to_draw(ax, "nobody waited for a limit")
        return finish(ax, title, notes, x=axis)
    binding = {place: max(share for other, _, share in bars if other == place) for place, _, _ in bars}
    legend: dict[str, Any] = {}
    for row, (place, _, share) in enumerate(bars):
        bound = share == binding[place]
        drawn = ax.barh(
            row,
            100 * share,
            height=0.62,
            facecolor=look.series(0).colour if bound else "#e6e6e6",
            edgecolor=look.EDGE,
            linewidth=0.5,
            hatch="" if bound else "....",
        )
        drawn[0].set_hatch_linewidth(look.HATCH_WIDTH)
        # Within a long bar, clear of the line at 100 %.
        inside = share > 0.5
        text = ax.annotate(
            f"{share:.1%}",
            (100 * share, row),
            xytext=(-6 if inside else 6, 0),
            textcoords="offset points",
            ha="right" if inside else "left",
            va="center",
            color="white" if inside and bound else "black",
        )
        if inside and not bound:
            text.set_bbox({"facecolor": "#e6e6e6", "edgecolor": "none", "pad": 1.5})
        legend.setdefault("bound the run" if bound else "had room left", drawn)
    names = [
        _limit_name(name) if one else f"{short_name_of(several[place], place)}: {_limit_name(name)}"
        for place, name, _ in bars
    ]
    name_ticks(ax, "y", range(len(bars)), names, width=40)
    ax.tick_params(axis="y", length=0, labelsize="small")
    room = max(0.0, 4 - len(bars)) / 2
    ax.set_ylim(len(bars) - 0.4 + room, -0.6 - room)
    ax.set_xlim(0, max(105.0, 105 * max(share for _, _, share in bars)))
    line = ax.axvline(100, **look.LIMIT, label="allowed")
    entries = [(legend[label], label) for label in sorted(legend)]
    return finish(ax, title, notes, x=axis, legend=[*entries, (line, "allowed")])


def _limit_name(clause: str) -> str:
    """Return ``requests (bucket, 60 s)`` of ``requests:bucket:60``."""
    name, *rest = clause.split(":")
    return f"{name} ({', '.join(rest)} s)" if len(rest) == 2 and rest[1].isdecimal() else clause


def _keys(frame: pd.DataFrame) -> list[tuple[str | None, pd.DataFrame]]:
    """Return the events of each quota key in order of time; a single one needs no name."""
    frame = frame[frame["t_s"].notna()].sort_values("t_s", kind="stable")
    if "quota_key" not in frame or frame["quota_key"].nunique() < 2:
        return [(None, frame)] if len(frame) else []
    return [(str(key), events) for key, events in frame.groupby("quota_key", sort=False)]


def _from_zero(ax: Axes) -> None:
    """Let counts begin at nothing and have whole numbers."""
    from matplotlib.ticker import MaxNLocator

    ax.set_ylim(bottom=0)
    ax.margins(x=0)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
