"""``Face``: the widgets of a panel but for its controls, and how all of them are arranged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from toolkit.widgets import pages

_PAGES = (
    *("plan", "conflicts", "played", "suggestions", "details"),
    *("message", "pending", "running", "curves", "episodes", "code"),
)
_BUTTONS = {
    "run": ("Run", "Run the episodes with these settings, in the background"),
    "stop": ("Stop", "Start no new call; what is done is kept, and Run goes on from there"),
    "apply": ("Apply to running", "Change the limits and widths of the run that goes on"),
    "suggested": ("Take suggestions", "Set what the plan suggests"),
    "add": ("Add to sweep", "Collect these settings, to be measured with others"),
    "clear": ("Forget them", "Forget the settings that were collected"),
    "sweep": ("Run sweep", "Measure all collected settings, one after the other"),
    "consent": ("Spend it", "Say yes to what may be spent"),
    "code": ("Code", "Show the lines that do the same without the panel"),
}
_AT_TIMES = ("suggested", "clear", "sweep", "consent")
"""Buttons that are there only when they are of use."""


class Face:
    """What is seen of a panel. It may be written to from any thread, also after it was closed.

    Parameters
    ----------
    controls, results : Widget
    press : mapping
        What is done when a button is pressed, by its name.

    Attributes
    ----------
    pages, buttons : dict
        Widgets by their names.
    widget : Widget
        All of it.
    """

    def __init__(self, controls: Any, results: Any, press: Mapping[str, Callable[[], None]]) -> None:
        import ipywidgets as widgets

        self._is_closed = False
        self.pages: dict[str, Any] = {name: widgets.HTML() for name in _PAGES}
        self.buttons: dict[str, Any] = {}
        for name, (label, help_text) in _BUTTONS.items():
            if name == "code":
                button = widgets.ToggleButton(description=label, tooltip=help_text)
                button.observe(lambda change: press["code"](), "value")
            else:
                button = widgets.Button(description=label, tooltip=help_text)
                button.on_click(lambda _, name=name: press[name]())
            self.buttons[name] = button
        self.buttons["run"].button_style = "primary"
        self.widget = self._arranged(controls, results)

    def _arranged(self, controls: Any, results: Any) -> Any:
        import ipywidgets as widgets

        shown, buttons = self.pages, self.buttons
        shown["conflicts"].add_class("tk-conflicts")
        predicted = [shown[name] for name in ("plan", "conflicts", "played", "suggestions")]
        bar = [buttons[name] for name in _BUTTONS if name != "suggested"]
        left = _classed(
            "tk-left",
            widgets.VBox(
                [controls, _classed("tk-buttons", widgets.HBox(bar)), shown["pending"], shown["message"]]
            ),
        )
        right = _classed("tk-prediction", widgets.VBox([*predicted, buttons["suggested"], shown["details"]]))
        episodes = _classed("tk-episodes", widgets.Box([shown["episodes"]]))
        self._running = widgets.VBox([shown["running"], shown["curves"], episodes])
        style = widgets.HTML(pages.style_html())
        for hidden in (style, self._running):
            hidden.layout.display = "none"
        columns = _classed("tk-columns", widgets.HBox([left, right]))
        return _classed("tk-panel", widgets.VBox([style, columns, shown["code"], self._running, results]))

    def put(self, name: str, text: str) -> None:
        """Show a page, if it is another than before: who looks twice a second sends nothing twice."""
        if not self._is_closed and self.pages[name].value != text:
            self.pages[name].value = text

    def say(self, text: str) -> None:
        """Show a message."""
        self.put("message", pages.note_html(text))

    def complain(self, text: str) -> None:
        """Show what went wrong."""
        self.put("message", pages.problem_html(text))

    def fade(self, is_faded: bool) -> None:
        """Show that what was simulated is of another setting."""
        played = self.pages["played"]
        (played.add_class if is_faded else played.remove_class)("stale")

    def show_running(self) -> None:
        """Have the part of a run be seen."""
        if self._running.layout.display is not None:
            self._running.layout.display = None

    def enable(self, can: Mapping[str, bool]) -> None:
        """Have the buttons say what can be done."""
        for name, possible in can.items():
            button = self.buttons[name]
            if button.disabled is possible:
                button.disabled = not possible
            if name in _AT_TIMES:
                button.layout.display = None if possible else "none"

    def close(self) -> None:
        """Take all of it away."""
        self._is_closed = True
        close_tree(self.widget)


def _classed(name: str, widget: Any) -> Any:
    widget.add_class(name)
    return widget


def close_tree(widget: Any) -> None:
    """Close a widget and all in it: one that is not closed is kept for as long as the kernel lives."""
    for child in getattr(widget, "children", ()):
        close_tree(child)
    for part in (widget.layout, getattr(widget, "style", None), widget):
        if part is not None:
            part.close()
