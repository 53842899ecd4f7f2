"""Going over the cells: one after the other, or several at a time, until the end or a stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from toolkit.bars import Bar, is_shown, make_bar
from toolkit.records import Status
from toolkit.sweeps.cells import Cell, write_knobs
from toolkit.sweeps.results import Row

STOPPED = "the sweep was stopped before it"


class Planned(NamedTuple):
    """A cell to be measured; ``order`` is its place in the sweep, from 1."""

    cell: Cell
    repeat: int
    order: int


class Pass:
    """One start of a sweep, going over the cells that are still to be measured.

    Parameters
    ----------
    planned : sequence of Planned
        In the order in which they are to be measured.
    one : callable
        Measures one of them; what goes wrong with it stands in its row.
    parallel : int
    stop : threading.Event
    on_cell : callable, optional
        Called with each row as it is there.
    progress : bool or None
        Whether to show a bar; None: in notebooks and terminals.
    """

    def __init__(
        self,
        planned: Sequence[Planned],
        one: Callable[[Planned], Row],
        *,
        parallel: int,
        stop: threading.Event,
        on_cell: Callable[[Row], object] | None,
        progress: bool | None,
    ) -> None:
        self._planned = planned
        self._one = one
        self._parallel = parallel
        self._stop = stop
        self._on_cell = on_cell or (lambda row: None)
        self._bar: Bar | None = make_bar(len(planned), "cells") if planned and is_shown(progress) else None
        self._rows: dict[tuple[int, int], Row] = {}
        self._rows_lock = threading.Lock()
        self._is_handed_over = False

    def do(self) -> None:
        """Measure all; an exception of ``on_cell`` ends it and is raised."""
        try:
            if self._parallel == 1:
                for planned in self._planned:
                    self._measure(planned)
                return
            with ThreadPoolExecutor(self._parallel, thread_name_prefix="cell") as pool:
                for _ in pool.map(self._measure, self._planned):
                    pass
        finally:
            if self._bar is not None:
                self._bar.close()

    def _measure(self, planned: Planned) -> None:
        if self._stop.is_set():
            return
        if self._bar is not None:
            self._bar.show(len(self._rows), write_knobs(planned.cell.knobs), at_once=True)
        row = self._one(planned)
        with self._rows_lock:
            if self._is_handed_over:  # Nobody waited for it; it is in the store, for the next start.
                return
            self._rows[planned.cell.number, planned.repeat] = row
            if self._bar is not None:
                self._bar.show(len(self._rows), self._bar.text)
        try:
            self._on_cell(row)
        except BaseException:
            self._stop.set()
            raise

    def rows(self, because: str | None) -> list[Row]:
        """Return a row for each cell, with ``cancelled`` ones for those not reached."""
        with self._rows_lock:
            self._is_handed_over = True
            done = dict(self._rows)
        return [
            done.get((planned.cell.number, planned.repeat)) or not_reached(planned, because)
            for planned in self._planned
        ]


def not_reached(planned: Planned, because: str | None) -> Row:
    """Return the row of a cell that was not measured."""
    error = STOPPED if because is None else f"{STOPPED}: {because}"
    return Row(planned.cell, planned.repeat, {"status": Status.CANCELLED.value, "error": error})
