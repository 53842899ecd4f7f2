"""One measure against another: ``predicted`` against measured, and ``pareto``, cost against quality."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from toolkit.errors import ConfigError
from toolkit.plots import look
from toolkit.plots.canvas import axes_for, finish, log_scale, name_points, say_nothing_to_draw
from toolkit.studies import (
    cells_of,
    groups_of,
    key_of,
    knobs_of,
    label_of,
    notes_of_cells,
    series_of,
    values_of,
)
from toolkit.wording import counted, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BAND = 0.1
"""Half the width of the band of ``predicted``, as a share."""
MOST_NAMED = 8


def predicted(
    measured: Iterable[Any],
    predicted: Iterable[Any],
    *,
    names: Sequence[object] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw predicted against measured makespans, with the line of equals and a band of 10 % around it.

    Parameters
    ----------
    measured, predicted : iterable of float or Run
        In seconds, pair by pair; of a run its ``makespan_s``. Pairs with a null or without a time are left
        out.
    names : sequence, optional
        Of the pairs; those outside the band are named.
    ax : Axes, optional

    Returns
    -------
    Axes
        x: measured, y: predicted seconds, on the same scale, logarithmic where they differ twentyfold.

    Raises
    ------
    ConfigError
        If there are not as many of one as of the other.
    """
    import numpy as np

    real, guess = ([_makespan(value) for value in values] for values in (measured, predicted))
    if len(real) != len(guess) or (names is not None and len(names) != len(real)):
        raise ConfigError(
            f"there are {len(real)} measured and {len(guess)} predicted makespans"
            + (f" and {len(names)} names" if names is not None else "")
            + "; they belong together pair by pair"
        )
    labels = list(names) if names is not None else [""] * len(real)
    pairs = [
        (a, b, label)
        for a, b, label in zip(real, guess, labels, strict=True)
        if 0 < a < math.inf and 0 < b < math.inf
    ]
    ax = axes_for(ax)
    title, x, y = "Predicted against measured makespan", "measured makespan (s)", "predicted makespan (s)"
    left_out = len(real) - len(pairs)
    notes = [f"{left_out} without a time, left out"] if left_out else []
    if not pairs:
        say_nothing_to_draw(ax, "no pairs")
        return finish(ax, title, notes, x=x, y=y)
    times = np.array([(a, b) for a, b, _ in pairs])
    errors = np.abs(times[:, 1] / times[:, 0] - 1)
    low, high = times.min(), times.max()
    logarithmic = high >= 20 * low
    first, last = (low / 1.4, high * 1.4) if logarithmic else (0.0, high * 1.1)
    span = np.array([first, last])
    band = ax.fill_between(
        span,
        span * (1 - BAND),
        span * (1 + BAND),
        facecolor="#dcdcdc",
        edgecolor="none",
        label=f"±{BAND:.0%}",
    )
    (line,) = ax.plot(span, span, color="0.35", linewidth=1.0, label="equal")
    outside = errors > BAND
    legend: list[tuple[Any, str]] = []
    for there, marker, colour, label in (
        (~outside, "o", look.series(0).colour, f"within {BAND:.0%}"),
        (outside, "X", look.series(1).colour, f"outside {BAND:.0%}"),
    ):
        if there.any():
            (dots,) = ax.plot(
                times[there, 0],
                times[there, 1],
                linestyle="none",
                marker=marker,
                markersize=7,
                markerfacecolor=colour,
                markeredgecolor="white",
                markeredgewidth=0.6,
                label=label,
            )
            legend.append((dots, f"{label} ({there.sum()})"))
    if logarithmic:
        log_scale(ax, "x", first, last)
        log_scale(ax, "y", first, last)
    ax.set_xlim(first, last)
    ax.set_ylim(first, last)
    worst = [n for n in sorted(np.flatnonzero(outside), key=lambda n: -errors[n]) if pairs[n][2] != ""]
    name_points(
        ax,
        [(times[n, 0], times[n, 1]) for n in worst[:MOST_NAMED]],
        [shown(pairs[n][2], 22) for n in worst[:MOST_NAMED]],
        # Away from the line: what was predicted too short lies beneath it.
        [(1, -1) if times[n, 1] < times[n, 0] else (-1, 1) for n in worst[:MOST_NAMED]],
        [(a, b) for a, b in times],
    )
    notes = [
        counted(len(pairs), "pair"),
        f"error: median {np.median(errors):.1%}, worst {errors.max():.1%}",
        *notes,
    ]
    return finish(ax, title, notes, x=x, y=y, legend=[*legend, (line, "equal"), (band, f"±{BAND:.0%}")])


def _makespan(value: Any) -> float:
    """Return seconds; NaN where there are none."""
    try:
        return float(getattr(value, "makespan_s", value))
    except (TypeError, ValueError):  # None, or pandas' NA
        if isinstance(value, str):
            raise ConfigError(f"{shown(value)!r} is no makespan; give seconds or runs") from None
        return math.nan


def pareto(
    study: Any,
    *,
    cost: str = "cost_usd",
    quality: str = "rougeL",
    by: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw what each cell of a study costs against how good it is, and the Pareto front.

    On the front is each cell than which no other is both cheaper and better. Points are means over repeats
    with their 95 % confidence intervals; those on the front carry their knobs' values.

    Parameters
    ----------
    study : Sweep or DataFrame
        With a row for each cell and repeat.
    cost : str
        A measure of which less is better.
    quality : str
        A measure of which more is better.
    by : str, optional
        A knob by whose values the points look different.
    ax : Axes, optional

    Returns
    -------
    Axes

    Raises
    ------
    ConfigError
        If there is no such column, a measure has no numbers, or ``by`` has too many values.
    """
    import numpy as np

    cells = cells_of(study, [cost, quality, *([by] if by else [])])
    costs, qualities = values_of(cells, cost), values_of(cells, quality)
    levels, level = series_of(cells, by)
    knobs = knobs_of(cells)
    key = key_of(cells)
    ax = axes_for(ax)
    title, notes = f"{label_of(quality)} against {label_of(cost)}", notes_of_cells(cells, knobs)
    # A repeat counts with both measures or with none.
    both = costs.notna() & qualities.notna()
    along, upward = (groups_of(cells, values.where(both), [key]) for values in (costs, qualities))
    group, first = level.groupby(key).first(), cells.groupby(key).head(1).set_axis(key.drop_duplicates())
    points = [
        (cell, along[cell,].mean, upward[cell,].mean, int(group[cell]))
        for (cell,) in along
        if along[cell,].mean.number
    ]
    if lost := len(along) - len(points):
        notes.append(f"{counted(lost, 'cell')} without a result")
    if not points:
        say_nothing_to_draw(ax, "no cell has both" if len(cells) else "no cells")
        return finish(ax, title, notes, x=label_of(cost), y=label_of(quality))
    legend: list[tuple[Any, str]] = []
    for number, value in enumerate(levels):
        own = [(x, y) for _, x, y, where in points if where == number]
        if not own:
            continue
        style = look.series(number)
        # Intervals of many cells would hide the cells.
        if len(points) <= 60:
            ax.errorbar(
                [x.mean for x, _ in own],
                [y.mean for _, y in own],
                xerr=[_half(x.half_width) for x, _ in own],
                yerr=[_half(y.half_width) for _, y in own],
                linestyle="none",
                ecolor="0.65",
                elinewidth=0.8,
                zorder=1,
            )
        (dots,) = ax.plot(
            [x.mean for x, _ in own],
            [y.mean for _, y in own],
            linestyle="none",
            marker=style.marker,
            markersize=7 if len(points) <= 60 else 4,
            markerfacecolor=style.colour,
            markeredgecolor="white",
            markeredgewidth=0.5,
            label="cell",
            rasterized=len(points) > 1000,
        )
        legend.append((dots, f"{shown(by, 18)} = {shown(value, 14)}" if by else f"cell ({len(own)})"))
    front = pareto_front([(x.mean, y.mean) for _, x, y, _ in points])
    xs, ys = [points[n][1].mean for n in front], [points[n][2].mean for n in front]
    (line,) = ax.step(
        xs, ys, where="post", color=look.EDGE, linewidth=1.2, linestyle=(0, (4, 2)), label="front"
    )
    ax.plot(
        xs, ys, linestyle="none", marker="o", markersize=12, markerfacecolor="none", markeredgecolor=look.EDGE
    )
    legend.append((line, f"Pareto front ({len(front)})"))
    ax.margins(0.12)
    if knobs:
        some = np.unique(np.linspace(0, len(front) - 1, min(len(front), MOST_NAMED)).round().astype(int))
        named = [points[front[place]] for place in some]
        name_points(
            ax,
            [(x.mean, y.mean) for _, x, y, _ in named],
            [", ".join(shown(first.loc[cell, knob], 12) for knob in knobs[:3]) for cell, *_ in named],
            # Above the front there is nothing; where the cells are many, only to its left is room.
            [(1 if len(points) <= 60 else -1, 1)] * len(named),
            list(zip(xs, ys, strict=True)),
        )
        notes.append(f"named by {', '.join(shown(knob, 26) for knob in knobs[:3])}")
    return finish(ax, title, notes, x=label_of(cost), y=label_of(quality), legend=legend)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return which points no other dominates, the cheapest first.

    Parameters
    ----------
    points : sequence of (cost, quality)

    Returns
    -------
    list of int
        Places of the points; of equal ones the first.
    """
    front = []
    best = -math.inf
    for place in sorted(range(len(points)), key=lambda n: (points[n][0], -points[n][1])):
        if points[place][1] > best:
            best = points[place][1]
            front.append(place)
    return front


def _half(width: float) -> float:
    return width if math.isfinite(width) else 0.0
