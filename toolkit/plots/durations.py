"""How long calls took and why: ``waits`` and ``latency_ecdf``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from toolkit.errors import ConfigError
from toolkit.metrics import made, reused, seconds_of
from toolkit.plots import look
from toolkit.plots.canvas import axes_for, finish, log_scale, name_ticks, say_nothing_to_draw
from toolkit.plots.sources import frame_of, name_of, notes_of, runs_of, short_name_of, title_of
from toolkit.wording import counted, seconds, shown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MOST_BARS = 24
"""Rows with names that a plot of notebook size has room for."""
SHORT_S = 0.1
"""Times below that are read in milliseconds."""
_COLUMNS = [phase.column for phase in look.WAITS]


def waits(runs: Any, by: Literal["episode", "stage", "run"] | None = None, *, ax: Axes | None = None) -> Axes:
    """Draw how long calls waited, by cause, stacked.

    Seconds are summed over calls, many of which wait at the same time, so that they may be more than the
    run's makespan. Where there are more bars than room, the longest are drawn, and the mean of the others.

    Parameters
    ----------
    runs : Run or list of Run
    by : str, optional
        What a bar is: an ``"episode"`` (default for one run), a ``"stage"`` (direct, map, reduce) or a
        ``"run"`` (default for several).
    ax : Axes, optional

    Returns
    -------
    Axes
        x: seconds, summed over the calls.

    Raises
    ------
    ConfigError
        If ``by`` is none of these, or a run has no frame ``calls``.
    """
    import pandas as pd

    several = runs_of(runs)
    by = by or ("episode" if len(several) == 1 else "run")
    if by not in ("episode", "stage", "run"):
        raise ConfigError(f"by={by!r} must be 'episode', 'stage' or 'run'")
    parts = []
    for number, run in enumerate(several):
        calls = frame_of(run, "calls")
        calls = calls[~reused(calls)]
        named = f"{number}" if by == "run" else calls[f"{by}_id" if by == "episode" else by].astype("str")
        parts.append(seconds_of(calls, _COLUMNS).assign(bar=named, run=number))
    table = pd.concat(parts).groupby(["run", "bar"], sort=False)[_COLUMNS].sum()
    ax = axes_for(ax)
    one = len(several) == 1
    title = title_of(several[0], f"Waiting by {by}") if one else f"Waiting by {by}"
    notes = notes_of(*several)
    axis = "waiting, summed over calls (s)"
    if not table.to_numpy().any():
        say_nothing_to_draw(ax, "no call waited" if len(table) else "no calls")
        return finish(ax, title, notes, x=axis, y=by)
    names, table = _longest(
        [_bar_name(several, number, str(bar), by) for number, bar in table.index],
        table.reset_index(drop=True),
    )
    legend = []
    left = 0.0 * table.iloc[:, 0].to_numpy()
    for phase in look.WAITS:
        width = table[phase.column].to_numpy()
        if width.any():
            bars = ax.barh(
                range(len(table)),
                width,
                left=left,
                height=0.7,
                linewidth=0.5,
                label=phase.label,
                **phase.bar,
            )
            for bar in bars:
                bar.set_hatch_linewidth(look.HATCH_WIDTH)
            # Summed over bars of which one is a mean it would be less than was waited.
            total = "" if len(names) > MOST_BARS else f" {seconds(float(width.sum()))}"
            legend.append((bars, phase.label.removeprefix("wait: ") + total))
        left = left + width
    name_ticks(ax, "y", range(len(names)), names, width=34 if by == "run" else 28)
    ax.tick_params(axis="y", length=0, labelsize="small")
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlim(0, 1.04 * left.max())
    return finish(ax, title, notes, x=axis, y=by, legend=legend)


def _bar_name(runs: list[Any], number: int, bar: str, by: str) -> str:
    if by == "run":
        return name_of(runs[number], number)
    return bar if len(runs) == 1 else f"{short_name_of(runs[number], number)}: {shown(bar, 18)}"


def _longest(names: list[str], table: pd.DataFrame) -> tuple[list[str], pd.DataFrame]:
    """Return all bars, or the longest ones and the mean of the others."""
    import pandas as pd

    if len(table) <= MOST_BARS:
        return names, table
    order = table.sum(axis=1).sort_values(ascending=False, kind="stable").index
    first, others = order[:MOST_BARS], order[MOST_BARS:]
    mean = table.loc[others].mean().to_frame().T
    return (
        [*(names[place] for place in first), f"mean of {len(others)} others"],
        pd.concat([table.loc[first], mean], ignore_index=True),
    )


def latency_ecdf(runs: Any, of: Literal["service", "total"] | None = None, *, ax: Axes | None = None) -> Axes:
    """Draw the share of calls that took at most so long: their service time, and their total with all waits.

    Only calls with a new reply count; the axis is logarithmic where times differ more than fiftyfold.

    Parameters
    ----------
    runs : Run or list of Run
    of : str, optional
        ``"service"`` or ``"total"``; by default both for one run, the service time for several.
    ax : Axes, optional

    Returns
    -------
    Axes
        x: seconds, which the ticks give in milliseconds where all are short; y: percent of the calls.

    Raises
    ------
    ConfigError
        If ``of`` is neither, or a run has no frame ``calls``.
    """
    import numpy as np

    if of not in (None, "service", "total"):
        raise ConfigError(f"of={of!r} must be 'service' or 'total'")
    several = runs_of(runs)
    one = len(several) == 1
    kinds = [of] if of else ["service", "total"] if one else ["service"]
    answered = [made(frame_of(run, "calls")) for run in several]
    ax = axes_for(ax)
    legend = []
    drawn = []
    for number, (run, calls) in enumerate(zip(several, answered, strict=True)):
        for place, kind in enumerate(kinds):
            times = np.sort(calls[f"{kind}_s"].dropna().to_numpy(dtype="float64"))
            if not len(times):
                continue
            style = look.series(number if len(kinds) == 1 else number * len(kinds) + place)
            # From 0 % at the fastest call on; a step up at each.
            (line,) = ax.step(
                np.concatenate([times[:1], times]),
                100 * np.arange(len(times) + 1) / len(times),
                where="post",
                color=style.colour,
                linestyle=style.line,
                linewidth=1.6,
                marker=style.marker,
                markevery=0.15,
                markersize=4.5,
                label=kind,
            )
            drawn.append(times)
            name = f"{kind} time" if one else f"{name_of(run, number)}\n{counted(len(times), 'call')}"
            half, most = np.percentile(times, [50, 95])
            legend.append((line, f"{name}\nmedian {seconds(half)}, p95 {seconds(most)}"))
    what = " and ".join(kinds)
    title = f"{what.capitalize()} time of calls"
    title = title_of(several[0], title) if one else title
    axis, share = f"{what} time (s)", "calls that took at most this long (%)"
    notes = notes_of(*several)
    if not drawn:
        say_nothing_to_draw(ax, "no call brought a new reply")
        return finish(ax, title, notes, x=axis, y=share)
    for level in (50, 95):
        ax.axhline(level, color="0.75", linewidth=0.7, zorder=0)
    everything = np.concatenate(drawn)
    if everything.min() > 0 and everything.max() > 50 * everything.min():
        log_scale(ax, "x", everything.min(), everything.max())
    else:
        ax.set_xlim(0, 1.05 * everything.max() or 1.0)
    if 0 < everything.max() < SHORT_S:
        # In seconds their labels are so long that they run into each other.
        ax.xaxis.set_major_formatter(lambda at, _: f"{1000 * at:g}")
        axis = axis.replace("(s)", "(ms)")
    ax.set_ylim(0, 101)
    ax.set_yticks([0, 25, 50, 75, 95, 100])
    return finish(ax, title, notes, x=axis, y=share, legend=legend)
