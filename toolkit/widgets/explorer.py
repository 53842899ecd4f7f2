"""``SweepExplorer``: looking around in a study, with the plots and tables that there are without widgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from toolkit.errors import ConfigError, ToolkitError
from toolkit.parts import Absent, Alert, Code, Part, Table, Text, View, notebook_html
from toolkit.quality import side_by_side
from toolkit.records import Episode
from toolkit.studies import label_of
from toolkit.views.study import Study, alerts_of, facts_of, failed_of, means_of
from toolkit.widgets.choice import (
    first_choice,
    lines_for,
    picture_of,
    possible_plots,
    selected,
    telling_apart,
)
from toolkit.wording import aligned, counted, plain, shown

if TYPE_CHECKING:
    import ipywidgets as widgets
    import pandas as pd

MOST_CELLS = 100
MOST_LINES = 20
"""What a table shows in a notebook, and as text."""
MOST_SUMMARIES = 20
_USED = {"heatmap": ("x", "y", "value"), "lines": ("x", "value", "by"), "pareto": ("cost", "quality", "by")}
"""The controls that a plot is chosen by."""
_WIDTHS = {
    "where": "48.5em",
    **dict.fromkeys(("left", "right", "repeat"), "13em"),
    "compare": "max-content",
}
_LABELS = {"x": "Across", "y": "Up", "value": "Measure", "by": "Each", "cost": "Cost", "quality": "Quality"}


class SweepExplorer:
    """Look around in a study: choose a plot, its axes and a filter; read the summaries of two cells.

    Shows itself as the last expression of a notebook's cell; where there are no widgets, as a table.

    Parameters
    ----------
    study : Sweep or DataFrame
        A DataFrame has a row for each cell and repeat, as ``Sweep.cells`` has; there are no summaries then.
    episodes : sequence of Episode, optional
        Those of the sweep: references and scores are put beside the summaries.

    Attributes
    ----------
    choice : Choice
        What is looked at; the controls say it.
    cells : DataFrame
        The rows that the filter lets through.
    controls : dict
        The widgets by name: ``plot``, ``x``, ``y``, ``value``, ``by``, ``cost``, ``quality``, ``where``,
        ``left``, ``right``, ``repeat``, ``compare``.
    widget : Widget
        All of it.

    Raises
    ------
    ConfigError
        If ``study`` has no cells.

    Examples
    --------
    >>> explorer = tk.SweepExplorer(study)
    >>> explorer  # shows itself
    >>> print(explorer.code())  # the lines that draw the same
    """

    def __init__(self, study: Any, episodes: Sequence[Episode] = ()) -> None:
        import pandas as pd

        self._all = Study(study)
        self._study = study
        self._runs = getattr(study, "runs", None)
        self._is_frame = isinstance(study, pd.DataFrame)
        self._episodes = list(episodes)
        self._of = self._all
        self._compared: tuple[int, int, int] | None = None
        self.choice = first_choice(self._all)
        self.controls = self._make_controls()
        self._views = {name: _html() for name in ("head", "plot", "cells", "summaries", "code")}
        self.widget = self._arranged()
        for name in ("plot", "x", "y", "value", "by", "cost", "quality", "where"):
            self.controls[name].observe(self._changed, names="value")
        self.controls["compare"].on_click(lambda _: self.compare())
        self._show(*self._views)

    @property
    def cells(self) -> pd.DataFrame:
        """The rows that the filter lets through."""
        return self._of.cells

    # Choosing

    def _make_controls(self) -> dict[str, Any]:
        import ipywidgets as widgets

        of, choice = self._all, self.choice
        knobs = [(shown(knob, 40), knob) for knob in of.varied]
        measures = [(label_of(name), name) for name in of.values]
        by = [("none", None), *((shown(knob, 40), knob) for knob in telling_apart(of))]
        options = {"x": knobs, "y": knobs, "value": measures, "by": by, "cost": measures, "quality": measures}
        controls: dict[str, Any] = {
            "plot": widgets.Dropdown(options=possible_plots(of), value=choice.plot, description="Plot")
        }
        for name, own in options.items():
            chosen = getattr(choice, name)
            controls[name] = widgets.Dropdown(options=own, value=chosen, description=_LABELS[name])
        controls["where"] = widgets.Text(
            description="Only where",
            placeholder='a condition, such as status == "ok"',
            continuous_update=False,
        )
        numbers = self._numbers()
        for name, number in (("left", numbers[:1]), ("right", numbers[1:2] or numbers[:1])):
            controls[name] = widgets.BoundedIntText(
                value=next(iter(number), 1),
                min=min(numbers, default=1),
                max=max(numbers, default=1),
                description=f"{name.capitalize()} cell",
            )
        repeats = [int(number) for number in of.cells["repeat"]] if "repeat" in of.cells else [1]
        controls["repeat"] = widgets.BoundedIntText(
            value=min(repeats, default=1),
            min=min(repeats, default=1),
            max=max(repeats, default=1),
            description="Repeat",
        )
        controls["compare"] = widgets.Button(description="Show summaries")
        for name, control in controls.items():
            control.style.description_width = "6.5em"
            control.layout.width = _WIDTHS.get(name, "24em")
        return controls

    def _numbers(self) -> list[int]:
        return sorted({cell for cell, _ in self._runs}) if self._runs else []

    def _changed(self, change: dict[str, Any]) -> None:
        name = next(name for name, control in self.controls.items() if control is change["owner"])
        if change["new"] == getattr(self.choice, name):
            return
        choice = replace(self.choice, **{name: change["new"]})
        try:
            of = Study(self._study, selected(self._all.cells, choice.where))
        except ConfigError as error:
            # What is shown goes on being what the last filter let through.
            self._show("head", wrong=str(error))
            return
        if choice.plot == "heatmap" and choice.x == choice.y:
            # A knob has one axis: what was there goes to the other.
            moved, free = ("x", self.choice.y) if name == "y" else ("y", self.choice.x)
            if free == choice.x:
                free = next(knob for knob in self._all.varied if knob != free)
            choice = replace(choice, y=free) if moved == "y" else replace(choice, x=free)
        self.choice, self._of = choice, of
        for other in ("x", "y"):
            self.controls[other].value = getattr(choice, other)
        self._show("head", "plot", "cells", "code")

    # Showing

    def _arranged(self) -> widgets.Widget:
        import ipywidgets as widgets

        wrapped = widgets.Layout(flex_flow="row wrap")
        axes = [self.controls[name] for name in ("plot", *_LABELS)]
        pair = [self.controls[name] for name in ("left", "right", "repeat", "compare")]
        tabs = widgets.Tab(
            [
                self._views["cells"],
                widgets.VBox([widgets.HBox(pair, layout=wrapped), self._views["summaries"]]),
                self._views["code"],
            ],
            titles=("Cells", "Summaries", "Code"),
        )
        return widgets.VBox(
            [
                self._views["head"],
                widgets.HBox(axes, layout=wrapped),
                self.controls["where"],
                self._views["plot"],
                tabs,
            ]
        )

    def _show(self, *names: str, wrong: str = "") -> None:
        for name in _LABELS:
            used = name in _USED.get(self.choice.plot or "", ())
            self.controls[name].layout.display = "" if used else "none"
        makers = {
            "head": lambda: self._head(wrong),
            "plot": lambda: View("", parts=[picture_of(self._of, self.choice)]),
            "cells": lambda: View("", parts=self._cells()),
            "summaries": lambda: View("", parts=self._pair()),
            "code": lambda: View("", parts=[Code(self.code())]),
        }
        for name in names:
            self._views[name].value = notebook_html(makers[name]())

    def _head(self, wrong: str) -> View:
        of = self._all
        alerts = [*([Alert("Filter", plain(wrong), "bad")] if wrong else []), *alerts_of(of)]
        rows = f"{len(self._of.cells):,} of {counted(len(of.cells), 'row')}"
        title = f"Sweep {shown(of.name, 60)}" if of.name else "Study"
        return View(title, [*facts_of(of), ("Looked at", rows)], alerts)

    def _cells(self) -> list[Part]:
        parts: list[Part] = [means_of(self._of, MOST_CELLS, self.choice.value)]
        if self._of.lost.any():
            parts.append(failed_of(self._of, MOST_CELLS))
        return parts

    # Comparing

    def compare(self, left: int | None = None, right: int | None = None, repeat: int | None = None) -> None:
        """Show the summaries of two cells beside each other; by default of those that the controls name."""
        for name, number in (("left", left), ("right", right), ("repeat", repeat)):
            if number is not None:
                self.controls[name].value = number
        self._compared = tuple(self.controls[name].value for name in ("left", "right", "repeat"))
        self._show("summaries", "code")

    def _pair(self) -> list[Part]:
        if not self._runs:
            no_runs = "A table of cells has none; give the sweep itself."
            return [Absent("Summaries", no_runs if self._is_frame else "No cell has a run.")]
        if self._compared is None:
            return [Text("Choose two cells by their numbers.")]
        left, right, repeat = self._compared
        try:
            pair = side_by_side(self._runs[left, repeat], self._runs[right, repeat], self._episodes)
        except KeyError as error:
            return [Absent("Summaries", plain(error.args[0]))]
        except ToolkitError as error:
            return [Absent("Summaries", plain(error))]
        if pair.frame[["left", "right"]].isna().all(axis=None):
            why = "simulated runs have no texts" if self._all.simulated else "neither run has one"
            return [Absent("Summaries", f"There are none: {why}.")]
        settings = [Text(f"Cell {number}: {self._setting(number)}") for number in (left, right)]
        return [*settings, *pair.parts(MOST_SUMMARIES)]

    def _setting(self, number: int) -> str:
        cells = self._all.cells
        places = cells.index[cells["cell"] == number]
        return self._all.setting(places[0]) if len(places) else ""

    # Without widgets

    def code(self) -> str:
        """Return the lines that draw the same without widgets; the study is ``study`` in them."""
        lines = lines_for(self.choice, cells="study" if self._is_frame else "study.cells")
        if self._runs and self._compared is not None:
            left, right, repeat = self._compared
            given = ", episodes" if self._episodes else ""
            pair = f"study.runs[{left}, {repeat}], study.runs[{right}, {repeat}]"
            lines.append(f"tk.quality.side_by_side({pair}{given})")
        return "\n".join(lines)

    def __repr__(self) -> str:
        of = self._of
        lines = [f"<SweepExplorer: {shown(of.name or 'study', 60)}, {counted(len(of.cells), 'row')}>"]
        means = means_of(of, MOST_LINES, self.choice.value)
        if isinstance(means, Table):
            heads = [f"{title} ({unit})" if unit else title for title, unit, _ in means.columns]
            lines += [aligned([heads, *means.rows]), *filter(None, [means.note])]
        return "\n".join([*lines, "", self.code()])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        # For what shows no widgets: a terminal, an editor, a page made of a notebook.
        head = self._head("")
        parts = [*self._cells(), Code(self.code())]
        static = notebook_html(View(head.title, head.facts, head.alerts, parts=parts))
        bundle: dict[str, Any] = dict(self.widget._repr_mimebundle_())
        return {**bundle, "text/plain": repr(self), "text/html": static}


def _html() -> widgets.HTML:
    import ipywidgets as widgets

    made = widgets.HTML()
    made.layout.width = "100%"
    return made
