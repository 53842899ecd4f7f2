"""``Driver``: runs and sweeps in the background, one at a time, and what a panel is told of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from toolkit.clock import Clock, SystemClock
from toolkit.config import Config
from toolkit.errors import RunInterrupted, ToolkitError
from toolkit.handle import RunHandle, start
from toolkit.limits import StopEvent
from toolkit.providers.registry import get_provider
from toolkit.records import Episode
from toolkit.runs import Run
from toolkit.sweeps import Sweep, sweep
from toolkit.sweeps.cells import Cell
from toolkit.sweeps.results import Row
from toolkit.sweeps.spending import Ahead, Budget, look_ahead

LOOK_S = 0.5
"""How often a run is looked at: more often nobody reads it, and each look costs the run some time."""


class State(StrEnum):
    """What a driver is doing."""

    IDLE = "idle"
    PREPARING = "preparing"
    RUNNING = "running"
    SWEEPING = "sweeping"
    STOPPING = "stopping"


class Changed(NamedTuple):
    """The driver is in another state."""

    state: State


class Began(NamedTuple):
    """A run goes on, from this time on (epoch seconds)."""

    handle: RunHandle
    at: float


class Looked(NamedTuple):
    """It is time to look at the run that goes on."""

    handle: RunHandle


class Ended(NamedTuple):
    """A run has ended."""

    handle: RunHandle
    run: Run


class Measured(NamedTuple):
    """A cell of a sweep was measured."""

    row: Row


class Swept(NamedTuple):
    """A sweep has ended."""

    study: Sweep


class Asked(NamedTuple):
    """What may be spent needs a word; ``again`` goes on with it."""

    ahead: Ahead
    again: Callable[[], None]


class Trouble(NamedTuple):
    """Something went wrong."""

    what: str


Event = Changed | Began | Looked | Ended | Measured | Swept | Asked | Trouble
Listener = Callable[[Event], None]


def nobody(event: Event) -> None:
    """Listen to nothing: the view is gone."""


class Driver:
    """Does one thing at a time in the background. No thread of its own outlives what it does.

    Whoever listens may change meanwhile: what goes on belongs to no view.

    Parameters
    ----------
    listener : callable
        Told each event, from the thread in which it happens.
    look_s : float
        Seconds between two looks at a run.
    clock : Clock, optional

    Attributes
    ----------
    listener : callable
    state : State
    handle : RunHandle or None
        Of the run that goes on.
    run : Run or None
        The last one that ended.
    study : Sweep or None
        Likewise.
    """

    def __init__(self, listener: Listener, *, look_s: float = LOOK_S, clock: Clock | None = None) -> None:
        self.listener = listener
        self._clock = clock or SystemClock()
        self.state = State.IDLE
        self.handle: RunHandle | None = None
        self.run: Run | None = None
        self.study: Sweep | None = None
        self._look_s = look_s
        self._stop = StopEvent()
        self._unshown: str | None = None
        self._state_lock = threading.Lock()
        self.idle = threading.Event()
        self.idle.set()

    @property
    def is_busy(self) -> bool:
        """Whether something goes on."""
        return self.state is not State.IDLE

    def start_run(self, episodes: Sequence[Episode], config: Config, *, consent: bool = False) -> None:
        """Run episodes in the background; nothing happens while something goes on."""

        def work() -> None:
            ahead = None if consent else _unasked([config], episodes)
            if ahead is not None:
                self._tell(Asked(ahead, lambda: self.start_run(episodes, config, consent=True)))
                return
            self._run(episodes, config)

        self._begin(work, "run of a panel")

    def start_sweep(
        self,
        episodes: Sequence[Episode],
        config: Config,
        cells: Iterable[Mapping[str, Any]],
        *,
        consent: bool = False,
    ) -> None:
        """Measure cells in the background; nothing happens while something goes on."""
        settings = [dict(cell) for cell in cells]

        def work() -> None:
            configs = [config.replace(**cell) for cell in settings]
            ahead = None if consent else _unasked(configs, episodes)
            if ahead is not None:
                again = lambda: self.start_sweep(episodes, config, settings, consent=True)  # noqa: E731
                self._tell(Asked(ahead, again))
                return
            self._change(State.SWEEPING)
            self.study = sweep(
                episodes,
                config,
                cells=settings,
                confirm=consent,
                progress=False,
                stop=self._stop,
                on_cell=lambda row: self._tell(Measured(row)),
            )
            self._tell(Swept(self.study))

        self._begin(work, "sweep of a panel")

    def stop(self) -> None:
        """Start no new call; those under way may end."""
        with self._state_lock:
            if not self.is_busy:
                return
            stop = self._stop
        # Before the handle is looked for: one that comes later looks for this.
        stop.set()
        if (handle := self.handle) is not None:
            handle.stop()
        self._change(State.STOPPING)

    # In the background

    def _tell(self, event: Event) -> None:
        """Tell whoever listens; what goes wrong in showing it is said at the end and breaks nothing."""
        try:
            self.listener(event)
        except Exception as error:
            self._unshown = f"not all of it could be shown: {type(error).__name__}: {error}"

    def _begin(self, work: Callable[[], None], name: str) -> None:
        with self._state_lock:
            if self.is_busy:
                return
            self.state = State.PREPARING
            self.idle.clear()
            self._stop = StopEvent()
            self._unshown = None
        self._tell(Changed(State.PREPARING))
        threading.Thread(target=self._do, args=(work,), name=name, daemon=True).start()

    def _do(self, work: Callable[[], None]) -> None:
        trouble: str | None = None
        try:
            work()
        except ToolkitError as error:
            trouble = str(error)
        except Exception as error:
            trouble = f"{type(error).__name__}: {error}"
        finally:
            with self._state_lock:
                self.state, self.handle = State.IDLE, None
            self._tell(Changed(State.IDLE))
            for what in filter(None, (self._unshown, trouble)):
                self._tell(Trouble(what))
            with self._state_lock:
                if not self.is_busy:  # with something that was begun meanwhile
                    self.idle.set()

    def _run(self, episodes: Sequence[Episode], config: Config) -> None:
        handle = start(episodes, config)
        with self._state_lock:
            self.handle = handle
            if self._stop.is_set():  # while it got ready
                handle.stop()
        self._change(State.RUNNING)
        self._tell(Began(handle, self._clock.epoch()))
        while (run := self._waited(handle)) is None:
            self._tell(Looked(handle))
        with self._state_lock:
            self.run, self.handle = run, None
        self._tell(Ended(handle, run))

    def _waited(self, handle: RunHandle) -> Run | None:
        """Return a run if it has ended by the time for the next look."""
        try:
            return handle.wait(self._look_s)
        except TimeoutError:
            return None
        except RunInterrupted as broken:
            if not isinstance(broken.run, Run):
                raise
            return broken.run

    def _change(self, state: State) -> None:
        with self._state_lock:
            if self.state is State.IDLE:  # it ended meanwhile
                return
            self.state = state = State.STOPPING if self._stop.is_set() else state
        self._tell(Changed(state))


def _unasked(configs: Sequence[Config], episodes: Sequence[Episode]) -> Ahead | None:
    """Return what would be spent without a budget, which nobody has consented to yet; None if nothing."""
    unbounded = [config for config in configs if not Budget.of(config, None, None, None).is_set]
    cells = [Cell(number, {}, config, "") for number, config in enumerate(unbounded, 1)]
    found = look_ahead(cells, 1, episodes, get_provider) if cells else None
    return None if found is None else found[0]
