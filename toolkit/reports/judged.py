"""How good the summaries of runs are, where their episodes are at hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from toolkit import quality
from toolkit.errors import ToolkitError
from toolkit.parts import Absent, Column, Fold, Part, Table, Text, cut
from toolkit.records import Episode
from toolkit.runs import Run
from toolkit.wording import NONE, is_missing, plain, real, shown

if TYPE_CHECKING:
    import pandas as pd

MEASURES = (
    *("rouge1", "rouge2", "rougeL", "coverage", "coverage_evenness", "novelty1", "repetition"),
    *("words", "compression", "cut_off"),
)
"""Of ``toolkit.quality.SCORES``, those that a page has room for."""
MOST_ROWS = 200


def quality_parts(runs: Sequence[Run], names: Sequence[str], episodes: Sequence[Episode]) -> list[Part]:
    """Return means of the scores, a column for each run, and the scores of every episode folded."""
    if all(not record.summary.text for run in runs for record in run.records):
        return [Absent("Quality", "There is no summary to judge.")]
    try:
        scores = [quality.scores(run, episodes) for run in runs]
    except ToolkitError as error:
        return [Absent("Quality", plain(error))]
    parts: list[Part] = [
        _means(scores, names),
        Text("No figure replaces reading: a summary may score well and be wrong."),
    ]
    for name, table in zip(names, scores, strict=True):
        title = "Scores of every episode" if len(runs) == 1 else f"Scores of every episode: {name}"
        parts.append(Fold(title, [_scores(table)]))
    return parts


def _means(scores: Sequence[pd.DataFrame], names: Sequence[str]) -> Part:
    found: list[dict[tuple[str, str], str]] = []
    for table in scores:
        means = quality.means(table, list(MEASURES))
        found.append(
            {
                (str(row.measure), NONE if is_missing(row.kind) else plain(row.kind, 60)): _mean(row)
                for row in means.itertuples(index=False)
            }
        )
    meanings = {column.name: column.meaning for column in quality.SCORES}
    keys = sorted(
        dict.fromkeys(key for own in found for key in own), key=lambda key: (key[1], MEASURES.index(key[0]))
    )
    columns = [
        Column("measure"),
        Column("kind of reference"),
        *(Column(name, "", True) for name in names),
        Column("what it is"),
    ]
    rows = [
        [measure, kind, *(own.get((measure, kind), NONE) for own in found), meanings[measure]]
        for measure, kind in keys
    ]
    caption = "Means over episodes, ± half of the 95 % confidence interval (Student's t), and over how many"
    return Table(caption, columns, rows)


def _mean(row: Any) -> str:
    if is_missing(row.mean):
        return NONE
    spread = "" if is_missing(row.high) or math.isinf(row.high) else f" ± {real(row.high - row.mean)}"
    failed = f", {row.failed} failed" if row.failed else ""
    return f"{real(row.mean)}{spread} ({row.n}{failed})"


def _scores(table: pd.DataFrame) -> Part:
    columns = [
        Column("episode"),
        Column("kind of reference"),
        *(Column(name, "", True) for name in MEASURES),
    ]
    rows, note = cut(
        [
            [
                shown(row.episode_id, 60),
                NONE if is_missing(row.kind) else plain(row.kind, 60),
                *(_value(getattr(row, name)) for name in MEASURES),
            ]
            for row in table.itertuples(index=False)
        ],
        MOST_ROWS,
        "tk.quality.scores(run, episodes)",
    )
    return Table("Scores by episode and kind of reference", columns, rows, note)


def _value(value: Any) -> str:
    # A column of flags without nulls gives numpy's, which are no bool.
    value = value.item() if hasattr(value, "item") else value
    return ("yes" if value else "no") if isinstance(value, bool) else real(value)
