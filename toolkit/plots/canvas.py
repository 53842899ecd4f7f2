"""What all plots share: their Axes, title, legend, and a word where there is nothing to draw."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from toolkit.plots.letters import literal, shown

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
    lines = [title, *_wrapped(notes)]
    literal(ax.set_title("\n".join(lines), loc="left", fontsize="medium"))
    for label, put in ((x, ax.set_xlabel), (y, ax.set_ylabel)):
        if label is not None:
            literal(put(label))
    if legend:
        _put_legend(ax, legend)
    return ax


def _wrapped(notes: Iterable[str], width: int = 88) -> list[str]:
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


def name_ticks(
    ax: Axes, axis: str, places: Sequence[float], names: Sequence[object], width: int = 24
) -> None:
    """Label the ticks of an axis (``"x"`` or ``"y"``) with names as they are, shortened where long."""
    labels = [shown(name, width) for name in names]
    put = ax.set_xticks if axis == "x" else ax.set_yticks
    put(places, labels=labels)
    for text in (ax.get_xticklabels if axis == "x" else ax.get_yticklabels)():
        literal(text)
