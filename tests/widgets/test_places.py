"""A cell that is run again has one panel, and not two."""

from __future__ import annotations

import pytest

from toolkit.widgets import places
from toolkit.widgets.places import Place, stand


@pytest.fixture(autouse=True)
def empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_standing", {})


def test_the_next_time_takes_the_place_of_the_last() -> None:
    """The panel that it showed before is gone from the page."""
    assert stand("first", Place("a", "1")) == []
    assert stand("second", Place("a", "2")) == ["first"]
    assert stand("third", Place("a", "3")) == ["second"]


def test_two_panels_of_one_cell_stand_beside_each_other() -> None:
    """They were shown at the same time, and go together."""
    assert stand("one", Place("a", "1")) == []
    assert stand("other", Place("a", "1")) == []
    assert stand("new", Place("a", "2")) == ["one", "other"]


def test_other_cells_are_others() -> None:
    """Two panels at once do not know of each other."""
    assert stand("one", Place("a", "1")) == []
    assert stand("other", Place("b", "2")) == []


def test_a_panel_stands_where_it_was_shown_last() -> None:
    """One that was shown again further down is not taken away with the cell that made it."""
    stand("panel", Place("a", "1"))
    stand("panel", Place("b", "2"))
    assert stand("new", Place("a", "3")) == []


def test_outside_of_a_notebook_there_are_no_places() -> None:
    """A front end that does not say which cell it runs has none either."""
    assert stand("panel") == []
    assert places._standing == {}
