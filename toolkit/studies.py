"""The rows of a study: knobs and measures, their units, and means over repeats."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple

from toolkit.config import Config
from toolkit.errors import ConfigError
from toolkit.intervals import Mean, mean_of_settings
from toolkit.wording import counted, number, shown

if TYPE_CHECKING:
    import pandas as pd

MEASURES = {
    "makespan_s": ("makespan", "s"),
    "episodes_per_h": ("episodes", "1/h"),
    "output_tokens_per_s": ("output tokens", "1/s"),
    "rate_limited_attempts": ("rate-limited attempts", "attempts"),
    "quota_share": ("share of the quota", "of 1"),
    "cost_usd": ("cost", "USD"),
    "rouge1": ("ROUGE-1", "F1, 0 to 1"),
    "rouge2": ("ROUGE-2", "F1, 0 to 1"),
    "rougeL": ("ROUGE-L", "F1, 0 to 1"),
    "peak_rss_mb": ("peak memory", "MB"),
}
"""What a study measures, and the units."""
NO_KNOBS = frozenset({*MEASURES, "sweep_id", "cell", "repeat", "simulated", "status", "error"})
MOST_SERIES = 12
"""Values of a knob that can be told apart by how lines or points look."""
_UNITS = {
    "_per_minute": "1/min",
    "_per_h": "1/h",
    "_per_s": "1/s",
    "_tokens": "tokens",
    "_usd": "USD",
    "_mb": "MB",
    "_s": "s",
    "summary_batch_size": "episodes at a time",
    "summary_chunk_parallelism": "requests of an episode at a time",
    "_concurrent_requests": "requests",
}
"""Of knobs, by the ends of their names."""


def cells_of(study: Any, columns: Iterable[str]) -> pd.DataFrame:
    """Return the cells of a study: a row for each cell and repeat.

    Parameters
    ----------
    study : Sweep or DataFrame
        Anything with ``.cells``, or the cells themselves.
    columns : iterable of str
        Those that the plot is to show.

    Raises
    ------
    ConfigError
        If these are no cells, or have no such column.
    """
    import pandas as pd

    cells = study if isinstance(study, pd.DataFrame) else getattr(study, "cells", None)
    if not isinstance(cells, pd.DataFrame):
        raise ConfigError(
            "a study is what tk.sweep gives, or a DataFrame with a row for each cell and repeat; "
            f"this is a {type(study).__name__}"
        )
    known = [str(column) for column in cells.columns]
    for column in columns:
        if column not in known:
            close = get_close_matches(str(column), known, n=1)
            meant = f", did you mean {close[0]!r}?" if close else ""
            raise ConfigError(
                f"the study has no column {column!r}{meant}; its columns are {', '.join(known) or '(none)'}"
            )
    return cells


def label_of(column: str) -> str:
    """Return a column's name with its unit, as an axis is labelled."""
    if column in MEASURES:
        name, unit = MEASURES[column]
        return f"{name} ({unit})"
    unit = unit_of(column)
    return f"{shown(column, 40)} ({unit})" if unit else shown(column, 40)


def unit_of(column: str) -> str:
    """Return the unit of a measure or a knob, or nothing."""
    if column in MEASURES:
        return MEASURES[column][1]
    return next((unit for end, unit in _UNITS.items() if column.endswith(end)), "")


def knobs_of(cells: pd.DataFrame) -> list[str]:
    """Return the settings that vary; of a table without settings, all that is no measure."""
    names = [str(column) for column in cells.columns if column not in NO_KNOBS]
    settings = [name for name in names if name in Config.model_fields]
    return [name for name in settings or names if len(set(map(_hashable, cells[name]))) > 1]


def values_of(cells: pd.DataFrame, column: str) -> pd.Series:
    """Return a measure as numbers; those of cells that failed are NaN, and so is what is infinite.

    Raises
    ------
    ConfigError
        If the column has no numbers.
    """
    import numpy as np
    import pandas as pd

    try:
        values = pd.to_numeric(cells[column]).astype("float64").replace([np.inf, -np.inf], np.nan)
    except (TypeError, ValueError):
        raise ConfigError(f"the column {column!r} has no numbers, which are needed here") from None
    return values.mask(failed(cells))


def failed(cells: pd.DataFrame) -> pd.Series:
    """Return which rows have no result of a finished run."""
    if "status" not in cells:
        return cells.index.to_series().map(lambda _: False).astype(bool)
    return ~cells["status"].isin(["ok", "partial"])


def levels_of(cells: pd.DataFrame, column: str) -> tuple[list[Any], pd.Series]:
    """Return the values of a knob in order, and the place of each row's value among them.

    Numbers are in their order, everything else in that of the study; none comes last.
    """
    import pandas as pd

    values = [_hashable(value) for value in cells[column]]
    levels = [value for value in dict.fromkeys(values) if value is not None]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in levels):
        levels.sort()
    if None in values:
        levels.append(None)
    place = {value: place for place, value in enumerate(levels)}
    places = pd.Series([place[value] for value in values], index=cells.index, dtype="int64")
    return levels, places


def series_of(cells: pd.DataFrame, by: str | None) -> tuple[list[Any], pd.Series]:
    """Return the same of the knob by whose values lines or points look different; without one, all are alike.

    Raises
    ------
    ConfigError
        If it has more values than can be told apart.
    """
    import pandas as pd

    if not by:
        return [None], pd.Series(0, index=cells.index)
    levels, places = levels_of(cells, by)
    if len(levels) > MOST_SERIES:
        raise ConfigError(f"by={by!r} has {len(levels)} values, of which {MOST_SERIES} can be told apart")
    return levels, places


def _hashable(value: Any) -> Any:
    """Return a value of a knob as something that can be compared: lists as text, what is missing as None."""
    import pandas as pd

    if isinstance(value, list | tuple | dict | set):
        return str(value)
    if value is None or pd.isna(value):
        return None
    if hasattr(value, "item"):
        value = value.item()
    try:
        hash(value)
    except TypeError:
        return str(value)
    return value


def key_of(cells: pd.DataFrame) -> pd.Series:
    """Return a number for each row that tells its cell from the others: by its knobs, if it has no number."""
    import pandas as pd

    if "cell" in cells:
        names = ["sweep_id", "cell"] if "sweep_id" in cells else ["cell"]
        return cells.groupby(names, sort=False, dropna=False).ngroup()
    if not (knobs := knobs_of(cells)):
        return pd.Series(0, index=cells.index)
    places = pd.DataFrame({knob: levels_of(cells, knob)[1] for knob in knobs})
    return places.groupby(knobs, sort=False).ngroup()


class Group(NamedTuple):
    """What is known of the rows that a point or a field of a plot stands for.

    Attributes
    ----------
    mean : Mean
        Of the means of its cells.
    rows, failed : int
        How many there are, and how many of them failed. What neither failed nor counts in the mean has no
        value, as the makespan of a cell that was resumed.
    """

    mean: Mean
    rows: int
    failed: int

    @property
    def why_empty(self) -> str:
        """Why there is no mean."""
        return "failed" if self.failed == self.rows else "no value"

    @property
    def left_out(self) -> str:
        """What the mean is of, where it is not of all rows: ``2 of 3 ok``, ``2 of 3 known``; else nothing."""
        if self.mean.number == self.rows:
            return ""
        # Rows that went well and have no value are as ok as others.
        what = "ok" if self.mean.number + self.failed == self.rows else "known"
        return f"{self.mean.number} of {self.rows} {what}"


def groups_of(cells: pd.DataFrame, values: pd.Series, places: Sequence[pd.Series]) -> dict[Any, Group]:
    """Return what is known of the rows that have their places in common, ordered by place."""
    repeats: dict[Any, dict[int, list[float]]] = {}
    lost: dict[Any, int] = {}
    for key, value, bad, *place in zip(key_of(cells), values, failed(cells), *places, strict=True):
        repeats.setdefault(tuple(place), {}).setdefault(key, []).append(value)
        lost[tuple(place)] = lost.get(tuple(place), 0) + bool(bad)
    return {
        place: Group(mean_of_settings(own.values()), sum(map(len, own.values())), lost[place])
        for place, own in sorted(repeats.items())
    }


def in_intervals(levels: list[Any], places: pd.Series, most: int) -> tuple[list[Any], pd.Series, bool]:
    """Return levels and places as they are, or numbers in intervals of even width if they are too many."""
    import numpy as np

    numbers = [level for level in levels if isinstance(level, int | float)]
    if len(levels) <= most or len(numbers) < len(levels):
        return levels, places, False
    edges = np.linspace(min(numbers), max(numbers), most // 2 + 1)
    where = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, len(edges) - 2)
    return [f"from {number(edge)}" for edge in edges[:-1]], places.map(dict(enumerate(where))), True


def notes_of_cells(cells: pd.DataFrame, shown_columns: Sequence[str]) -> list[str]:
    """Return what a reader must know of a study: simulated, failed, repeats, and what was averaged over."""
    notes = []
    if "simulated" in cells:
        simulated = cells["simulated"].fillna(False).astype(bool)
        if simulated.any():
            notes.append("simulated" if simulated.all() else f"{int(simulated.sum())} rows simulated")
    if "repeat" in cells and len(cells):
        notes.append(counted(int(cells["repeat"].nunique()), "repeat"))
    if lost := int(failed(cells).sum()):
        notes.append(f"{lost} of {counted(len(cells), 'row')} failed")
    if others := [knob for knob in knobs_of(cells) if knob not in shown_columns]:
        notes.append(f"mean also over {', '.join(shown(other, 30) for other in others[:3])}")
        if len(others) > 3:
            notes[-1] += f" and {len(others) - 3} more"
    return notes
