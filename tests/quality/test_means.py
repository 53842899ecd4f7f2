"""Means: kinds apart, failed episodes counted, intervals right."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from toolkit.errors import ConfigError
from toolkit.quality import MEANS, means, scores
from toolkit.quality.averages import MEASURES
from toolkit.records import Episode, Status

EPISODES = [
    Episode.from_text(name, f"{name} dance and {name} sleep") for name in ("bees", "cats", "dogs", "emus")
]


def row(table: pd.DataFrame, kind: str | None, measure: str) -> Any:
    of_kind = table["kind"].isna() if kind is None else table["kind"] == kind
    (found,) = table[of_kind & (table["measure"] == measure)].itertuples()
    return found


@pytest.fixture
def two_kinds(make_run: Any) -> pd.DataFrame:
    """Return scores of four episodes, one failed: two abstracts (1 and 0), three blurbs (1, 0 and failed)."""
    references = {
        "abstract": {"bees": "bees dance", "cats": "dogs"},
        "blurb": {"cats": "cats sleep", "dogs": "rye", "emus": "emus"},
    }
    summaries = {"bees": "bees dance", "cats": "cats sleep", "dogs": "dogs run far", "emus": Status.FAILED}
    return scores(make_run(summaries), EPISODES, references)


def test_kinds_are_never_averaged_together(two_kinds: pd.DataFrame) -> None:
    """Each kind has its own mean, over its own episodes; there is none over both."""
    table = means(two_kinds, ["rouge1"])
    assert sorted(table["kind"]) == ["abstract", "blurb"]
    assert (row(table, "abstract", "rouge1").mean, row(table, "abstract", "rouge1").n) == (0.5, 2)
    assert (row(table, "blurb", "rouge1").mean, row(table, "blurb", "rouge1").n) == (0.5, 2)


def test_failed_episodes_are_counted(two_kinds: pd.DataFrame) -> None:
    """They are in no mean as 0, and the table says that they are missing."""
    found = row(means(two_kinds), "blurb", "rouge1")
    assert (found.episodes, found.failed, found.n, found.mean) == (3, 1, 2, 0.5)
    assert row(means(two_kinds), "abstract", "rouge1").failed == 0


def test_measures_without_reference_count_each_episode_once(two_kinds: pd.DataFrame) -> None:
    """An episode with two references has one length."""
    found = row(means(two_kinds), None, "words")
    assert (found.episodes, found.failed, found.n) == (4, 1, 3)
    assert found.mean == pytest.approx(7 / 3)
    assert row(means(two_kinds), None, "cut_off").mean == 1


def test_runs_are_kept_apart(make_run: Any) -> None:
    """Scores of several runs, put together, have a mean for each."""
    runs = [make_run({"bees": "bees dance"}, "a", "x"), make_run({"bees": "cats"}, "b", "y")]
    table = means(pd.concat([scores(run, EPISODES) for run in runs]), ["words"])
    assert table[["run_id", "model", "mean"]].to_numpy().tolist() == [["a", "x", 2.0], ["b", "y", 1.0]]


def test_run_in_which_nothing_succeeded(make_run: Any) -> None:
    """There are rows, all of them without a mean, and they say how many failed."""
    references = {"bees": "bees", "cats": "cats"}
    table = means(scores(make_run({"bees": Status.FAILED, "cats": Status.CANCELLED}), EPISODES, references))
    assert len(table) == len(MEASURES)
    assert (table["failed"] == 2).all()
    assert (table["n"] == 0).all()
    assert table[["mean", "low", "high"]].isna().all(axis=None)


def test_empty_run(make_run: Any) -> None:
    """No episodes, no means, the same columns."""
    table = means(scores(make_run({}), EPISODES))
    assert table.empty
    assert [(name, str(dtype)) for name, dtype in table.dtypes.items()] == [
        (column.name, column.dtype) for column in MEANS
    ]


def test_intervals_are_those_of_the_episodes(make_run: Any) -> None:
    """Summaries of 1, 2 and 3 words: a mean of 2, and 4.303 / sqrt(3) to each side; of one episode, none."""
    summaries = {"bees": "a", "cats": "b c", "dogs": "d e f"}
    found = row(means(scores(make_run(summaries), EPISODES)), None, "words")
    assert (found.mean, found.n) == (2, 3)
    assert (found.low, found.high) == (pytest.approx(2 - 2.4841, abs=1e-3), pytest.approx(4.4841, abs=1e-3))
    alone = row(means(scores(make_run({"bees": "a"}), EPISODES)), None, "words")
    assert (alone.mean, alone.n) == (1, 1)
    assert pd.isna(alone.low)
    assert pd.isna(alone.high)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"measures": ["rouge3"]}, "'rouge3' is none; there are rouge1, "),
        ({"measures": ["kind"]}, "'kind' is none"),
        ({"confidence": 95}, "between 0 and 1"),
        ({"confidence": 1.0}, "between 0 and 1"),
    ],
)
def test_wrong_arguments(two_kinds: pd.DataFrame, arguments: Any, says: str) -> None:
    """What cannot be averaged is refused with what can."""
    with pytest.raises(ConfigError, match=says):
        means(two_kinds, **arguments)


def test_another_frame_is_refused(two_kinds: pd.DataFrame) -> None:
    """A frame without kinds could hide that there are two."""
    with pytest.raises(ConfigError, match="columns kind are missing"):
        means(two_kinds.drop(columns="kind"))
