"""The frame of scores: which rows there are, and what is null."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

import toolkit as tk
from toolkit.errors import ConfigError
from toolkit.quality import SCORES, scores
from toolkit.quality.scoring import FIGURES, ROUGE_COLUMNS
from toolkit.records import Episode, Status

BEES = Episode.from_text("bees", "Bees dance to show the way to flowers.", reference="Bees show the way.")
TRAINS = Episode.from_text("trains", "Night trains are slow and people like them.")
MILLS = Episode.from_text("mills", "Mills grind rye by the sea.", reference="Mills grind.")
EPISODES = [BEES, TRAINS, MILLS]


def test_frame_is_as_declared(make_run: Any) -> None:
    """Columns and types are the declared ones, also of a run without any episode."""
    for summaries in ({}, {"bees": "Bees dance."}, {"bees": Status.FAILED}):
        table = scores(make_run(summaries), EPISODES)
        assert [(name, str(dtype)) for name, dtype in table.dtypes.items()] == [
            (column.name, column.dtype) for column in SCORES
        ]
        assert len(table) == len(summaries)


def test_a_row_for_each_episode_of_the_run(make_run: Any) -> None:
    """Episodes with and without a reference have a row, in the run's order; others have none."""
    table = scores(make_run({"trains": "Trains.", "bees": "Bees show the way."}), EPISODES)
    assert table["episode_id"].tolist() == ["trains", "bees"]
    assert table["kind"].isna().tolist() == [True, False]
    assert table["rouge1"].isna().tolist() == [True, False]
    assert table["rouge1"][1] == 1.0
    assert table["coverage"].notna().all()


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
def test_failed_episode_has_nulls(make_run: Any, status: Status) -> None:
    """A summary that is not there is neither worth 0 nor passed over."""
    (_, row) = next(scores(make_run({"bees": status}), EPISODES).iterrows())
    assert (row["status"], row["kind"]) == (status, "unstated")
    assert row[[*ROUGE_COLUMNS, *FIGURES]].isna().all()


def test_partial_summary_is_scored(make_run: Any) -> None:
    """What is there of it can be read, and its status says that something is missing."""
    table = scores(make_run({"bees": ("Bees show the way.", Status.PARTIAL)}), EPISODES)
    assert (table["status"][0], table["rouge1"][0]) == ("partial", 1.0)


def test_each_kind_of_reference_is_a_row(make_run: Any) -> None:
    """An episode with two references of two kinds has two rows, alike but for ROUGE."""
    references = {
        "abstract": {"bees": "Bees show the way.", "mills": "Mills grind."},
        "topics": {"bees": "flowers, ways"},
    }
    table = scores(make_run({"bees": "Bees show the way.", "mills": "Mills."}), EPISODES, references)
    assert table[["episode_id", "kind"]].to_numpy().tolist() == [
        ["bees", "abstract"],
        ["bees", "topics"],
        ["mills", "abstract"],
    ]
    assert table["rouge1"][0] > table["rouge1"][1] > 0
    assert table[list(FIGURES)].iloc[0].equals(table[list(FIGURES)].iloc[1])


@pytest.mark.parametrize(
    "kind",
    [
        "blurb",
        {"bees": "blurb", "mills": "blurb", "no such": "x"},
        {"bees": "blurb", "mills": "notes", "trains": math.nan},
    ],
)
def test_kind_is_stated(make_run: Any, kind: Any) -> None:
    """One kind for all, or one for each; what a table says of other episodes does no harm."""
    table = scores(make_run({"bees": "Bees.", "mills": "Mills.", "trains": "T."}), EPISODES, kind=kind)
    expected = [kind, kind] if isinstance(kind, str) else [kind["bees"], kind["mills"]]
    assert table["kind"].tolist()[:2] == expected
    assert pd.isna(table["kind"][2])


def test_references_of_ones_own_take_the_place_of_the_episodes(make_run: Any) -> None:
    """Blank ones and NaN (as tables have them) are none."""
    run = make_run({"bees": "Bees.", "trains": "Trains run.", "mills": "Mills."})
    table = scores(run, EPISODES, {"trains": "Trains run.", "bees": " ", "mills": math.nan}, kind="mine")
    assert table["kind"].fillna("").tolist() == ["", "mine", ""]
    assert table["rouge1"].tolist()[1] == 1.0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"references": {"beez": "Bees."}}, "no episode 'beez'; did you mean 'bees'"),
        ({"references": {"abstract": {"beez": "Bees."}}}, "no episode 'beez'; did you mean 'bees'"),
        ({"kind": {"bees": "blurb"}}, "episode 'mills' has none"),
        ({"kind": {"bees": "blurb", "mills": math.nan}}, "episode 'mills' has none"),
        ({"kind": " "}, "'bees' has none"),
        ({"references": {"abstract": {}}, "kind": "x"}, "leave out kind="),
        ({"references": {"abstract": {}, "bees": "Bees."}}, "'bees' holds a text where others"),
        ({"episodes": [TRAINS]}, "'bees' of run run is not among them"),
    ],
)
def test_what_does_not_fit_is_refused(make_run: Any, arguments: Any, says: str) -> None:
    """A misspelt id or a missing kind is said, not scored around."""
    with pytest.raises(ConfigError, match=says):
        scores(make_run({"bees": "Bees."}), **{"episodes": EPISODES, **arguments})


def test_from_end_to_end() -> None:
    """Baselines of the samples against their references, also read back from the store."""
    episodes = tk.load_episodes("data/episodes")
    run = tk.run(episodes, tk.Config(provider="lead"), progress=False)
    table = tk.quality.scores(run, episodes, kind="abstract")
    assert len(table) == len(episodes)
    assert table["rouge1"].notna().sum() == sum(episode.reference is not None for episode in episodes)
    assert table["novelty1"].eq(0).all()
    again = tk.quality.scores(tk.open_store().run(run.id), episodes, kind="abstract")
    pd.testing.assert_frame_equal(table, again)
