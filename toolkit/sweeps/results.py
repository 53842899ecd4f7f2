"""``Sweep``: what a sweep brought, as DataFrames and files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from toolkit.config import Config
from toolkit.errors import ConfigError, ToolkitError, nearest_name
from toolkit.files import write_whole
from toolkit.frames import CELLS, LOWER_IS_BETTER, frame_of
from toolkit.intervals import mean_interval
from toolkit.parts import Fold, Part, View, notebook_html
from toolkit.records import Status
from toolkit.runs import Run, csv_of
from toolkit.sweeps.cells import Cell, write_knobs
from toolkit.sweeps.figures import MEASURES
from toolkit.views.study import Study, alerts_of, facts_of, failed_of, means_of, tiles_of
from toolkit.wording import counted, plain, shown

if TYPE_CHECKING:
    import pandas as pd

GOOD = (Status.OK.value, Status.PARTIAL.value)
FILES = ("cells.csv", "means.csv", "warm_ups.csv", "sweep.json")
"""What ``Sweep.save`` writes."""
_MOST_CELLS = 60


class Row(NamedTuple):
    """A measured cell: its values by the names of the frame ``cells``, but for those that name it."""

    cell: Cell
    repeat: int
    values: dict[str, Any]

    def __repr__(self) -> str:
        return f"<Row: {describe_row(self)}>"


class Runs(Mapping[tuple[int, int], Run]):
    """The runs of a sweep by cell and repeat: read from the store, or simulated again, when asked for."""

    def __init__(self, fetches: Mapping[tuple[int, int], Callable[[], Run]]) -> None:
        self._fetches = fetches

    def __getitem__(self, place: tuple[int, int]) -> Run:
        if place not in self._fetches:
            raise KeyError(f"no run of cell and repeat {place!r}; there are {len(self)}, such as (1, 1)")
        return self._fetches[place]()

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._fetches)

    def __len__(self) -> int:
        return len(self._fetches)

    def __repr__(self) -> str:
        return f"<{counted(len(self), 'run')}, by (cell, repeat)>"


class Sweep:
    """What a sweep measured.

    Attributes
    ----------
    id : str
        The same for all starts of one sweep.
    name : str or None
    config : Config
        What all cells have in common.
    knobs : tuple of str
        The settings in which they differ.
    runs : mapping
        From (cell, repeat) to the cell's `Run`.
    environment : dict
        Versions, processor, cores, memory, load at the start and git commit.
    simulated, interrupted : bool
    stopped_because : str or None
        Why it stopped by itself before its end: no budget left, a store that cannot be written.
    store : str or None
        Where it is kept; simulated ones are not.
    """

    def __init__(
        self,
        *,
        id: str,
        name: str | None,
        config: Config,
        settings: Sequence[Cell],
        rows: Sequence[Row],
        warm_ups: Sequence[Row] = (),
        environment: Mapping[str, object],
        fetches: Mapping[tuple[int, int], Callable[[], Run]],
        simulated: bool,
        seed: int = 0,
        interrupted: bool = False,
        stopped_because: str | None = None,
        store: str | None = None,
    ) -> None:
        self.id = id
        self.name = name
        self.config = config
        self.knobs = tuple(settings[0].knobs)
        self.runs = Runs(fetches)
        self.environment = dict(environment)
        self.simulated = simulated
        self.seed = seed
        self.interrupted = interrupted
        self.stopped_because = stopped_because
        self.store = store
        self._settings = {cell.number: cell for cell in settings}
        self._rows = sorted(rows, key=lambda row: (row.cell.number, row.repeat))
        self._warm_ups = list(warm_ups)

    # Frames

    @cached_property
    def cells(self) -> pd.DataFrame:
        """A row for each cell and repeat, also for those that failed or were not reached.

        ``toolkit.frames.CELLS`` declares the columns; the knobs stand behind ``repeat``, and what a score of
        one's own brought behind the rest.
        """
        return self._frame(self._rows)

    @cached_property
    def warm_ups(self) -> pd.DataFrame:
        """A row for the first call to each model and server, which is in no mean; columns as in ``cells``."""
        return self._frame(self._warm_ups)

    @property
    def extra(self) -> tuple[str, ...]:
        """Names of what a score of one's own brought."""
        declared = {column.name for column in CELLS} | set(self.knobs)
        return tuple(dict.fromkeys(name for row in self._rows for name in row.values if name not in declared))

    def _frame(self, rows: Sequence[Row]) -> pd.DataFrame:
        import pandas as pd

        empty = {column.name: None for column in CELLS}
        same = empty | {"sweep_id": self.id, "simulated": self.simulated, "resumed": False, "kept": False}
        frame = frame_of(
            CELLS, (same | {"cell": row.cell.number, "repeat": row.repeat} | row.values for row in rows)
        )
        behind = list(frame).index("repeat") + 1
        for place, knob in enumerate(self.knobs, behind):
            frame.insert(place, knob, knob_column([row.cell.knobs[knob] for row in rows]))
        for name in self.extra:
            frame[name] = pd.Series([row.values.get(name) for row in rows], dtype="float64")
        return frame

    def means(self, *measures: str) -> pd.DataFrame:
        """Return a row for each cell with the means over its repeats.

        Parameters
        ----------
        *measures : str
            Columns of ``cells``; by default all that have a value.

        Returns
        -------
        DataFrame
            ``cell``, the knobs, ``ok`` (repeats that ended well), and for each measure its mean, the ends of
            the mean's 95 % confidence interval by Student's t (``…_low``, ``…_high``, null for less than two
            values) and the number of values (``…_n``). Only repeats that ended ``ok`` or ``partial`` count,
            and for times only those that were measured in one go. A cell without any has nulls.

        Raises
        ------
        ConfigError
            If there is no such measure.
        """
        import pandas as pd

        known = (*MEASURES, *self.extra)
        for name in measures:
            if name not in known:
                raise ConfigError(f"{name!r} is no measure; {nearest_name(name, known)}")
        good = [row for row in self._rows if row.values["status"] in GOOD]
        if not measures:
            measures = tuple(name for name in known if any(row.values.get(name) is not None for row in good))
        by_cell: dict[int, list[Row]] = {number: [] for number in self._settings}
        for row in good:
            by_cell[row.cell.number].append(row)
        frame: dict[str, Any] = {"cell": pd.Series(list(by_cell), dtype="Int64")}
        for knob in self.knobs:
            frame[knob] = knob_column([self._settings[number].knobs[knob] for number in by_cell])
        frame["ok"] = pd.Series([len(rows) for rows in by_cell.values()], dtype="Int64")
        for name in measures:
            found = [mean_interval(row.values.get(name) for row in rows) for rows in by_cell.values()]
            frame[name] = pd.Series([mean.mean for mean in found], dtype="float64")
            frame[f"{name}_low"] = pd.Series([mean.mean - mean.half_width for mean in found], dtype="float64")
            frame[f"{name}_high"] = pd.Series(
                [mean.mean + mean.half_width for mean in found], dtype="float64"
            )
            frame[f"{name}_n"] = pd.Series([mean.number for mean in found], dtype="Int64")
        return pd.DataFrame(frame)

    # Choosing

    def best(self, measure: str = "episodes_per_h", *, lowest: bool | None = None) -> pd.Series:
        """Return the row of ``means`` with the best mean; ``config_of(row["cell"])`` is its setting.

        Cells of which a repeat failed are left out.

        Parameters
        ----------
        measure : str
        lowest : bool, optional
            Whether less is better; by default it is for times, costs, refusals and memory.

        Raises
        ------
        ConfigError
            If there is no such measure.
        ToolkitError
            If no cell has it, with the reason.
        """
        means = self.means(measure)
        failed = {row.cell.number for row in self._rows if row.values["status"] == Status.FAILED}
        means = means[means[measure].notna() & ~means["cell"].isin(failed)]
        if means.empty:
            raise ToolkitError(f"no cell of sweep {self.id} has a {measure} to compare: {self._why_none()}")
        lowest = measure in LOWER_IS_BETTER if lowest is None else lowest
        values = means[measure].to_numpy()
        # As objects, or a row of numbers would be all floats.
        return means.astype(object).iloc[int(values.argmin() if lowest else values.argmax())]

    def config_of(self, cell: int) -> Config:
        """Return the config of a cell.

        Raises
        ------
        ConfigError
            If there is no such cell.
        """
        found = self._settings.get(int(cell))
        if found is None:
            raise ConfigError(f"no cell {cell!r}; they are numbered from 1 to {len(self._settings)}")
        return found.config

    def _why_none(self) -> str:
        bad = [row for row in self._rows if row.values["status"] not in GOOD]
        if not bad:
            return "nothing was measured of it" if self._rows else "no cell was reached"
        first = bad[0]
        succeeded = "nothing succeeded" if len(bad) == len(self._rows) else "the others do not have it"
        return (
            f"{succeeded}; {first.cell.shown}, repeat {first.repeat}, {first.values['status']}: "
            f"{first.values['error']}"
        )

    # Showing and saving

    def counts(self) -> dict[str, int]:
        """Return how many cells and repeats ended in each status, without those that none did."""
        found = {status.value: 0 for status in Status}
        for row in self._rows:
            found[row.values["status"]] += 1
        return {status: count for status, count in found.items() if count}

    def save(self, folder: str | Path) -> Path:
        """Write ``cells``, ``means`` and ``warm_ups`` as CSV, and what the sweep was as JSON, into a folder.

        Files of an earlier sweep are replaced, and each is whole at any moment.

        Returns
        -------
        Path
            The folder, which is made if needed.

        Raises
        ------
        OSError
            If they cannot be written.
        """
        place = Path(folder).expanduser()
        place.mkdir(parents=True, exist_ok=True)
        texts = {
            "cells.csv": csv_of(self.cells),
            "means.csv": csv_of(self.means()),
            "warm_ups.csv": csv_of(self.warm_ups),
            "sweep.json": json.dumps(self.record(), indent=1, ensure_ascii=False) + "\n",
        }
        write_whole((place / name, text) for name, text in texts.items())
        return place

    def record(self) -> dict[str, Any]:
        """Return what the sweep was, as values that JSON can hold: settings, seed, environment, end."""
        return {
            "sweep_id": self.id,
            "name": self.name,
            "simulated": self.simulated,
            "seed": self.seed,
            "knobs": list(self.knobs),
            "config": self.config.shown(),
            "environment": self.environment,
            "interrupted": self.interrupted,
            "stopped_because": self.stopped_because,
        }

    def _headline(self) -> str:
        ended = ", ".join(f"{count} {status}" for status, count in self.counts().items()) or "nothing done"
        kept = sum(bool(row.values.get("kept")) for row in self._rows)
        resumed = sum(bool(row.values.get("resumed")) for row in self._rows)
        parallel = max((row.values.get("parallel") or 1 for row in self._rows), default=1)
        notes = [
            f"{counted(len(self._settings), 'cell')} over {', '.join(self.knobs)}",
            ended,
            *(["simulated"] if self.simulated else []),
            *([f"{kept} measured in an earlier start"] if kept else []),
            *([f"{resumed} resumed, without times"] if resumed else []),
            *([f"{parallel} at a time"] if parallel > 1 else []),
            *(["interrupted"] if self.interrupted else []),
            *([f"stopped: {self.stopped_because}"] if self.stopped_because else []),
            *([] if self._succeeded else [self._why_none()]),
        ]
        return f"Sweep {self.id}: {', '.join(notes)}"

    @property
    def _succeeded(self) -> bool:
        return any(row.values["status"] in GOOD for row in self._rows)

    def __repr__(self) -> str:
        return f"<{plain(self._headline(), 1000)}>"

    def _repr_html_(self) -> str:
        of = Study(self)
        parts: list[Part] = [means_of(of, _MOST_CELLS)]
        if of.lost.any():
            parts.append(Fold("Cells that failed", [failed_of(of, _MOST_CELLS)]))
        title = f"Sweep {shown(of.name, 60)}"
        return notebook_html(View(title, facts_of(of), alerts_of(of), tiles_of(of), parts))


def knob_column(values: Sequence[Any]) -> pd.Series:
    """Return a column of the kind that its values have, with null for what is unset."""
    import pandas as pd

    known = [value for value in values if value is not None]
    if known and all(isinstance(value, bool) for value in known):
        return pd.Series(values, dtype="bool" if len(known) == len(values) else "boolean")
    if known and all(isinstance(value, int) and not isinstance(value, bool) for value in known):
        return pd.Series(values, dtype="Int64")
    if known and all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        return pd.Series(values, dtype="float64")
    if all(isinstance(value, str) for value in known):
        return pd.Series(values, dtype="str")
    return pd.Series(values, dtype="object")


def describe_row(row: Row) -> str:
    """Say in a line how a cell went."""
    values = row.values
    what = f"{write_knobs(row.cell.knobs)}, repeat {row.repeat}: {values['status']}"
    if values.get("kept"):
        what += ", measured in an earlier start"
    if values.get("resumed"):
        what += ", resumed"
    if values.get("makespan_s") is not None:
        what += f", {values['makespan_s']:.2f} s"
    return f"{what}, {values['error']}" if values.get("error") else what
