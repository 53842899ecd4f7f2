"""``Tuned``: the best setting that was found, and why it is taken for that."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.config import Config
from toolkit.files import write_whole
from toolkit.latency import LatencyModel
from toolkit.parts import Alert, View, notebook_html
from toolkit.runs import csv_of
from toolkit.sweeps import Sweep
from toolkit.sweeps.cells import Cell, write_knobs
from toolkit.sweeps.results import knob_column
from toolkit.tuning.goals import Goal
from toolkit.views.frames import table_of
from toolkit.wording import counted, plain, real, shown

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class Evidence:
    """What is known of one setting.

    Attributes
    ----------
    cell : Cell
    predicted, predicted_last : float or None
        The goal's measure over all episodes, by the first model and by the last.
    measured : dict
        From a number of episodes to the measure, a mean over repeats.
    ran : set
        What was run of it: numbers of episodes and of repeats.
    broken : bool
        Whether it failed, or has no such measure.
    estimate : float or None
        What it is taken for in the end.
    dropped : str or None
        Why it did not go on; None for the best.
    """

    cell: Cell
    predicted: float | None = None
    predicted_last: float | None = None
    measured: dict[int, float] = field(default_factory=dict)
    ran: set[tuple[int, int]] = field(default_factory=set)
    broken: bool = False
    estimate: float | None = None
    dropped: str | None = None

    @property
    def episodes(self) -> int:
        """Most episodes over which it was measured."""
        return max(self.measured, default=0)

    @property
    def runs(self) -> int:
        """How often it was run."""
        return len(self.ran)


class Tuned:
    """What a tuning found.

    Attributes
    ----------
    id : str
    goal : str
    measure : str
        The column of ``cells`` that the goal goes by.
    config : Config
        The best setting, to be run.
    knobs : dict
        What is set in it.
    value : float
        Its measure: a mean over the repeats over all episodes, unless the tuning was stopped before.
    settings, really_run : int
        How many there were, and how many of them were run.
    models : tuple of LatencyModel
        What the predictions went by in the end; none where nothing was predicted.
    sweeps : tuple of Sweep
        What was really run, rung by rung.
    interrupted : bool
    stopped_because : str or None
        Why it stopped by itself before its end.
    """

    def __init__(
        self,
        *,
        id: str,
        goal: Goal,
        best: Evidence,
        known: Sequence[Evidence],
        models: Mapping[Any, LatencyModel],
        sweeps: Sequence[Sweep],
        interrupted: bool,
        stopped_because: str | None,
    ) -> None:
        self.id = id
        self.goal = goal.name
        self.measure = goal.measure
        self.config: Config = best.cell.config
        self.knobs = dict(best.cell.knobs)
        self.value = best.measured[best.episodes]
        self.settings = len(known)
        self.really_run = sum(evidence.runs > 0 for evidence in known)
        self.models = tuple(models.values())
        self.sweeps = tuple(sweeps)
        self.interrupted = interrupted
        self.stopped_because = stopped_because
        self._goal = goal
        self._best = best
        self._known = list(known)

    @cached_property
    def evidence(self) -> pd.DataFrame:
        """A row for each setting, the best first.

        ``setting`` (its number), the knobs, ``best``, ``runs``, ``predicted`` (the goal's measure over all
        episodes, by the first model), ``predicted_last`` (by the last), ``measured_N`` (over N episodes),
        ``estimate`` (what it is taken for: measured over all episodes, or carried over to them), and
        ``dropped``, the reason for which it did not go on.
        """
        import pandas as pd

        def rank(evidence: Evidence) -> tuple[Any, ...]:
            value = -math.inf if evidence.estimate is None else self._goal.better(evidence.estimate)
            return (evidence is not self._best, -evidence.episodes, -value)

        rows = sorted(self._known, key=rank)
        sizes = sorted({size for evidence in rows for size in evidence.measured})
        frame: dict[str, Any] = {"setting": pd.Series([row.cell.number for row in rows], dtype="Int64")}
        for name in self.knobs:
            frame[name] = knob_column([row.cell.knobs[name] for row in rows])
        frame["best"] = pd.Series([row is self._best for row in rows], dtype="bool")
        frame["runs"] = pd.Series([row.runs for row in rows], dtype="Int64")
        for name in ("predicted", "predicted_last"):
            frame[name] = pd.Series([getattr(row, name) for row in rows], dtype="float64")
        for size in sizes:
            frame[f"measured_{size}"] = pd.Series([row.measured.get(size) for row in rows], dtype="float64")
        frame["estimate"] = pd.Series([row.estimate for row in rows], dtype="float64")
        frame["dropped"] = pd.Series([row.dropped for row in rows], dtype="str")
        return pd.DataFrame(frame)

    def save(self, folder: str | Path) -> Path:
        """Write the evidence as CSV into a folder, which is made if needed; return the folder.

        A file of an earlier tuning is replaced, and is whole at any moment.
        """
        place = Path(folder).expanduser()
        place.mkdir(parents=True, exist_ok=True)
        write_whole([(place / "evidence.csv", csv_of(self.evidence))])
        return place

    def _headline(self) -> str:
        notes = [
            f"{write_knobs(self.knobs)}",
            f"{self.measure} {self.value:.4g} over {counted(self._best.episodes, 'episode')}",
            f"{self.really_run} of {counted(self.settings, 'setting')} really run",
            *(["interrupted"] if self.interrupted else []),
            *([f"stopped: {self.stopped_because}"] if self.stopped_because else []),
        ]
        return f"Tuned for {self.goal}: {', '.join(notes)}"

    def __repr__(self) -> str:
        return f"<{plain(self._headline(), 1000)}>"

    def _repr_html_(self) -> str:
        facts = [
            ("Best", shown(write_knobs(self.knobs), 200)),
            (self.measure, f"{real(self.value)} over {counted(self._best.episodes, 'episode')}"),
            ("Really run", f"{self.really_run:,} of {counted(self.settings, 'setting')}"),
        ]
        alerts = []
        if self.stopped_because:
            alerts.append(Alert("Stopped by itself", plain(self.stopped_because), "bad"))
        elif self.interrupted:
            alerts.append(Alert("Interrupted", "It was stopped before its end.", "bad"))
        table = table_of(self.evidence, "What is known of each setting, the best first", ".evidence")
        return notebook_html(View(f"Tuned for {shown(self.goal)}", facts, alerts, parts=[table]))
