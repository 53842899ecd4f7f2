"""Reading side by side: the right texts on the right sides, blind where asked, nothing unescaped."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pandas as pd
import pytest

from toolkit.quality import side_by_side
from toolkit.records import Episode, Status

NAMES = [f"bees {n}" for n in range(40)]
EPISODES = [Episode.from_text(name, "Bees dance and sleep.", reference="Bees dance.") for name in NAMES]
NASTY = '<script>alert("1")</script> & $x_1$ \x1b[31mred\u202e **b** {y} <img src=x onerror=alert(1)>'


class Tags(HTMLParser):
    """The tags of a page, and what it shows."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.tags.append(tag)
        assert not any(name.startswith("on") for name, _ in attributes)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def runs(make_run: Any) -> tuple[Any, Any]:
    return (
        make_run({name: f"A says of {name}." for name in NAMES}, "a", "one"),
        make_run({name: f"B says of {name}." for name in NAMES}, "b", "two"),
    )


def test_texts_and_scores_of_both(runs: Any) -> None:
    """The first run is on the left; scores and statuses of each side are its own."""
    pairs = side_by_side(*runs, EPISODES, kind="abstract")
    assert len(pairs) == len(EPISODES)
    first = pairs.frame.iloc[0]
    assert (first["left"], first["right"]) == ("A says of bees 0.", "B says of bees 0.")
    assert (first["kind"], first["reference"], first["left_status"]) == ("abstract", "Bees dance.", "ok")
    assert first["left_rouge1"] == pytest.approx(2 / 7)
    assert first["right_words"] == 5
    assert pairs.labels == ("p/one (run a)", "p/two (run b)")
    assert set(pairs.key["left"]) == {"a"}


def test_blind_tells_nothing(runs: Any) -> None:
    """Neither frame nor page nor repr names a run, a model, a status or a score."""
    pairs = side_by_side(*runs, EPISODES, blind=True)
    assert list(pairs.frame.columns) == ["episode_id", "title", "kind", "left", "right", "reference"]
    for shown in (repr(pairs), pairs._repr_html_()):
        assert not any(told in shown for told in ("p/one", "p/two", "run a", "run b", "rouge", "coverage"))


def test_key_says_which_is_which(runs: Any) -> None:
    """The sides are mixed, and the key puts each text back to its run."""
    pairs = side_by_side(*runs, EPISODES, blind=True)
    joined = pairs.frame.merge(pairs.key, on="episode_id", suffixes=("", "_run"))
    assert 10 < (joined["left_run"] == "a").sum() < 30
    for row in joined.itertuples():
        assert row.left.startswith(row.left_run.upper())
        assert row.right.startswith(row.right_run.upper())
        assert {row.left_run, row.right_run} == {"a", "b"}


def test_seed_decides_the_sides(runs: Any, make_run: Any) -> None:
    """The same seed mixes the same way, also fewer episodes; another seed mixes otherwise."""
    first = side_by_side(*runs, EPISODES, blind=True, seed=3).key
    pd.testing.assert_frame_equal(first, side_by_side(*runs, EPISODES, blind=True, seed=3).key)
    assert not first.equals(side_by_side(*runs, EPISODES, blind=True, seed=4).key)
    some = make_run({NAMES[5]: "A"}, "a"), make_run({NAMES[5]: "B"}, "b")
    alone = side_by_side(*some, EPISODES, blind=True, seed=3).key
    assert alone["left"][0] == first["left"][5]


def test_missing_summaries(make_run: Any) -> None:
    """A failed summary and an episode that a run has not are null, and the page says so."""
    pairs = side_by_side(
        make_run({"bees 0": Status.FAILED, "bees 1": "Bees."}), make_run({"bees 0": "Bees."}, "b"), EPISODES
    )
    assert pairs.frame["left"].isna().tolist() == [True, False]
    assert pairs.frame["right"].isna().tolist() == [False, True]
    assert pairs.frame["right_status"].isna().tolist() == [False, True]
    page = Tags(pairs._repr_html_()).text
    assert page.count("no summary") == 2
    assert "no summary (failed)" in page


def test_each_kind_has_its_row(make_run: Any) -> None:
    """Two references are two rows, each with its own text and score."""
    run = make_run({"bees 0": "Bees dance."})
    pairs = side_by_side(run, run, EPISODES, {"x": {"bees 0": "Bees dance."}, "y": {"bees 0": "No."}})
    assert pairs.frame[["kind", "reference"]].to_numpy().tolist() == [["x", "Bees dance."], ["y", "No."]]
    assert pairs.frame["left_rouge1"].tolist() == [1.0, 0.0]
    assert len(pairs.key) == 1


def test_everything_on_the_page_is_escaped(make_run: Any) -> None:
    """Texts, titles, ids, kinds, references and models show as they stand and are no markup."""
    episode = Episode.from_text(NASTY, "Bees dance.", reference=NASTY, title=NASTY)
    run = make_run({NASTY: NASTY}, "a", NASTY)
    for blind in (False, True):
        page = side_by_side(run, run, [episode], kind=NASTY, blind=blind)._repr_html_()
        shown = Tags(page)
        assert not set(shown.tags) & {"script", "img", "b", "a"}
        assert shown.text.count('<script>alert("1")</script> & $x_1$ red **b**') >= 3
        assert "\x1b" not in page
        assert "\u202e" not in page
        assert "mathjax_ignore" in page


def test_long_tables_are_shown_in_part(make_run: Any) -> None:
    """A page of thousands of rows would stop the notebook; the frame has them all."""
    many = [Episode.from_text(f"e{n}", "Bees.") for n in range(53)]
    run = make_run({episode.id: "Bees." for episode in many})
    pairs = side_by_side(run, run, many)
    assert len(pairs.frame) == 53
    assert "3 more rows are in .frame" in Tags(pairs._repr_html_()).text
    assert Tags(side_by_side(make_run({}), make_run({}), many)._repr_html_()).tags
