"""The page of a study: the same episodes under many settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from toolkit import plots
from toolkit.frames import LOWER_IS_BETTER
from toolkit.intervals import Mean, mean_interval
from toolkit.plots.cells import (
    MEASURES,
    MOST_SERIES,
    failed,
    key_of,
    knobs_of,
    label_of,
    levels_of,
    values_of,
)
from toolkit.plots.letters import shown
from toolkit.plots.sources import cells_of
from toolkit.reports.parts import Absent, Alert, Column, Fold, Page, Part, Section, Table, Text, Tile, cut
from toolkit.reports.pictures import picture
from toolkit.reports.plotted import in_order
from toolkit.reports.settings import environment_parts, settings_parts, written
from toolkit.reports.wording import NONE, count, is_missing, listed, moment, plain, real
from toolkit.runs import counted

if TYPE_CHECKING:
    import pandas as pd

MOST_CELLS = 200
MOST_ROWS = 300
MOST_LINE_KNOBS = 4
SPEED = ("episodes_per_h", "makespan_s", "output_tokens_per_s")
QUALITY = ("rougeL", "rouge1", "rouge2")
_COUNTS = ("repeat", "order", "calls", "calls_reused")
"""Columns of a study's rows that are shown as whole numbers."""
_BEST = (
    ("Fastest", SPEED[0], "episodes/h"),
    ("Cheapest", "cost_usd", "USD"),
    ("Best by ROUGE-L", "rougeL", "F1"),
)


def page_of_study(study: Any) -> Page:
    """Return the page of a sweep, or of anything else with ``.cells``.

    Raises
    ------
    ConfigError
        If these are no cells.
    """
    of = _Study(study)
    parts = [
        Section("means", "Means of the cells", [_means(of)]),
        Section("plots", "Plots", _plots(of)),
        Section("failed", "Cells that failed", [_failed(of)]),
        Section("rows", "Every cell and repeat", [_rows(of)]),
    ]
    if (config := getattr(study, "config", None)) is not None:
        told = [
            Text("What all cells have in common; the knobs have values of their own."),
            *settings_parts(config),
        ]
        parts.append(Section("settings", "Settings", told))
    environment = getattr(study, "environment", None) or {}
    parts.append(Section("environment", "Environment", environment_parts(environment)))
    return Page(
        title=f"Sweep {plain(of.name, 80)}" if of.name else "Study",
        facts=_facts(of),
        alerts=_alerts(of),
        tiles=_tiles(of),
        sections=parts,
    )


class _Study:
    """The cells of a study, sorted out."""

    def __init__(self, study: Any) -> None:
        self.study = study
        # Numbered anew: in studies that were put together several rows may have the same label.
        self.cells: pd.DataFrame = cells_of(study, []).reset_index(drop=True)
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
        """Return the mean of a measure over the repeats of a cell."""
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


def _facts(of: _Study) -> list[tuple[str, str]]:
    study = of.study
    began = None
    if "started_at" in of.cells and of.cells["started_at"].notna().any():
        began = of.cells["started_at"].min().timestamp()
    config = getattr(study, "config", None)
    facts = [
        ("Id", plain(getattr(study, "id", "") or of._id())),
        ("Knobs", listed([shown(knob, 60) for knob in of.knobs]) or "none"),
        ("Provider", plain(config.provider) if config is not None else ""),
        ("Model", plain(config.model or "") if config is not None else ""),
        ("Began", moment(began) if began else ""),
        ("Kept", plain(getattr(study, "store", None) or "")),
    ]
    return [(name, value) for name, value in facts if value]


def _alerts(of: _Study) -> list[Alert]:
    alerts = []
    if of.simulated:
        which = "All" if of.simulated == len(of.cells) else f"{of.simulated:,} of {len(of.cells):,}"
        alerts.append(Alert("Simulated", f"{which} rows are computed: nothing was called for them."))
    if because := getattr(of.study, "stopped_because", None):
        alerts.append(Alert("Stopped by itself", plain(because), "bad"))
    elif of.flag("interrupted"):
        alerts.append(
            Alert("Interrupted", "It was stopped before its end; started again, it goes on.", "bad")
        )
    if lost := int(of.lost.sum()):
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


def _tiles(of: _Study) -> list[Tile]:
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


def _best(of: _Study, measure: str) -> tuple[Any, Mean] | None:
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


def _begin(text: str) -> str:
    return text[:1].upper() + text[1:]


def _value(value: Any) -> str:
    if isinstance(value, list | tuple | dict | set):
        return shown(value, 40)
    return (
        NONE if is_missing(value) else shown(written(value.item() if hasattr(value, "item") else value), 40)
    )


def _means(of: _Study) -> Part:
    if of.cells.empty:
        return Absent("Means", "There are no cells.")
    firsts = of.key.drop_duplicates()
    columns = [
        Column("cell"),
        *(Column(shown(knob, 40), is_number=True) for knob in of.knobs),
        Column("with a result", "rows", True),
        *(_column_of(name) for name in of.values),
    ]
    rows = []
    place: Any
    for place, cell in firsts.head(MOST_CELLS + 1).items():
        same = of.key == cell
        rows.append(
            [
                _cell_name(of, place, cell),
                *(_value(of.cells.loc[place, knob]) for knob in of.knobs),
                f"{int((same & ~of.lost).sum())} of {int(same.sum())}",
                *(_interval(of.mean(name, cell)) for name in of.values),
            ]
        )
    rows, note = rows[:MOST_CELLS], ""
    if len(firsts) > MOST_CELLS:
        note = f"The first {MOST_CELLS:,} of {len(firsts):,} are shown. All of them: study.means()"
    caption = (
        "Means over the repeats that have a result, ± half of the 95 % confidence interval (Student's t)"
    )
    return Table(caption, columns, rows, note)


def _cell_name(of: _Study, place: Any, cell: int) -> str:
    return _value(of.cells.loc[place, "cell"]) if "cell" in of.cells else str(cell + 1)


def _column_of(name: str) -> Column:
    title, unit = MEASURES.get(name, (shown(name, 40), ""))
    return Column(title, unit, True)


def _plots(of: _Study) -> list[Part]:
    measures = _measures(of)
    if not measures:
        return [Absent("Plots", "No cell has a result.")]
    if not of.varied:
        return [Absent("Plots", "No knob has more than one value.")]
    parts: list[Part] = []
    ordered = sorted(of.varied, key=lambda knob: -len(levels_of(of.cells, knob)[0]))
    if len(ordered) >= 2:
        x, y = ordered[:2]
        parts += [_heatmap(of, x, y, measure) for measure in measures]
        if len(levels_of(of.cells, y)[0]) <= MOST_SERIES:
            parts.append(_lines(of, x, measures[0], y))
    if len(ordered) != 2:
        for knob in ordered[:MOST_LINE_KNOBS]:
            parts += [
                _lines(of, knob, measure) for measure in (measures if len(ordered) == 1 else measures[:1])
            ]
    cost = next((name for name in ("cost_usd", "makespan_s") if _varies(of, name)), None)
    quality = next((name for name in QUALITY if _varies(of, name)), None)
    if cost and quality:
        parts.append(_pareto(of, cost, quality))
    else:
        why = (
            "Needs a quality score, of which the cells have no two."
            if not quality
            else "No two costs differ."
        )
        parts.append(Absent("Cost against quality", why))
    return in_order(parts)


def _varies(of: _Study, name: str) -> bool:
    return name in of.values and of.values[name].nunique() > 1


def _measures(of: _Study) -> list[str]:
    """Return what is worth a plot: one measure of speed, of cost, and of quality."""
    speed = next((name for name in SPEED if name in of.values), None)
    quality = next((name for name in QUALITY if _varies(of, name)), None)
    cost = "cost_usd" if _varies(of, "cost_usd") else None
    found = [name for name in (speed, cost, quality) if name]
    return found or list(of.values)[:1]


def _heatmap(of: _Study, x: str, y: str, measure: str) -> Part:
    return picture(
        f"{_begin(label_of(measure))} by {shown(x)} and {shown(y)}",
        lambda ax: plots.heatmap(of.study, x=x, y=y, value=measure, ax=ax),
        lambda: f"Heatmap of {label_of(measure)} over {shown(x)} and {shown(y)}: {_range(of, measure)}",
        "Means over repeats, and over all other knobs. Hatched: no result.",
    )


def _lines(of: _Study, x: str, measure: str, by: str | None = None) -> Part:
    lines = f", a line for each {shown(by)}" if by else ""
    return picture(
        f"{_begin(label_of(measure))} by {shown(x)}{lines}",
        lambda ax: plots.lines(of.study, x=x, y=measure, by=by, ax=ax),
        lambda: f"{label_of(measure)} over {shown(x)}{lines}: {_range(of, measure)}",
        "Means with 95 % confidence intervals over repeats; no bar: a single repeat.",
    )


def _pareto(of: _Study, cost: str, quality: str) -> Part:
    return picture(
        "Cost against quality",
        lambda ax: plots.pareto(of.study, cost=cost, quality=quality, ax=ax),
        lambda: (
            f"{label_of(quality)} against {label_of(cost)}. {label_of(cost)}: {_range(of, cost)} "
            f"{label_of(quality)}: {_range(of, quality)}"
        ),
        "On the front is each cell than which no other is both cheaper and better.",
    )


def _range(of: _Study, measure: str) -> str:
    """Return the least and the greatest mean, and where they are."""
    means = [(of.mean(measure, cell).mean, place) for place, cell in of.key.drop_duplicates().items()]
    known = [(mean, place) for mean, place in means if math.isfinite(mean)]
    if not known:
        return "no cell has it."
    (low, where_low), (high, where_high) = (choose(known, key=lambda each: each[0]) for choose in (min, max))
    if low == high:
        return f"{real(low)} everywhere."
    return f"from {real(low)} ({of.setting(where_low)}) to {real(high)} ({of.setting(where_high)})."


def _failed(of: _Study) -> Part:
    bad = of.cells[of.lost]
    if bad.empty:
        return Text("None." if len(of.cells) else "There are no cells.")
    columns = [
        Column("cell"),
        *(Column(shown(knob, 40), is_number=True) for knob in of.knobs),
        Column("repeat", "", True),
        Column("status"),
        Column("reason"),
    ]
    rows, note = cut(
        [_row(of, place, ["repeat", "status", "error"]) for place in bad.index], MOST_ROWS, "study.cells"
    )
    return Table("Cells and repeats without a result, and why", columns, rows, note)


def _rows(of: _Study) -> Part:
    if of.cells.empty:
        return Text("There are none.")
    others = [
        name
        for name in ("repeat", "status", "order", "calls", "calls_reused", *of.values)
        if name in of.cells
    ]
    columns = [
        Column("cell"),
        *(Column(shown(knob, 40), is_number=True) for knob in of.knobs),
        *(_column_of(name) if name in of.values else Column(name, "", name != "status") for name in others),
    ]
    rows, note = cut(
        [_row(of, place, others) for place in of.cells.index[: MOST_ROWS + 1]], MOST_ROWS, "study.cells"
    )
    if note:
        note = f"The first {MOST_ROWS:,} of {len(of.cells):,} are shown. All of them: study.cells"
    return Fold(counted(len(of.cells), "row"), [Table("Every cell and repeat", columns, rows, note)])


def _row(of: _Study, place: Any, names: Sequence[str]) -> list[str]:
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
