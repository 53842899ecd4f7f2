"""Over a study: ``heatmap`` of two knobs, and ``lines`` with confidence intervals."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from toolkit.errors import ConfigError
from toolkit.plots import look
from toolkit.plots.canvas import axes_for, finish, log_scale, name_ticks, say_nothing_to_draw
from toolkit.plots.cells import in_intervals, label_of, levels_of, means, notes_of_cells, values_of
from toolkit.plots.letters import literal, number, shown
from toolkit.plots.sources import cells_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_WRITTEN = 10
"""Columns of a heatmap in whose cells a number is still legible."""
MOST_COLUMNS = 48
"""More numbers than that are put into intervals."""
MOST_TICKS = 14
MOST_LINES = 12


def heatmap(study: Any, *, x: str, y: str, value: str, ax: Axes | None = None) -> Axes:
    """Draw a measure over two knobs: the mean over repeats, and over all other knobs, which the title names.

    A cell in which every row failed is hatched; one in which some did says how many went well. What the
    study did not try stays empty.

    Parameters
    ----------
    study : Sweep or DataFrame
        With a row for each cell and repeat.
    x, y : str
        Knobs.
    value : str
        A measure, such as ``"makespan_s"``.
    ax : Axes, optional

    Returns
    -------
    Axes
        The colour bar has Axes of its own.

    Raises
    ------
    ConfigError
        If there is no such column, or ``value`` has no numbers.
    """
    import numpy as np
    from matplotlib.colors import Normalize
    from matplotlib.patches import Rectangle

    cells = cells_of(study, [x, y, value])
    values = values_of(cells, value)
    columns, column, column_wide = in_intervals(*levels_of(cells, x), MOST_COLUMNS)
    rows, row, row_wide = in_intervals(*levels_of(cells, y), MOST_COLUMNS)
    title, notes = f"{label_of(value)} by {shown(x)} and {shown(y)}", notes_of_cells(cells, [x, y])
    ax = axes_for(ax)
    if cells.empty:
        say_nothing_to_draw(ax, "no cells")
        return finish(ax, title, notes, x=label_of(x), y=label_of(y))
    found = means(cells, values, [row, column])
    table = np.full((len(rows), len(columns)), np.nan)
    for place, (mean, _) in found.items():
        table[place] = mean.mean
    known = table[np.isfinite(table)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    mesh = ax.imshow(
        table,
        cmap="cividis",
        norm=Normalize(low, high if high > low else low + 1),
        aspect="auto",
        origin="lower",
    )
    written = len(columns) <= MOST_WRITTEN and len(rows) <= MOST_WRITTEN
    for (j, i), (mean, lost) in found.items():
        if not mean.number:
            text, colour = "failed", "black"
            box = Rectangle(
                (i - 0.5, j - 0.5),
                1,
                1,
                facecolor="white",
                edgecolor="#7a1f1f",
                hatch=look.FAILED_HATCH,
                linewidth=0,
                label="failed",
            )
            box.set_hatch_linewidth(look.HATCH_WIDTH)
            ax.add_patch(box)
        else:
            text = number(mean.mean)
            if math.isfinite(mean.half_width):
                text += f"\n± {number(mean.half_width)}"
            if lost:
                text += f"\n{mean.number} of {mean.number + lost} ok"
            # Dark letters on what is light in cividis, whose lightness grows evenly.
            colour = "black" if mean.mean - low > 0.5 * (high - low) else "white"
        if written:
            put = ax.text(i, j, text, ha="center", va="center", fontsize="small", color=colour)
            if not mean.number:
                put.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 2})
    name_ticks(ax, "x", *_some(columns), width=14)
    name_ticks(ax, "y", *_some(rows), width=14)
    if len(columns) > MOST_WRITTEN:
        ax.tick_params(axis="x", labelrotation=45)
    ax.tick_params(length=0)
    if len(known):
        bar = ax.figure.colorbar(mesh, ax=ax, pad=0.02)
        bar.set_label(label_of(value))
        literal(bar.ax.yaxis.label)
    if any(not mean.number for mean, _ in found.values()):
        notes.append("hatched: failed")
    if written and any(math.isfinite(mean.half_width) for mean, _ in found.values()):
        notes.append("±: 95 % confidence interval of the mean")
    if wide := [shown(name) for name, is_wide in ((x, column_wide), (y, row_wide)) if is_wide]:
        notes.append(f"{' and '.join(wide)} in intervals")
    return finish(ax, title, notes, x=label_of(x), y=label_of(y))


def _some(names: list[Any]) -> tuple[list[int], list[Any]]:
    """Return places and names of as many levels as there is room for."""
    step = -(-len(names) // MOST_TICKS)
    return list(range(0, len(names), step)), names[::step]


def lines(study: Any, *, x: str, y: str, by: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw a measure over a knob, a line for each value of another, with 95 % confidence intervals.

    The intervals are of the mean over repeats, by Student's t; a point of one repeat has none. Where every
    row of a point failed, a cross stands at the bottom.

    Parameters
    ----------
    study : Sweep or DataFrame
        With a row for each cell and repeat.
    x : str
        A knob: numbers are placed by their value, everything else side by side.
    y : str
        A measure.
    by : str, optional
        Another knob.
    ax : Axes, optional

    Returns
    -------
    Axes

    Raises
    ------
    ConfigError
        If there is no such column, ``y`` has no numbers, or ``by`` has more values than can be told apart.
    """
    import pandas as pd

    cells = cells_of(study, [x, y, *([by] if by else [])])
    values = values_of(cells, y)
    levels, place = levels_of(cells, x)
    groups: list[Any] = [None]
    group = pd.Series(0, index=cells.index)
    if by:
        groups, group = levels_of(cells, by)
    if len(groups) > MOST_LINES:
        raise ConfigError(f"by={by!r} has {len(groups)} values, of which {MOST_LINES} can be told apart")
    ax = axes_for(ax)
    title, notes = f"{label_of(y)} by {shown(x)}", notes_of_cells(cells, [x, *([by] if by else [])])
    if cells.empty:
        say_nothing_to_draw(ax, "no cells")
        return finish(ax, title, notes, x=label_of(x), y=label_of(y))
    numeric = bool(levels) and all(
        isinstance(level, int | float) and not isinstance(level, bool) for level in levels
    )
    where = [float(level) for level in levels] if numeric else [float(n) for n in range(len(levels))]
    spread = max(where) - min(where)
    logarithmic = numeric and min(where) > 0 and max(where) >= 8 * min(where)

    def beside(at: float, by: float) -> float:
        return at * (max(where) / min(where)) ** (0.012 * by) if logarithmic else at + 0.012 * spread * by

    found = means(cells, values, [group, place])
    legend: list[tuple[Any, str]] = []
    intervals = False
    for order, level in enumerate(groups):
        style = look.series(order)
        # A little beside each other, that intervals at one place can be read.
        aside = (order - (len(groups) - 1) / 2) if len(levels) <= MOST_TICKS else 0.0
        points = [
            (beside(where[at], aside), mean)
            for (own, at), (mean, _) in found.items()
            if own == order and mean.number
        ]
        label = f"{shown(by, 20)} = {shown(level, 16)}" if by else "mean"
        if points:
            half = [mean.half_width if math.isfinite(mean.half_width) else 0.0 for _, mean in points]
            intervals = intervals or any(half)
            drawn = ax.errorbar(
                [at for at, _ in points],
                [mean.mean for _, mean in points],
                yerr=half if any(half) else None,
                color=style.colour,
                linestyle=style.line,
                marker=style.marker,
                markersize=6,
                linewidth=1.5,
                elinewidth=1.0,
                capsize=4,
                label=label,
            )
            legend.append((drawn, label))
        if gone := [
            beside(where[at], aside)
            for (own, at), (mean, _) in found.items()
            if own == order and not mean.number
        ]:
            (crosses,) = ax.plot(
                [beside(where[at], aside) for at in lost],
                [0.03] * len(lost),
                linestyle="none",
                marker="X",
                markersize=8,
                markerfacecolor=style.colour,
                markeredgecolor="white",
                transform=ax.get_xaxis_transform(),
                label="failed",
            )
            legend.append((crosses, f"failed{f': {shown(level, 16)}' if by else ''}"))
    if not by and len(legend) == 1:
        legend = []
    if logarithmic:
        log_scale(ax, "x", min(where), max(where))
    if not numeric or len(levels) <= MOST_TICKS:
        step = -(-len(levels) // MOST_TICKS)
        name_ticks(ax, "x", where[::step], levels[::step], width=14)
        ax.set_xticks([], minor=True)
    if found and any(mean.number for mean, _ in found.values()):
        bottom = min(0.0, ax.get_ylim()[0])
        ax.set_ylim(bottom=bottom)
    else:
        ax.set_yticks([])
    if intervals:
        notes.append("bars: 95 % confidence interval of the mean")
    return finish(ax, title, notes, x=label_of(x), y=label_of(y), legend=legend)
