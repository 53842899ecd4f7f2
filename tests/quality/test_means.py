"""Means: kinds apart, failed episodes counted, intervals right."""

from __future__ import annotations

import random
import statistics
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.errors import ConfigError
from toolkit.quality import MEANS, mean_interval, means, scores
from toolkit.quality.averages import MEASURES, student_t
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


@pytest.mark.parametrize(
    ("share", "freedom", "quantile"),
    # From printed tables of Student's t.
    [
        (0.975, 1, 12.706),
        (0.975, 2, 4.303),
        (0.975, 4, 2.776),
        (0.95, 9, 1.833),
        (0.995, 3, 5.841),
        (0.9995, 1, 636.62),
        (0.975, 30, 2.042),
        (0.975, 1000, 1.962),
        (0.975, 10**6, 1.960),
    ],
)
def test_student_t(share: float, freedom: int, quantile: float) -> None:
    """The quantiles are those of the tables."""
    assert student_t(share, freedom) == pytest.approx(quantile, abs=6e-4, rel=1e-4)


def test_interval_by_hand() -> None:
    """1, 2, 3: mean 2, deviation 1, and 4.303 standard errors to each side."""
    assert mean_interval([1, 2, 3]) == (
        3,
        2,
        pytest.approx(2 - 4.3027 / 3**0.5, 1e-4),
        pytest.approx(2 + 4.3027 / 3**0.5, 1e-4),
    )
    assert mean_interval([0.4]) == (1, 0.4, None, None)
    assert mean_interval([]) == (0, None, None, None)


def test_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Of 2,000 samples of five, 90 % intervals miss the true mean in about one in ten."""
    source = random.Random(1)
    held = 0
    for _ in range(2000):
        found = mean_interval([source.gauss(0.3, 0.1) for _ in range(5)], 0.9)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.3 <= found.high
    assert held / 2000 == pytest.approx(0.9, abs=0.02)


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=20))
@settings(deadline=None)
def test_interval_is_around_the_mean(values: list[float]) -> None:
    """The mean lies in the middle, and a higher level is wider."""
    narrow, wide = mean_interval(values, 0.5), mean_interval(values, 0.99)
    assert narrow.mean == pytest.approx(statistics.fmean(values))
    assert None not in narrow
    assert None not in wide
    assert wide.low <= narrow.low <= narrow.mean <= narrow.high <= wide.high  # type: ignore[operator]


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
