"""From scores to means with their confidence intervals; kinds of reference are kept apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from toolkit.errors import ConfigError
from toolkit.frames import COUNT, REAL, TEXT, Column, frame_of
from toolkit.intervals import mean_interval
from toolkit.quality.scoring import FIGURES, ROUGE_COLUMNS, SCORES

if TYPE_CHECKING:
    import pandas as pd

MEANS = (
    Column("run_id", TEXT, "", "the run"),
    Column("provider", TEXT, "", "who summarized"),
    Column("model", TEXT, "", "with which model"),
    Column("kind", TEXT, "", "kind of the references; null for measures that need none"),
    Column("measure", TEXT, "", "a column of the scores"),
    Column("episodes", COUNT, "episodes", "that the run was to summarize (with a reference of this kind)"),
    Column("failed", COUNT, "episodes", "of those, without a summary: failed or cancelled"),
    Column("n", COUNT, "episodes", "that the mean is over: those with a value"),
    Column("mean", REAL, "the measure's", "null if n is 0"),
    Column("low", REAL, "the measure's", "lower end of the interval; null if n is below 2"),
    Column("high", REAL, "the measure's", "its upper end"),
)

MEASURES = (*ROUGE_COLUMNS, *FIGURES)


def means(
    scores: pd.DataFrame, measures: Sequence[str] | None = None, *, confidence: float = 0.95
) -> pd.DataFrame:
    """Average scores over the episodes of each run.

    ROUGE is averaged for each kind of reference by itself. Measures without a reference are averaged over all
    episodes of the run, each once. Failed episodes are in no mean, neither as 0 nor in silence: ``failed``
    counts them, and a mean beside a high count is one over the easy episodes. Intervals are Student's t and
    not a bootstrap's: that resamples the few episodes there usually are, and is far too narrow for less than
    some twenty of them. Their ends may lie outside of a measure's range.

    Parameters
    ----------
    scores : DataFrame
        From ``scores``; those of several runs may be put together with ``pandas.concat``.
    measures : sequence of str, optional
        Columns to average; all by default. ``cut_off`` becomes the share of summaries cut off.
    confidence : float
        Level of the intervals, between 0 and 1.

    Returns
    -------
    DataFrame
        A row for each run, kind and measure; the columns are declared in ``toolkit.quality.MEANS``.

    Raises
    ------
    ConfigError
        If a measure is none, or the level is no share.
    """
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence={confidence!r} must be between 0 and 1, such as 0.95")
    wanted = list(MEASURES if measures is None else measures)
    for name in wanted:
        if name not in MEASURES:
            raise ConfigError(f"measures: {name!r} is none; there are {', '.join(MEASURES)}")
    missing = [column.name for column in SCORES if column.name not in scores.columns]
    if missing:
        raise ConfigError(f"scores: the columns {', '.join(missing)} are missing; take the frame of scores()")
    rows: list[dict[str, Any]] = []
    for run_id in scores["run_id"].unique():
        of_run = scores[scores["run_id"] == run_id]
        kinds = list(of_run["kind"].dropna().unique())
        for kind in kinds:
            rows += _rows(of_run[of_run["kind"] == kind], kind, _among(wanted, ROUGE_COLUMNS), confidence)
        once = of_run.drop_duplicates("episode_id")
        rows += _rows(once, None, _among(wanted, FIGURES), confidence)
    return frame_of(MEANS, rows)


def _rows(
    group: pd.DataFrame, kind: str | None, measures: Sequence[str], confidence: float
) -> Iterable[dict[str, Any]]:
    for measure in measures:
        mean = mean_interval(group[measure].astype(float), confidence)
        yield {
            **{name: group[name].iloc[0] for name in ("run_id", "provider", "model")},
            "kind": kind,
            "measure": measure,
            "episodes": len(group),
            "failed": int(group["status"].isin(["failed", "cancelled"]).sum()),
            "n": mean.number,
            "mean": mean.mean if mean.number else None,
            "low": mean.mean - mean.half_width if mean.number > 1 else None,
            "high": mean.mean + mean.half_width if mean.number > 1 else None,
        }


def _among(wanted: Sequence[str], some: Sequence[str]) -> list[str]:
    return [name for name in wanted if name in some]
