"""A DataFrame as a table to be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from toolkit.parts import Column, Table, left_out
from toolkit.settings import written
from toolkit.studies import unit_of
from toolkit.wording import NONE, is_missing, real, shown

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 30
_WIDTH = 60


def table_of(frame: pd.DataFrame, caption: str, whole: str, most: int = MOST_ROWS) -> Table:
    """Return the first rows of a frame; ``whole`` is how to get all of them."""
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    columns = [
        Column(
            shown(name, 40),
            unit_of(str(name)),
            is_numeric_dtype(frame[name]) and not is_bool_dtype(frame[name]),
        )
        for name in frame.columns
    ]
    rows = [[cell_of(value) for value in row] for row in frame.head(most).itertuples(index=False)]
    return Table(caption, columns, rows, left_out(len(frame), most, whole))


def cell_of(value: Any) -> str:
    """Return a value of a frame on one line."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, bool):
        return "yes" if value else ""
    if is_missing(value):
        return NONE
    if isinstance(value, int):
        return f"{value:,}"
    return real(value) if isinstance(value, float) else shown(written(value), _WIDTH)
