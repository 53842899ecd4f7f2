"""``Controls``: sliders and fields for the settings of a config, and what is wrong with one beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import contextmanager
from typing import Any

import ipywidgets as widgets
from markupsafe import Markup

from toolkit.config import Config
from toolkit.errors import ConfigError, ToolkitError
from toolkit.providers.registry import provider_class, provider_names
from toolkit.widgets.face import close_tree
from toolkit.widgets.knobs import (
    CHOICES,
    KNOBS,
    REUSE,
    Knob,
    knobs_of,
    models_of,
    own_value,
    settings_of,
    with_settings,
)
from toolkit.wording import plain

LABEL_WIDTH = "126px"


def problem_html(text: str) -> str:
    """Return a sentence that says what is wrong."""
    return Markup('<span class="problem" role="alert">{}</span>').format(plain(text)) if text else ""


class NumberControl:
    """A slider and a field for one number: dragged roughly, or typed exactly.

    Parameters
    ----------
    knob : Knob
    changed : callable
        Told when somebody has changed it.
    """

    def __init__(self, knob: Knob, changed: Callable[[], None]) -> None:
        self.knob = knob
        self._changed = changed
        self._is_shown = False
        wide = {"description_width": LABEL_WIDTH}
        self.slider = widgets.IntSlider(
            min=0,
            max=max(1, len(knob.values) - 1),
            readout=False,
            description=knob.label,
            tooltip=f"{knob.unit}: {knob.help}",
            style=wide,
        )
        # Beside a slider its label is there for screen readers only.
        self.field = widgets.Text(
            continuous_update=False,
            description=knob.label,
            tooltip=f"{knob.unit}: {knob.help}",
            style=wide,
        )
        self.note = widgets.HTML()
        self.note.layout.display = "none"
        self.field.add_class("tk-field" if knob.values else "tk-alone")
        if not knob.values:
            self.slider.layout.display = "none"
        row = widgets.HBox([self.slider, self.field])
        row.add_class("tk-row")
        self.box = widgets.VBox([row, self.note])
        self.slider.observe(self._dragged, "value")
        self.field.observe(self._typed, "value")

    def read(self) -> float | int | None:
        """Return the value that is typed or dragged.

        Raises
        ------
        ConfigError
            If it is no number.
        """
        return self.knob.read(self.field.value)

    def show(self, value: float | int | None, own: int | None) -> None:
        """Show a value; None: it is left to the provider, which would take ``own``."""
        with self._showing():
            self.field.value = self.knob.write(value)
            self.field.placeholder = self.knob.write(own) or ("none" if self.knob.is_amount else "auto")
            place = value if value is not None else own
            if self.knob.values and place is not None:
                self.slider.value = self.knob.place(place)

    def complain(self, text: str) -> None:
        """Say what is wrong beside it; nothing, if nothing is."""
        self.note.value = problem_html(text)
        self.note.layout.display = None if text else "none"

    @contextmanager
    def _showing(self) -> Any:
        self._is_shown = True
        try:
            yield
        finally:
            self._is_shown = False

    def _dragged(self, change: dict[str, Any]) -> None:
        if self._is_shown:
            return
        with self._showing():
            self.field.value = self.knob.write(self.knob.values[change["new"]])
        self._changed()

    def _typed(self, change: dict[str, Any]) -> None:
        if self._is_shown:
            return
        try:
            value = self.read()
        except ConfigError:
            value = None  # it will be said beside the field
        if value is not None:
            with self._showing():
                self.field.value = self.knob.write(value)
                if self.knob.values:
                    self.slider.value = self.knob.place(value)
        self._changed()


class Controls:
    """The controls of a config's settings: those that mean something to its provider are shown.

    Parameters
    ----------
    config : Config
        Has all other settings, and what the controls show at first.
    changed : callable
        Told when somebody has changed one.

    Attributes
    ----------
    box : Widget
    config : Config
        As the controls say; the last one that was good, while something is wrong.
    problem : str
        What is wrong, in one text; empty if nothing is.
    """

    def __init__(self, config: Config, changed: Callable[[], None]) -> None:
        self._base = config
        self._changed = changed
        self._is_shown = False
        self.config = config
        self.problem = ""
        wide = {"description_width": LABEL_WIDTH}
        help_of = {name: f"{Config.model_fields[name].description} ({name})" for name in CHOICES}
        names = dict.fromkeys((*provider_names(), config.provider))
        self.provider = widgets.Dropdown(
            options=list(names), description="Provider", tooltip=help_of["provider"], style=wide
        )
        self.model = widgets.Combobox(
            description="Model", tooltip=help_of["model"], style=wide, continuous_update=False
        )
        self.reuse = widgets.Dropdown(
            options=list(REUSE), description="Kept answers", tooltip=help_of["reuse"], style=wide
        )
        self.numbers = {knob.setting: NumberControl(knob, self._turned) for knob in KNOBS}
        self.note = widgets.HTML()
        self.note.layout.display = "none"
        self.box = widgets.VBox()
        self.box.add_class("tk-controls")
        self.show(config)
        self.provider.observe(self._provider_chosen, "value")
        for chosen in (self.model, self.reuse):
            chosen.observe(lambda change: self._turned(), "value")

    def close(self) -> None:
        """Take them away, also those that are not shown."""
        self.box.children = (*self.box.children, *(control.box for control in self.numbers.values()))
        close_tree(self.box)

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """Those that are shown."""
        return knobs_of(self.provider.value)

    def show(self, config: Config) -> None:
        """Show a config; nobody is told."""
        self._is_shown = True
        try:
            self.provider.value = config.provider
            self.model.value = config.model or ""
            self.reuse.value = config.reuse
            self._arrange(config)
            self._read()
        finally:
            self._is_shown = False

    def _arrange(self, config: Config) -> None:
        """Show the controls that the provider has use for, with a config's values."""
        try:
            kind = provider_class(config.provider)
        except ToolkitError:
            kind = None
        self.model.options = models_of(config.provider, config)
        self.model.placeholder = (kind and kind.default_model) or ""
        shown = settings_of(config)
        for knob in self.knobs:
            own = own_value(knob.setting, kind) if kind else None
            self.numbers[knob.setting].show(shown[knob.setting], own)
        children = (
            self.provider,
            self.model,
            *(self.numbers[knob.setting].box for knob in self.knobs),
            self.reuse,
            self.note,
        )
        if self.box.children != children:
            self.box.children = children

    def _provider_chosen(self, change: dict[str, Any]) -> None:
        if self._is_shown:
            return
        # A model of another provider's is none of this one's.
        own = self._base.model if change["new"] == self._base.provider else None
        try:
            config = self.config.replace(provider=change["new"], model=own)
        except ConfigError as error:
            self._complain(error, [])
            self._changed()
            return
        self._is_shown = True
        try:
            self.model.value = own or ""
            self._arrange(config)
        finally:
            self._is_shown = False
        self._turned()

    def _turned(self) -> None:
        if not self._is_shown:
            self._read()
            self._changed()

    def _read(self) -> None:
        """Make a config of what the controls say, or show what is wrong."""
        chosen: dict[str, Any] = {
            "provider": self.provider.value,
            "model": self.model.value.strip() or None,
            "reuse": self.reuse.value,
        }
        for knob in self.knobs:
            try:
                chosen[knob.setting] = self.numbers[knob.setting].read()
            except ConfigError as error:
                self._complain(error, error.settings)
                return
        try:
            self.config = with_settings(self._base, chosen)
        except ConfigError as error:
            self._complain(error, error.settings)
            return
        self._complain(None, [])

    def _complain(self, error: ConfigError | None, settings: Iterable[str]) -> None:
        """Show a sentence beside the first control that it is about, or beneath all of them."""
        self.problem = "" if error is None else str(error)
        shown = {knob.setting for knob in self.knobs}
        about = next((name for name in settings if name in shown), None)
        for setting, control in self.numbers.items():
            control.complain(self.problem if setting == about else "")
        elsewhere = self.problem if about is None else ""
        self.note.value = problem_html(elsewhere)
        self.note.layout.display = None if elsewhere else "none"
