"""What of a study is looked at: a plot with its axes, and a filter; drawn, and written as lines of code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.errors import ConfigError
from toolkit.frames import LOWER_IS_BETTER
from toolkit.parts import Absent, Part
from toolkit.reports.study_plots import QUALITY, SPEED, heatmap_of, lines_of, pareto_of
from toolkit.studies import MOST_SERIES, levels_of
from toolkit.views.study import Study
from toolkit.wording import plain

if TYPE_CHECKING:
    import pandas as pd

PLOTS = ("heatmap", "lines", "pareto")


@dataclass(frozen=True)
class Choice:
    """What is chosen; names are columns of the cells.

    Attributes
    ----------
    plot : str or None
        ``heatmap`` of two knobs, ``lines`` over one, ``pareto`` of two measures; None if none can be drawn.
    x, y : str or None
        Knobs.
    value : str or None
        The measure.
    by : str or None
        A knob, each value of which has a line or a look.
    cost, quality : str or None
        Measures.
    where : str
        Which cells, as ``DataFrame.query`` takes it; empty for all.
    """

    plot: str | None = None
    x: str | None = None
    y: str | None = None
    value: str | None = None
    by: str | None = None
    cost: str | None = None
    quality: str | None = None
    where: str = ""

    @property
    def arguments(self) -> dict[str, str]:
        """What the plot's function is called with."""
        by = self.by if self.by != self.x else None
        names = {
            "heatmap": {"x": self.x, "y": self.y, "value": self.value},
            "lines": {"x": self.x, "y": self.value, "by": by},
            "pareto": {"cost": self.cost, "quality": self.quality, "by": self.by},
        }
        found = names.get(self.plot or "", {})
        return {name: column for name, column in found.items() if column is not None}


def possible_plots(of: Study) -> list[str]:
    """Return the plots that have something to show."""
    possible = []
    if of.values and len(of.varied) >= 2:
        possible.append("heatmap")
    if of.values and of.varied:
        possible.append("lines")
    if len(of.values) >= 2:
        possible.append("pareto")
    return possible


def telling_apart(of: Study) -> list[str]:
    """Return the knobs whose values can be told apart by how lines or points look."""
    return [knob for knob in of.varied if len(levels_of(of.cells, knob)[0]) <= MOST_SERIES]


def first_choice(of: Study) -> Choice:
    """Return what is worth looking at first: speed over the two knobs with the most values."""
    plots = possible_plots(of)
    knobs = sorted(of.varied, key=lambda knob: -len(levels_of(of.cells, knob)[0]))
    measures = list(of.values)
    better = [name for name in QUALITY if name in measures]
    cheap = ["cost_usd", "makespan_s", *sorted(LOWER_IS_BETTER), *measures]
    cost = next((name for name in cheap if name in measures), None)
    others = [name for name in [*better, *SPEED, *measures] if name in measures and name != cost]
    return Choice(
        plot=next(iter(plots), None),
        x=knobs[0] if knobs else None,
        y=knobs[1] if len(knobs) > 1 else None,
        value=next((name for name in SPEED if name in measures), next(iter(measures), None)),
        cost=cost,
        quality=next(iter(others), None),
    )


def selected(cells: pd.DataFrame, where: str) -> pd.DataFrame:
    """Return the cells for which a condition holds.

    Raises
    ------
    ConfigError
        If it cannot be worked out.
    """
    if not where.strip():
        return cells
    try:
        rows = cells.eval(where)
        # Numbers and labels choose rows too, but no condition does.
        if getattr(rows, "dtype", None) not in ("bool", "boolean"):
            raise TypeError("it is no condition")
        return cells.query(where)
    except Exception as error:
        # Whatever may go wrong in an expression of Python: names, syntax, types.
        raise ConfigError(
            f"the filter {plain(where, 80)!r} does not work: {plain(error, 200)}; write a condition on "
            f"columns of the cells, such as {example_of(cells)}"
        ) from error


def example_of(cells: pd.DataFrame) -> str:
    """Return a condition that the cells of a study could be chosen by."""
    of = Study(cells)
    if not of.varied:
        return 'status == "ok"'
    knob = of.varied[0]
    name = knob if knob.isidentifier() else f"`{knob}`"
    value = levels_of(of.cells, knob)[0][0]
    return f"{name} == {value!r}"


def picture_of(of: Study, choice: Choice) -> Part:
    """Return the plot that is chosen, of cells that are selected already; or why there is none."""
    chosen = choice.arguments
    try:
        if choice.plot == "heatmap":
            return heatmap_of(of, chosen["x"], chosen["y"], chosen["value"])
        if choice.plot == "lines":
            return lines_of(of, chosen["x"], chosen["y"], chosen.get("by"))
        if choice.plot == "pareto":
            return pareto_of(of, chosen["cost"], chosen["quality"], chosen.get("by"))
    except ConfigError as error:
        return Absent("Plot", plain(error))
    return Absent("Plot", "No cell has a result." if not of.values else "No knob has more than one value.")


def lines_for(choice: Choice, cells: str) -> list[str]:
    """Return the lines that draw the same, with the study in the name ``study``, its cells in ``cells``."""
    lines, of = ["import toolkit as tk", ""], "study"
    if choice.where.strip():
        lines.append(f"cells = {cells}.query({choice.where!r})")
        of = "cells"
    if choice.plot is not None:
        given = "".join(f", {name}={column!r}" for name, column in choice.arguments.items())
        lines.append(f"tk.plots.{choice.plot}({of}{given})")
    return lines
