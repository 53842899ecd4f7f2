"""Over a study: ``heatmap`` of two knobs, and ``lines`` with confidence intervals."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from toolkit.plots import look
from toolkit.plots.canvas import axes_for, finish, log_scale, name_ticks, say_nothing_to_draw
from toolkit.plots.letters import literal
from toolkit.studies import (
    cells_of,
    groups_of,
    in_intervals,
    label_of,
    levels_of,
    notes_of_cells,
    series_of,
    values_of,
)
from toolkit.wording import number, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from toolkit.intervals import Mean

MOST_WRITTEN = 10
"""Columns of a heatmap in whose cells a number is still legible."""
MOST_COLUMNS = 48
"""More numbers than that are put into intervals."""
MOST_TICKS = 14


def heatmap(study: Any, *, x: str, y: str, value: str, ax: Axes | None = None) -> Axes:
    """Draw a measure over two knobs: the mean over repeats, and over all other knobs, which the title names.

    A cell in which every row failed is hatched; one in which some did says how many went well, and one in
    which some have no value how many have. What the study did not try stays empty.

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
    found = groups_of(cells, values, [row, column])
    table = np.full((len(rows), len(columns)), np.nan)
    for place, group in found.items():
        table[place] = group.mean.mean
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
    for (j, i), group in found.items():
        mean = group.mean
        if not mean.number:
            text, colour = group.why_empty, "black"
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
            if group.left_out:
                text += f"\n{group.left_out}"
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
    if empty := sorted({group.why_empty for group in found.values() if not group.mean.number}):
        notes.append(f"hatched: {' or '.join(empty)}")
    if written and any(math.isfinite(group.mean.half_width) for group in found.values()):
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
    cells = cells_of(study, [x, y, *([by] if by else [])])
    values = values_of(cells, y)
    levels, place = levels_of(cells, x)
    kinds, series = series_of(cells, by)
    ax = axes_for(ax)
    title, notes = f"{label_of(y)} by {shown(x)}", notes_of_cells(cells, [x, *([by] if by else [])])
    if cells.empty:
        say_nothing_to_draw(ax, "no cells")
        return finish(ax, title, notes, x=label_of(x), y=label_of(y))
    numeric = all(isinstance(level, int | float) and not isinstance(level, bool) for level in levels)
    where = [float(level) for level in levels] if numeric else [float(n) for n in range(len(levels))]
    low, high = min(where), max(where)
    logarithmic = numeric and low > 0 and high >= 8 * low

    def beside(at: int, aside: float) -> float:
        """Shift a point a little, that intervals at one place can be read."""
        return where[at] * (high / low) ** aside if logarithmic else where[at] + (high - low) * aside

    found = groups_of(cells, values, [series, place])
    legend: list[tuple[Any, str]] = []
    for order, level in enumerate(kinds):
        aside = 0.012 * (order - (len(kinds) - 1) / 2) if len(levels) <= MOST_TICKS else 0.0
        own = {at: group for (kind, at), group in found.items() if kind == order}
        points = [(beside(at, aside), group.mean) for at, group in own.items() if group.mean.number]
        empty = {at: group.why_empty for at, group in own.items() if not group.mean.number}
        name = f"{shown(by, 20)} = {shown(level, 16)}" if by else "mean"
        if points:
            legend.append((_line(ax, points, look.series(order), name), name))
        for why in sorted(set(empty.values())):
            there = [beside(at, aside) for at, other in empty.items() if other == why]
            crosses = _crosses(ax, there, look.series(order).colour, why)
            legend.append((crosses, f"{why}: {shown(level, 16)}" if by else why))
    if logarithmic:
        log_scale(ax, "x", low, high)
    if not numeric or len(levels) <= MOST_TICKS:
        step = -(-len(levels) // MOST_TICKS)
        name_ticks(ax, "x", where[::step], levels[::step], width=14)
        ax.set_xticks([], minor=True)
    bottom, top = ax.get_ylim()
    if not any(group.mean.number for group in found.values()):
        ax.set_yticks([])
    elif 0 < bottom < top / 2:
        # From nothing, unless that would squeeze what is to be compared.
        ax.set_ylim(bottom=0)
    if any(math.isfinite(group.mean.half_width) for group in found.values()):
        notes.append("bars: 95 % confidence interval of the mean")
    return finish(ax, title, notes, x=label_of(x), y=label_of(y), legend=legend if len(legend) > 1 else ())


def _line(ax: Axes, points: list[tuple[float, Mean]], style: look.Series, label: str) -> Any:
    return ax.errorbar(
        [at for at, _ in points],
        [mean.mean for _, mean in points],
        # Without repeats it is NaN: no bar, rather than one of no height.
        yerr=[mean.half_width for _, mean in points],
        color=style.colour,
        linestyle=style.line,
        marker=style.marker,
        markersize=6,
        linewidth=1.5,
        elinewidth=1.0,
        capsize=4,
        label=label,
    )


def _crosses(ax: Axes, places: list[float], colour: str, label: str) -> Any:
    """Mark at the bottom of the plot where there is no result."""
    (crosses,) = ax.plot(
        places,
        [0.03] * len(places),
        linestyle="none",
        marker="X" if label == "failed" else "P",
        markersize=8,
        markerfacecolor=colour,
        markeredgecolor="white",
        transform=ax.get_xaxis_transform(),
        label=label,
    )
    return crosses
