"""Which panel stands in which cell: a cell that is run again has one panel, and not two."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple


class Place(NamedTuple):
    """A cell, and one of the times it was run."""

    cell: str
    time: str


_standing: dict[str, tuple[str, list[Any]]] = {}
"""By cell: the time when it was run last, and the panels that it showed then."""


def stand(panel: Any, place: Place | None = None) -> list[Any]:
    """Take note that a panel is shown; return those that the same cell showed when it was run before.

    Parameters
    ----------
    panel : object
    place : Place, optional
        By default where the kernel is at work; a front end that does not say so has no places.
    """
    place = place or _here()
    for cell, (_, panels) in list(_standing.items()):
        if panel in panels:
            panels.remove(panel)
            if not panels:
                del _standing[cell]
    if place is None:
        return []
    time, panels = _standing.get(place.cell, (place.time, []))
    before = [] if time == place.time else panels
    _standing[place.cell] = (place.time, [*(panels if time == place.time else []), panel])
    return before


def _here() -> Place | None:
    """Return the cell that is being run, as JupyterLab tells it to the kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return None
    message = kernel.get_parent()
    cell = (message.get("metadata") or {}).get("cellId")
    return Place(cell, message["header"]["msg_id"]) if cell else None
