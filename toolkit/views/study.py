"""The cells of a study, sorted out: what was gone over, what came of it, and what failed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from toolkit.frames import LOWER_IS_BETTER
from toolkit.intervals import Mean, mean_interval
from toolkit.parts import Absent, Alert, Column, Fold, Part, Table, Text, Tile, left_out
from toolkit.settings import written
from toolkit.studies import MEASURES, cells_of, failed, key_of, knobs_of, unit_of, values_of
from toolkit.views.heads import MOST_REASON
from toolkit.wording import NONE, count, counted, is_missing, listed, moment, plain, real, shown

if TYPE_CHECKING:
    import pandas as pd

MOST_CELLS = 200
MOST_ROWS = 300
_COUNTS = ("repeat", "order", "calls", "calls_reused")
"""Columns of a study's rows that are shown as whole numbers."""
_BEST = (
    ("Fastest", "episodes_per_h", "episodes/h"),
    ("Cheapest", "cost_usd", "USD"),
    ("Best by ROUGE-L", "rougeL", "F1"),
)


class Study:
    """The cells of a study, sorted out.

    Parameters
    ----------
    study : Sweep or DataFrame
        With a row for each cell and repeat.
    cells : DataFrame, optional
        Those of its rows that are looked at; by default all.
    """

    def __init__(self, study: Any, cells: pd.DataFrame | None = None) -> None:
        self.study = study
        # Numbered anew: in studies that were put together several rows may have the same label.
        self.cells: pd.DataFrame = cells_of(study if cells is None else cells, []).reset_index(drop=True)
        self.knobs: list[str] = [
            str(knob) for knob in getattr(study, "knobs", ()) if str(knob) in self.cells
        ] or knobs_of(self.cells)
        self.varied = [knob for knob in knobs_of(self.cells) if knob in self.knobs]
        self.lost = failed(self.cells)
        self.key = key_of(self.cells)
        extra = [str(name) for name in getattr(study, "extra", ()) if str(name) in self.cells]
        self.values = {
            name: values
            for name in [*MEASURES, *extra]
            if name in self.cells and (values := values_of(self.cells, name)).notna().any()
        }
        self._means: dict[str, dict[Any, Mean]] = {}
        self.name = str(getattr(study, "name", None) or getattr(study, "id", None) or self._id())

    def _id(self) -> str:
        return str(self.cells["sweep_id"].iloc[0]) if "sweep_id" in self.cells and len(self.cells) else ""

    def mean(self, measure: str, cell: int) -> Mean:
        """Return the mean of a measure over the repeats of a cell; of a measure that no cell has, none."""
        if measure not in self.values:
            return Mean(math.nan, math.nan, 0)
        if measure not in self._means:
            # Of all cells at once: picking the rows of each would take a pass over all rows.
            repeats = self.values[measure].groupby(self.key, sort=False)
            self._means[measure] = {number: mean_interval(own) for number, own in repeats}
        return self._means[measure][cell]

    def setting(self, place: Any) -> str:
        """Return what tells a row's cell from the others."""
        row = self.cells.loc[place]
        return ", ".join(f"{shown(knob, 40)} = {_value(row[knob])}" for knob in self.varied or self.knobs)

    def flag(self, name: str) -> bool:
        """Return whether the study says something of itself."""
        return bool(getattr(self.study, name, False))

    @property
    def simulated(self) -> int:
        """How many rows are simulated."""
        if "simulated" not in self.cells:
            return len(self.cells) if self.flag("simulated") else 0
        return int(self.cells["simulated"].fillna(False).astype(bool).sum())


def facts_of(of: Study) -> list[tuple[str, str]]:
    """Return what a study was, when, and where it is kept."""
    study = of.study
    began = None
    if "started_at" in of.cells and of.cells["started_at"].notna().any():
        began = of.cells["started_at"].min().timestamp()
    config = getattr(study, "config", None)
    alike = [name for name in ("provider", "model") if name not in of.knobs]
    facts = [
        ("Id", plain(getattr(study, "id", "") or of._id())),
        ("Knobs", listed([shown(knob, 60) for knob in of.knobs]) or "none"),
        *((name.capitalize(), plain(getattr(config, name, None) or "", 80)) for name in alike),
        ("Began", moment(began) if began else ""),
        ("Kept", plain(getattr(study, "store", None) or "")),
    ]
    return [(name, value) for name, value in facts if value]


def alerts_of(of: Study) -> list[Alert]:
    """Return what must be known before any figure of a study is read."""
    alerts = []
    if of.simulated:
        which = "All" if of.simulated == len(of.cells) else f"{of.simulated:,} of {len(of.cells):,}"
        alerts.append(Alert("Simulated", f"{which} rows are computed: nothing was called for them."))
    if because := getattr(of.study, "stopped_because", None):
        alerts.append(Alert("Stopped by itself", plain(because, MOST_REASON), "bad"))
    elif of.flag("interrupted"):
        alerts.append(
            Alert("Interrupted", "It was stopped before its end; started again, it goes on.", "bad")
        )
    if len(of.cells) and of.lost.all():
        place = of.cells.index[0]
        first = plain(of.cells["error"].iloc[0], MOST_REASON) if "error" in of.cells else ""
        alerts.append(Alert("Nothing succeeded", f"The first: {of.setting(place)}: {first}", "bad"))
    elif lost := int(of.lost.sum()):
        text = (
            f"{lost:,} of {counted(len(of.cells), 'row')} have no result and are in no mean; see below why."
        )
        alerts.append(Alert("Incomplete", text, "bad"))
    for column, say in (
        ("resumed", "were gone on with in a later start: they have no times."),
        ("kept", "were measured in an earlier start and are taken as they were then."),
    ):
        if column in of.cells and (number := int(of.cells[column].fillna(False).astype(bool).sum())):
            alerts.append(Alert(column.capitalize(), f"{counted(number, 'row')} {say}"))
    most = of.cells["parallel"].max() if "parallel" in of.cells and len(of.cells) else 1
    if not is_missing(most) and most > 1:
        text = f"Up to {int(most)} cells were measured at a time: they shared the machine and the quota."
        alerts.append(Alert("Not alone", text))
    return alerts


def tiles_of(of: Study) -> list[Tile]:
    """Return the headline figures of a study."""
    cells = of.key.nunique()
    repeats = int(of.cells["repeat"].nunique()) if "repeat" in of.cells else 1
    good = len(of.cells) - int(of.lost.sum())
    tiles = [
        Tile("Cells", f"{cells:,}", f"over {counted(len(of.knobs), 'knob')}"),
        Tile("Repeats", f"{repeats:,}", f"{good:,} of {len(of.cells):,} rows have a result"),
    ]
    for label, measure, unit in _BEST:
        if measure in of.values and (found := _best(of, measure)) is not None:
            place, mean = found
            tiles.append(Tile(label, f"{_interval(mean)} {unit}", of.setting(place)))
    return tiles


def _best(of: Study, measure: str) -> tuple[Any, Mean] | None:
    """Return a row of the cell with the best mean; nothing to choose from is no choice.

    Cells of which a repeat failed are left out, as ``Sweep.best`` leaves them out.
    """
    unsure = set(of.key[of.cells["status"] == "failed"]) if "status" in of.cells else set()
    means = [(cell, of.mean(measure, cell)) for cell in of.key.drop_duplicates() if cell not in unsure]
    known = [(cell, mean) for cell, mean in means if mean.number]
    if len({mean.mean for _, mean in known}) < 2:
        return None
    choose: Callable[..., tuple[int, Mean]] = min if measure in LOWER_IS_BETTER else max
    cell, mean = choose(known, key=lambda each: each[1].mean)
    return of.key.index[of.key == cell][0], mean


def _interval(mean: Mean) -> str:
    if not mean.number:
        return NONE
    if not math.isfinite(mean.half_width):
        return real(mean.mean)
    return f"{real(mean.mean)} ± {real(mean.half_width)}"


def _value(value: Any) -> str:
    if isinstance(value, list | tuple | dict | set):
        return shown(value, 40)
    return (
        NONE if is_missing(value) else shown(written(value.item() if hasattr(value, "item") else value), 40)
    )


def means_of(of: Study, most: int = MOST_CELLS, by: str | None = None) -> Part:
    """Return a row for each cell: its setting, and its means with their intervals.

    The rows are in the order of the study, or, ``by`` a measure, the best first.
    """
    if of.cells.empty:
        return Absent("Means", "There are no cells.")
    firsts = of.key.drop_duplicates()
    if by is not None and by in of.values:
        firsts = firsts.loc[sorted(firsts.index, key=lambda place: _rank(of, by, firsts[place]))]
    columns = [
        Column("cell"),
        *(Column(shown(knob, 40), unit_of(knob), True) for knob in of.knobs),
        Column("with a result", "rows", True),
        *(_column_of(name) for name in of.values),
    ]
    rows = []
    place: Any
    for place, cell in firsts.head(most).items():
        same = of.key == cell
        rows.append(
            [
                _cell_name(of, place, cell),
                *(_value(of.cells.loc[place, knob]) for knob in of.knobs),
                f"{int((same & ~of.lost).sum())} of {int(same.sum())}",
                *(_interval(of.mean(name, cell)) for name in of.values),
            ]
        )
    note = left_out(len(firsts), most, "study.means()")
    caption = (
        "Means over the repeats that have a result, ± half of the 95 % confidence interval (Student's t)"
    )
    return Table(caption, columns, rows, note)


def _rank(of: Study, measure: str, cell: int) -> float:
    """Return what cells are sorted by, the best first; those without the measure come last."""
    mean = of.mean(measure, cell)
    sign = 1 if measure in LOWER_IS_BETTER else -1
    return sign * mean.mean if mean.number else math.inf


def _cell_name(of: Study, place: Any, cell: int) -> str:
    return _value(of.cells.loc[place, "cell"]) if "cell" in of.cells else str(cell + 1)


def _column_of(name: str) -> Column:
    title, unit = MEASURES.get(name, (shown(name, 40), ""))
    return Column(title, unit, True)


def failed_of(of: Study, most: int = MOST_ROWS) -> Part:
    """Return the cells and repeats without a result, and why."""
    bad = of.cells[of.lost]
    if bad.empty:
        return Text("None." if len(of.cells) else "There are no cells.")
    columns = [
        Column("cell"),
        *(Column(shown(knob, 40), unit_of(knob), True) for knob in of.knobs),
        Column("repeat", "", True),
        Column("status"),
        Column("reason"),
    ]
    rows = [_row(of, place, ["repeat", "status", "error"]) for place in bad.index[:most]]
    note = left_out(len(bad), most, "study.cells")
    return Table("Cells and repeats without a result, and why", columns, rows, note)


def rows_of(of: Study) -> Part:
    """Return every cell and repeat, folded."""
    if of.cells.empty:
        return Text("There are none.")
    others = [
        name
        for name in ("repeat", "status", "order", "calls", "calls_reused", *of.values)
        if name in of.cells
    ]
    columns = [
        Column("cell"),
        *(Column(shown(knob, 40), unit_of(knob), True) for knob in of.knobs),
        *(_column_of(name) if name in of.values else Column(name, "", name != "status") for name in others),
    ]
    rows = [_row(of, place, others) for place in of.cells.index[:MOST_ROWS]]
    note = left_out(len(of.cells), MOST_ROWS, "study.cells")
    return Fold(counted(len(of.cells), "row"), [Table("Every cell and repeat", columns, rows, note)])


def _row(of: Study, place: Any, names: Sequence[str]) -> list[str]:
    row = of.cells.loc[place]
    return [
        _cell_name(of, place, int(of.key.loc[place])),
        *(_value(row[knob]) for knob in of.knobs),
        *(_written(name, row.get(name), name in of.values) for name in names),
    ]


def _written(name: str, value: Any, is_measure: bool) -> str:
    if is_missing(value):
        return "" if name == "error" else NONE
    if is_measure:
        return real(value)
    return count(value) if name in _COUNTS and not isinstance(value, str) else plain(value, 500)
