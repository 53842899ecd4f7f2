"""Plots as images that stand in the page itself, with words for those who do not see them."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from toolkit.parts import Absent, Picture
from toolkit.wording import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_SVG_BYTES = 400_000
"""A drawing with more in it is kept as points: a page of many must still open quickly."""
_POINTS_PER_INCH = 160
_SIZE = (7.0, 4.2)
"""Inches: two beside each other on a screen, with letters that can be read."""
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


def picture(
    title: str, draw: Callable[[Axes], object], alt: Callable[[], str], caption: str
) -> Picture | Absent:
    """Draw a plot; one with nothing in it gives its own words for why.

    Parameters
    ----------
    title : str
    draw : callable
        Draws into the Axes that it is given.
    alt : callable
        Returns what the plot shows, in words; called only if it shows something.
    caption : str
        How it is read.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    # As it looks everywhere, whatever a notebook has set. Letters as outlines need no font of the reader's.
    with style.context(["default", {"svg.fonttype": "path", "svg.hashsalt": title}]):
        figure = Figure(figsize=_SIZE, layout="constrained")
        ax = figure.add_subplot()
        draw(ax)
        if not ax.has_data():
            return Absent(
                title, ". ".join(text.get_text() for text in ax.texts) or "there is nothing to draw"
            )
        return Picture(title, _source(figure), plain(alt()), caption)


def _source(figure: Figure) -> str:
    svg = _saved(figure, format="svg", metadata=_NO_METADATA)
    # What stands before the drawing names a document type by an address of the web.
    svg = svg[svg.index(b"<svg") :]
    if len(svg) <= MOST_SVG_BYTES:
        return f"data:image/svg+xml;base64,{b64encode(svg).decode()}"
    png = _saved(figure, format="png", dpi=_POINTS_PER_INCH, metadata={"Software": None})
    return f"data:image/png;base64,{b64encode(png).decode()}"


def _saved(figure: Figure, **how: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, **how)
    return file.getvalue()
