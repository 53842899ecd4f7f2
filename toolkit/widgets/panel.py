"""``TuningPanel``: settings to be dragged, what they would come to, and the run under them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from toolkit.arguments import check_kind
from toolkit.config import Config
from toolkit.errors import ConfigError
from toolkit.handle import LIMITS, SCHEDULE, RunHandle
from toolkit.latency import LatencyModel
from toolkit.records import Episode
from toolkit.runs import Run
from toolkit.sweeps import Sweep
from toolkit.sweeps.cells import TAKEN
from toolkit.sweeps.study import known_episodes
from toolkit.widgets import pages, places
from toolkit.widgets.driving import (
    Asked,
    Began,
    Changed,
    Driver,
    Ended,
    Event,
    Looked,
    Measured,
    State,
    Swept,
    Trouble,
    nobody,
)
from toolkit.widgets.face import Face
from toolkit.widgets.knobs import differences
from toolkit.widgets.latencies import Latencies
from toolkit.widgets.lines import Lines, lines_of
from toolkit.widgets.predicting import Prediction, Predictor
from toolkit.widgets.watching import Watch
from toolkit.wording import counted

FIRST_PLAN_S, SHOWN_S = 30.0, 2.0
"""How long the text of a panel waits for its first plan: if somebody asks for it, and if it only comes along
with the widgets, for who has none."""


class TuningPanel:
    """Tune a run in a notebook: drag settings, see what they would come to, run, watch, retune, stop.

    Shows itself as the last expression of a cell; where there are no widgets, as the plan's text. Whatever
    takes time is done in the background, so that the notebook stays usable. A panel has no threads but for
    what it was asked to do: a run goes on to its end, whether or not the panel is still to be seen.

    Parameters
    ----------
    episodes : iterable of Episode
    config : Config, optional
        What the controls show at first, and all settings that have none.
    latency : LatencyModel, optional
        How long calls take; by default it is fitted to calls of the same model that are in the store, else
        guessed, and said so. After each run it is fitted to that.

    Attributes
    ----------
    episodes : list of Episode
    controls : Controls

    Raises
    ------
    ConfigError
        If the episodes are none, or two have one id.

    Examples
    --------
    >>> panel = tk.TuningPanel(episodes, config)
    >>> panel  # shows itself
    >>> panel.run.episodes, panel.sweep, panel.config
    >>> print(panel.code())
    """

    def __init__(
        self,
        episodes: Iterable[Episode],
        config: Config | None = None,
        *,
        latency: LatencyModel | None = None,
    ) -> None:
        # Loads ipywidgets.
        from toolkit.widgets.controls import Controls
        from toolkit.widgets.results import Results

        if latency is not None:
            check_kind("latency", latency, LatencyModel, "give a LatencyModel, fitted or stated")
        self.episodes = known_episodes(episodes)
        self._collected: list[Config] = []
        self._given = episodes
        self._titles = {episode.id: episode.title for episode in self.episodes}
        self._latencies = Latencies(latency)
        self._predictor = Predictor(self.episodes, self._latencies, self._predicted)
        self._prediction: Prediction | None = None
        self._first_plan = threading.Event()
        self._driver = Driver(self._hear)
        self._watch: Watch | None = None
        self._consent: Callable[[], None] | None = None
        self._is_closed = False
        self.controls = Controls(Config() if config is None else config, self._turned)
        self._results = Results(lambda what: self._face.complain(what))
        self._face = Face(
            self.controls.box,
            self._results.widget,
            {
                "run": self._press_run,
                "stop": lambda: self._driver.stop(),  # of a run that was taken over, maybe
                "apply": self._press_apply,
                "suggested": self._press_suggested,
                "add": self._press_add,
                "clear": self._press_clear,
                "sweep": self._press_sweep,
                "consent": self._press_consent,
                "code": self._show_code,
            },
        )
        self._show_state()
        self._predictor.want(self.controls.config)

    # What it gives

    @property
    def config(self) -> Config:
        """The settings as the controls say.

        Raises
        ------
        ConfigError
            If they are none that can be.
        """
        if self.controls.problem:
            raise ConfigError(self.controls.problem)
        return self.controls.config

    @property
    def run(self) -> Run | RunHandle | None:
        """The run: its `RunHandle` while it goes on, then the `Run`; None before the first."""
        return self._driver.handle or self._driver.run

    @property
    def sweep(self) -> Sweep | None:
        """The sweep that ended last; None before."""
        return self._driver.study

    @property
    def cells(self) -> list[dict[str, Any]]:
        """The settings that were collected for a sweep: those in which they differ, and both widths."""
        config = self.controls.config
        differ = [differences(config, collected) for collected in self._collected]
        named = dict.fromkeys([*SCHEDULE, *(name for changes in differ for name in changes)])
        names = [name for name in named if name not in TAKEN]
        return [{name: getattr(collected, name) for name in names} for collected in self._collected]

    def code(self) -> Lines:
        """Return the lines that do the same without the panel, and show them in it."""
        lines = lines_of(self.episodes, self._given, self.config, self.cells)
        self._face.put("code", pages.code_html(lines))
        return lines

    @property
    def widget(self) -> Any:
        """All of it, as a widget to be put beside others."""
        return self._face.widget

    @property
    def buttons(self) -> dict[str, Any]:
        """The buttons by name: run, stop, apply, suggested, add, clear, sweep, consent, code."""
        return self._face.buttons

    def close(self) -> None:
        """Take the panel away; what goes on goes on."""
        self._is_closed = True
        self._predictor.close()
        if self._driver.listener == self._hear:
            self._driver.listener = nobody
        for part in (self._face, self.controls, self._results):
            part.close()

    # What is shown

    def _show_state(self) -> None:
        """Have the buttons say what can be done."""
        driver, pending, is_good = self._driver, self._pending(), not self.controls.problem
        self._face.enable(
            {
                "run": is_good and not driver.is_busy,
                "stop": driver.is_busy and driver.state is not State.STOPPING,
                "apply": bool(pending) and driver.state is State.RUNNING,
                "suggested": bool(self._suggested()),
                "add": is_good,
                "clear": bool(self._collected),
                "sweep": bool(self._collected) and not driver.is_busy,
                "consent": self._consent is not None and not driver.is_busy,
            }
        )
        number = f" ({len(self._collected)})" if self._collected else ""
        self.buttons["sweep"].description = f"Run sweep{number}"
        self._face.put("pending", pages.pending_html(pending, driver.handle, self.controls.config))

    def _pending(self) -> dict[str, Any]:
        """Return the settings that differ from those of the run that goes on and can be applied to it."""
        handle = self._driver.handle
        if handle is None or self.controls.problem:
            return {}
        changed = differences(handle.config, self.controls.config)
        return {name: value for name, value in changed.items() if name in SCHEDULE + LIMITS}

    def _show_code(self) -> None:
        if not self.buttons["code"].value:
            self._face.put("code", "")
        elif not self.controls.problem:
            self.code()

    def _text(self, wait_s: float) -> str:
        """Return what the panel shows, for who has no widgets."""
        self._first_plan.wait(wait_s)
        told = [f"TuningPanel of {counted(len(self.episodes), 'episode')}"]
        found = self._prediction
        if found is not None:
            told += [str(found.plan)] if found.plan is not None else []
            told += [found.error] if found.error is not None else []
        told += [repr(each) for each in (self.run, self.sweep) if each is not None]
        return "\n\n".join(told)

    def __repr__(self) -> str:
        return self._text(FIRST_PLAN_S)

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        if not self._is_closed:
            for before in places.stand(self):
                self._take_over(before)
        bundle: dict[str, Any] = dict(self.widget._repr_mimebundle_(**options) or {})
        return {**bundle, "text/plain": self._text(SHOWN_S)}

    def _take_over(self, before: TuningPanel) -> None:
        """Take the place of the panel that the same cell showed before it was run again."""
        if before._driver.is_busy and not self._driver.is_busy:
            self._driver, self._watch = before._driver, before._watch
            self._driver.listener = self._hear
            self._face.say("The run that this cell has begun before goes on.")
            self._show_state()
        before.close()

    # Settings

    def _turned(self) -> None:
        """Take in that a control was changed: nothing that goes on is touched by it."""
        if not self.controls.problem:
            self._face.fade(True)
            self._predictor.want(self.controls.config)
        self._show_state()
        self._show_code()

    def _predicted(self, found: Prediction) -> None:
        if self._is_closed:
            return
        self._prediction = found
        self._first_plan.set()
        if found.played is None:
            self._face.put("plan", pages.plan_html(found))
            self._face.put("conflicts", pages.conflicts_html(found))
        if found.plan is None or found.played is not None or found.error is not None:
            self._face.put("played", pages.played_html(found))
            self._face.put("suggestions", pages.suggestions_html(found))
            self._face.put("details", pages.details_html(found))
            self._face.fade(False)
        self._show_state()

    def _suggested(self) -> dict[str, Any]:
        found = self._prediction
        return {} if found is None or found.plan is None else found.plan.suggested

    def _press_suggested(self) -> None:
        try:
            self.controls.show(self.controls.config.replace(**self._suggested()))
        except ConfigError as error:
            self._face.complain(str(error))
        self._turned()

    # Running

    def _press_run(self) -> None:
        self._start(lambda config: self._driver.start_run(self.episodes, config))

    def _press_sweep(self) -> None:
        self._start(lambda config: self._driver.start_sweep(self.episodes, config, self.cells))

    def _start(self, begin: Callable[[Config], None]) -> None:
        self._consent = None
        self._face.say("")
        try:
            begin(self.config)
        except ConfigError as error:
            self._face.complain(str(error))

    def _press_consent(self) -> None:
        consent, self._consent = self._consent, None
        self._face.say("")
        if consent is not None:
            consent()

    def _press_apply(self) -> None:
        handle, pending = self._driver.handle, self._pending()
        if handle is None:
            return
        try:
            handle.retune(**pending)
        except ConfigError as error:
            self._face.complain(str(error))
        else:
            self._face.say(f"Applied to run {handle.id}: {pages.settings_text(pending)}.")
        self._show_state()

    def _press_add(self) -> None:
        config = self.controls.config
        if any(not differences(config, other) for other in self._collected):
            self._face.say("These settings are collected already.")
            return
        self._collected.append(config)
        self._say_cells()

    def _press_clear(self) -> None:
        self._collected.clear()
        self._say_cells()

    def _say_cells(self) -> None:
        self._face.put("message", pages.cells_html(self.cells))
        self._show_state()
        self._show_code()

    def _say(self, text: str) -> None:
        self._face.put("message", pages.note_html(text))

    # What the driver tells, from its thread

    def _hear(self, event: Event) -> None:
        match event:
            case Changed(State.PREPARING):
                self._face.say("Getting ready: the model, the store, what it may cost.")
            case Changed(State.STOPPING):
                self._face.say("Stopping: calls under way may end, no new one starts. What is done is kept.")
            case Changed(State.SWEEPING):
                self._face.say(f"Sweep: {counted(len(self._collected), 'setting')} to measure.")
            case Began(handle, at):
                self._watch = Watch(self.episodes, self._calls_expected(), at)
                self._look(handle)
            case Looked(handle):
                self._look(handle)
            case Ended(handle, run):
                self._look(handle)
                self._ended(run)
            case Measured(row):
                self._face.put("message", pages.measured_html(row, len(self._collected)))
            case Swept(study):
                self._face.say("")
                self._results.show_sweep(study)
            case Asked(ahead, again):
                self._consent = again
                self.buttons["consent"].description = pages.consent_label(ahead)
                self._face.put("message", pages.consent_html(ahead))
            case Trouble(what):
                self._face.complain(what)
        if not isinstance(event, Looked):
            self._show_state()

    def _calls_expected(self) -> int | None:
        found = self._prediction
        return None if found is None or found.plan is None else found.plan.calls

    def _look(self, handle: RunHandle) -> None:
        """Show how far a run is."""
        if self._watch is None:
            return
        view = self._watch.look(handle)
        self._face.put("running", pages.running_html(view))
        self._face.put("curves", pages.curves_html(view))
        self._face.put("episodes", pages.episodes_html(view, self._titles))
        self._face.show_running()

    def _ended(self, run: Run) -> None:
        """Show what came of a run, and go by it."""
        self._latencies.learn(run)
        self._results.show_run(run, self.episodes)
        self._face.put("message", pages.ended_html(run))
        if not self.controls.problem:
            self._predictor.want(self.controls.config)
