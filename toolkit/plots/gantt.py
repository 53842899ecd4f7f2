"""``timeline``: who did what when, call by call."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Literal

from toolkit.errors import ConfigError
from toolkit.metrics import reused, seconds_of
from toolkit.plots import look
from toolkit.plots.canvas import axes_for, finish, name_ticks, reach, say_nothing_to_draw
from toolkit.plots.sources import notes_of, timed_calls, title_of
from toolkit.plots.steps import mean_number

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes

MOST_ROWS = 160
"""Lanes that a plot of notebook size has room for: two pixels each. More calls are counted instead."""
MOST_CALLS = 500
"""More of them would take seconds to draw, and none could be seen."""
MOST_NAMES = 30
_TIME = "time since the first call (s)"
_COLUMNS = [phase.column for phase in look.PHASES]


def timeline(
    run: Any, by: Literal["episode", "call", "worker"] = "episode", *, ax: Axes | None = None
) -> Axes:
    """Draw each call as a bar from its start to its end, divided into its phases.

    The frame has the length of each phase, not its place: a call that was tried several times waits and
    fails in turns, and is drawn with its waits first, by cause, then its failed attempts, its service and the
    toolkit's own time.

    More calls than there is room for are counted: the plot shows how many were in each phase over time.

    Parameters
    ----------
    run : Run
        Or anything with the frames ``calls`` and ``episodes``.
    by : str
        ``"episode"``: a row for each episode, in which calls at the same time lie beneath each other;
        ``"worker"``: the same for each worker process, or thread where the run's own process did the work;
        ``"call"``: a row for each call, in the order in which they began.
    ax : Axes, optional
        To draw into; by default those of a new figure.

    Returns
    -------
    Axes
        x: seconds since the first call.

    Raises
    ------
    ConfigError
        If ``by`` is none of these, or the run has no such frames.
    """
    import numpy as np

    if by not in ("episode", "call", "worker"):
        raise ConfigError(f"by={by!r} must be 'episode', 'worker' or 'call'")
    calls = timed_calls(run)
    ax = axes_for(ax)
    title, notes = title_of(run, f"Timeline by {by}"), notes_of(run)
    if calls.empty:
        say_nothing_to_draw(ax, "no calls")
        return finish(ax, title, notes, x=_TIME, y=by)
    owners = calls[{"episode": "episode_id", "worker": "worker", "call": "call_id"}[by]]
    ids = list(owners) if by == "call" else list(dict.fromkeys(owners))
    if by != "call":
        lanes, heights = lanes_of(calls, owners, ids)
    else:
        lanes, heights = np.arange(len(calls)), np.ones(len(calls), dtype=int)
    starts = np.concatenate([[0], np.cumsum(heights)])
    if starts[-1] > MOST_ROWS or len(calls) > MOST_CALLS:
        return _counted(ax, calls, title, notes)

    bottoms = lanes + 0.14
    legend = _bars(ax, calls, bottoms, 0.72)
    legend += _ends(ax, calls, bottoms + 0.36)
    if by != "call":
        for edge in starts[1:-1]:
            ax.axhline(edge, color="0.8", linewidth=0.6, zorder=0)
    step = max(1, -(-len(ids) // MOST_NAMES))
    name_ticks(ax, "y", ((starts[:-1] + starts[1:]) / 2)[::step], ids[::step], width=20)
    ax.tick_params(axis="y", length=0, labelsize="small")
    # A single bar is not to fill the plot.
    room = max(0.0, 4 - starts[-1]) / 2
    ax.set_ylim(starts[-1] + room, -room)
    reach(ax, _right(calls))
    return finish(ax, title, notes, x=_TIME, y=by, legend=legend)


def lanes_of(
    calls: pd.DataFrame, owners: pd.Series[str], ids: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the lane of each call and the number of lanes of each owner, so that no two calls overlap."""
    import numpy as np

    own = np.zeros(len(calls), dtype=int)
    number = {name: place for place, name in enumerate(ids)}
    row = owners.map(number).to_numpy()
    heights = np.ones(len(ids), dtype=int)
    free: list[list[int]] = [[] for _ in ids]
    busy: list[list[tuple[float, int]]] = [[] for _ in ids]
    for place, (start, end) in enumerate(zip(calls["start"], calls["end"], strict=True)):
        owner = row[place]
        while busy[owner] and busy[owner][0][0] <= start:
            heappush(free[owner], heappop(busy[owner])[1])
        lane = heappop(free[owner]) if free[owner] else len(busy[owner])
        heappush(busy[owner], (end, lane))
        own[place] = lane
        heights[owner] = max(heights[owner], lane + 1)
    first = np.concatenate([[0], np.cumsum(heights)])[:-1]
    return own + first[row], heights


def _bars(ax: Axes, calls: pd.DataFrame, bottoms: np.ndarray, height: float) -> list[tuple[Any, str]]:
    """Draw the phases of each call one after the other; return what the legend says of those that occur."""
    legend = []
    phases = seconds_of(calls, _COLUMNS)
    left = calls["start"].to_numpy()
    shown_calls = ~reused(calls).to_numpy()
    for phase in look.PHASES:
        width = phases[phase.column].to_numpy()
        there = (width > 0) & shown_calls
        if there.any():
            bars = ax.barh(
                bottoms[there],
                width[there],
                left=left[there],
                height=height,
                align="edge",
                linewidth=0.3,
                label=phase.label,
                **phase.bar,
            )
            for bar in bars:
                bar.set_hatch_linewidth(look.HATCH_WIDTH)
            # What is nowhere a pixel wide would be looked for in vain.
            if width[there].max() > _right(calls) / 1000:
                legend.append((bars, phase.label))
        left = left + width
    return legend


def _ends(ax: Axes, calls: pd.DataFrame, middles: np.ndarray) -> list[tuple[Any, str]]:
    """Mark calls that failed or were cancelled at their ends, and those that took no time: reused ones."""
    old = reused(calls).to_numpy()
    status = calls["status"].to_numpy()
    legend = []
    for name, there, marker, colour in (
        ("failed", status == "failed", "X", "#7a1f1f"),
        ("cancelled", status == "cancelled", "|", "black"),
        ("reused", old, "D", "white"),
        ("no time", (status == "ok") & ~old & (calls["end"] == calls["start"]).to_numpy(), "|", "black"),
    ):
        if there.any():
            (marks,) = ax.plot(
                calls["end"].to_numpy()[there],
                middles[there],
                linestyle="none",
                marker=marker,
                markersize=6,
                markerfacecolor=colour,
                markeredgecolor="white" if name == "failed" else look.EDGE,
                markeredgewidth=0.6 if name == "failed" else 1.2,
                clip_on=False,
                zorder=3,
                label=name,
            )
            legend.append((marks, name))
    return legend


def _counted(ax: Axes, calls: pd.DataFrame, title: str, notes: list[str]) -> Axes:
    """Draw how many calls were in each phase over time, stacked."""
    import numpy as np

    calls = calls[~reused(calls)]
    if calls.empty:
        say_nothing_to_draw(ax, "all calls were reused")
        return finish(ax, title, notes, x=_TIME)
    right = _right(calls)
    edges = np.linspace(0.0, right, 121)
    phases = seconds_of(calls, _COLUMNS)
    left = calls["start"].to_numpy()
    bottom = np.zeros(len(edges) - 1)
    legend = []
    for phase in look.PHASES:
        until = left + phases[phase.column].to_numpy()
        level = mean_number(left, until, edges)
        left = until
        if level.any():
            area = ax.fill_between(
                edges,
                np.append(bottom, bottom[-1]),
                np.append(bottom + level, (bottom + level)[-1]),
                step="post",
                linewidth=0,
                label=phase.label,
                **phase.bar,
            )
            area.set_hatch_linewidth(look.HATCH_WIDTH)
            legend.append((area, phase.label))
            bottom = bottom + level
    reach(ax, right)
    ax.set_ylim(bottom=0)
    notes = [*notes, "counted: too many for a bar each"]
    # The legend stands in the order of the areas: the uppermost first.
    return finish(ax, title, notes, x=_TIME, y="calls in each phase (mean number)", legend=legend[::-1])


def _right(calls: pd.DataFrame) -> float:
    return float(calls["end"].max()) or 1.0
