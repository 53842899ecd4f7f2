"""What came of a run or a sweep, in tabs: figures, summaries, frames and plots, made when looked at."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from toolkit.parts import Absent, View, notebook_html
from toolkit.records import Episode
from toolkit.reports.plotted import plots_of_run
from toolkit.runs import Run
from toolkit.sweeps import Sweep
from toolkit.views.figures import Figures
from toolkit.views.frames import table_of
from toolkit.views.readings import references_of, summaries_of
from toolkit.views.tables import way_to
from toolkit.widgets.face import close_tree

FRAMES = ("episodes", "calls", "attempts", "limits")
MOST_SUMMARIES = 50
TITLES = ("Figures", "Summaries", *(frame.capitalize() for frame in FRAMES), "Plots")


def tab_html(name: str, run: Run, episodes: Sequence[Episode]) -> str:
    """Return what one of the ``TITLES`` shows of a run."""
    if name == "Figures":
        return run._repr_html_()
    if name == "Summaries":
        parts = summaries_of(run, references_of(episodes), MOST_SUMMARIES)
    elif name == "Plots":
        parts = plots_of_run(Figures(run))
    else:
        frame = getattr(run, name.lower())
        if frame.empty:
            parts = [Absent(name, "There are none.")]
        else:
            parts = [table_of(frame, f"run.{name.lower()}", way_to(run, name.lower()))]
    return notebook_html(View("", parts=parts))


class Results:
    """Tabs about the run that ended last, and the sweep; each is filled when somebody looks at it.

    Parameters
    ----------
    failed : callable
        Told what went wrong.

    Attributes
    ----------
    widget : Widget
        Hidden until there is something to show.
    """

    def __init__(self, failed: Callable[[str], None]) -> None:
        import ipywidgets as widgets

        self._failed = failed
        self._made: dict[str, Callable[[], str]] = {}
        self._pages = {name: widgets.HTML() for name in (*TITLES, "Sweep")}
        for frame in FRAMES:
            self._pages[frame.capitalize()].add_class("tk-frame")
        self._shown: list[str] = []
        self.widget = widgets.Tab()
        self.widget.add_class("tk-results")
        self.widget.layout.display = "none"
        self.widget.observe(lambda change: self._look(), "selected_index")

    def close(self) -> None:
        """Take them away, also those that are not shown."""
        for page in (*self._pages.values(), self.widget):
            close_tree(page)

    def show_run(self, run: Run, episodes: Sequence[Episode]) -> None:
        """Show a run."""
        for name in TITLES:
            self._put(name, lambda name=name: tab_html(name, run, episodes))  # type: ignore[misc]
        self._arrange("Figures")

    def show_sweep(self, study: Sweep) -> None:
        """Show a sweep."""
        self._put("Sweep", study._repr_html_)
        self._arrange("Sweep")

    def _put(self, name: str, make: Callable[[], str]) -> None:
        self._pages[name].value = ""
        self._made[name] = make

    def _arrange(self, first: str) -> None:
        self._shown = [name for name in self._pages if name in self._made or self._pages[name].value]
        with self.widget.hold_trait_notifications():
            self.widget.children = [self._pages[name] for name in self._shown]
            self.widget.titles = self._shown
            self.widget.selected_index = self._shown.index(first)
        self.widget.layout.display = None
        self._look()

    def _look(self) -> None:
        """Fill the tab that is looked at, in a thread that ends with that."""
        place = self.widget.selected_index
        name = self._shown[place] if place is not None and place < len(self._shown) else ""
        make = self._made.pop(name, None)
        if make is not None:
            page = self._pages[name]
            threading.Thread(
                target=self._fill, args=(page, make), name="results of a panel", daemon=True
            ).start()

    def _fill(self, page: Any, make: Callable[[], str]) -> None:
        try:
            page.value = make()
        except Exception as error:
            self._failed(f"{type(error).__name__}: {error}")
