"""What all plots share: their Axes, title, legend, and a word where there is nothing to draw."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Literal

from toolkit.plots.letters import literal
from toolkit.wording import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FIGURE_SIZE = (8.0, 4.5)
"""Inches: the width of a notebook's cell."""


def axes_for(ax: Axes | None) -> Axes:
    """Return the Axes given, or those of a new figure of notebook size."""
    if ax is not None:
        return ax
    # Only here: pyplot's list of figures is the user's, and knows none but those that were asked for.
    from matplotlib import pyplot

    _, new = pyplot.subplots(figsize=FIGURE_SIZE, layout="constrained")
    return new


def reach(ax: Axes, right: float) -> None:
    """Let the horizontal axis go from 0 to here, or as far as what is drawn in Axes that share it."""
    shared = ax.get_shared_x_axes().get_siblings(ax)
    if any(other.has_data() for other in shared if other is not ax):
        right = max(right, ax.get_xlim()[1])
    ax.set_xlim(0, right)


def finish(
    ax: Axes,
    title: str,
    notes: Iterable[str] = (),
    *,
    x: str | None = None,
    y: str | None = None,
    legend: Sequence[tuple[Any, str]] = (),
) -> Axes:
    """Put title, axis labels and legend on a plot.

    Parameters
    ----------
    ax : Axes
    title : str
    notes : iterable of str
        Shown under the title; what the reader must know: simulated, reused, failed.
    x, y : str, optional
        Labels of the axes with their units.
    legend : sequence of (artist, label)
    """
    # In letters of the usual size; a title may reach over the legend, not over the next Axes.
    width = round(ax.get_window_extent().width / ax.figure.dpi * 14.5)
    lines = [title, *_wrapped(notes, max(width, 30))]
    literal(ax.set_title("\n".join(lines), loc="left", fontsize="medium"))
    if x is not None:
        literal(ax.set_xlabel(x))
    if y is not None:
        # Beyond the ends of its axis a label has room for a little more, and no more.
        height = round(ax.get_window_extent().height / ax.figure.dpi * 13)
        literal(ax.set_ylabel("\n".join(wrap(y, max(height, 20)))))
    if legend:
        _put_legend(ax, legend)
    return ax


def _wrapped(notes: Iterable[str], width: int) -> list[str]:
    """Return notes on as few lines as they fit, none broken in two."""
    lines: list[str] = []
    for note in notes:
        if lines and len(lines[-1]) + len(note) + 3 <= width:
            lines[-1] += f" · {note}"
        else:
            lines.append(note)
    return lines


def _put_legend(ax: Axes, entries: Sequence[tuple[Any, str]]) -> None:
    """Put the legend beside the plot where the figure makes room for it, else into a corner."""
    beside = ax.figure.get_layout_engine() is not None
    place: dict[str, Any] = (
        {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0), "frameon": False, "borderaxespad": 0.3}
        if beside
        else {"loc": "upper right", "framealpha": 0.9}
    )
    made = ax.legend(
        [artist for artist, _ in entries],
        # A label that begins with an underscore would be left out; it gets its name afterwards.
        ["?"] * len(entries),
        fontsize="small",
        handlelength=2.2,
        **place,
    )
    for text, (_, label) in zip(made.get_texts(), entries, strict=True):
        text.set_text(label)
        literal(text)


def say_nothing_to_draw(ax: Axes, why: str) -> None:
    """Write into the middle of an empty plot why it is empty."""
    ax.set_xticks([])
    ax.set_yticks([])
    literal(ax.text(0.5, 0.5, why, ha="center", va="center", transform=ax.transAxes, color="0.35"))


def log_scale(ax: Axes, axis: Literal["x", "y"], low: float, high: float) -> None:
    """Make an axis logarithmic, with plain numbers, 1, 2 and 5 of each power of ten where there is room."""
    from matplotlib.ticker import LogLocator, NullFormatter

    (ax.set_xscale if axis == "x" else ax.set_yscale)("log")
    one = ax.xaxis if axis == "x" else ax.yaxis
    one.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 300 * low else (1.0,)))
    one.set_major_formatter("{x:g}")
    one.set_minor_formatter(NullFormatter())


def name_ticks(
    ax: Axes, axis: Literal["x", "y"], places: Sequence[float], names: Sequence[object], width: int = 24
) -> None:
    """Label the ticks of an axis (``"x"`` or ``"y"``) with names as they are, shortened where long."""
    labels = [shown(name, width) for name in names]
    put = ax.set_xticks if axis == "x" else ax.set_yticks
    put(places, labels=labels)
    for text in (ax.get_xticklabels if axis == "x" else ax.get_yticklabels)():
        literal(text)


def name_points(
    ax: Axes,
    points: Sequence[tuple[float, float]],
    names: Sequence[str],
    towards: Sequence[tuple[int, int]],
    others: Sequence[tuple[float, float]] = (),
) -> None:
    """Write names beside points; one for which there is no room is left out.

    Parameters
    ----------
    ax : Axes
        Its scales must be final.
    points, names : sequence
    towards : sequence of (-1 or 1, -1 or 1)
        On which side of the point its name is to stand, if there is room: left or right, below or above.
    others : sequence of (x, y)
        Points that are better left free.
    """
    ax.autoscale_view()
    inside = ax.get_window_extent()
    free: Any = ax.transData.transform(list(others)) if others else []
    taken: list[Any] = []
    for point, name, (side, level) in zip(points, names, towards, strict=True):
        text = literal(
            ax.annotate(name, point, (0, 0), textcoords="offset points", fontsize="small", zorder=5)
        )
        text.set_bbox({"facecolor": ax.get_facecolor(), "alpha": 0.8, "edgecolor": "none", "pad": 1})
        best: tuple[int, int, int, Any] | None = None
        for away, over in ((away, over) for away in (6, 16, 26) for over in (side, -side)):
            box = _place(text, over, away * level)
            if _within(box, inside) and not any(box.overlaps(other) for other in taken):
                covered = sum(box.contains(x, y) for x, y in free)
                if best is None or covered < best[0]:
                    best = (covered, over, away * level, box)
        if best is None:
            text.remove()
            continue
        _place(text, best[1], best[2])
        taken.append(best[3])


def _place(text: Any, over: int, height: int) -> Any:
    """Put a name to the right (1) or left (-1) of its point, above or below it; return its box in pixels."""
    text.set_position((6 * over, height))
    text.set_horizontalalignment("left" if over > 0 else "right")
    text.set_verticalalignment("bottom" if height > 0 else "top")
    return text.get_window_extent()


def _within(box: Any, outer: Any) -> bool:
    return bool(outer.contains(box.x0, box.y0) and outer.contains(box.x1, box.y1))
