"""Looking around in a study: what can be chosen, what is shown, and the lines that do the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from typing import Any

import numpy as np
import pandas as pd
import pytest

from toolkit import plots
from toolkit.config import Config
from toolkit.errors import ConfigError
from toolkit.records import Episode
from toolkit.sweeps import sweep
from toolkit.widgets import SweepExplorer

GRID = {"summary_batch_size": [1, 2, 4], "chunk_tokens": [32, 64]}


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    yield
    from matplotlib import pyplot

    pyplot.close("all")


@pytest.fixture(scope="module")
def episodes() -> list[Episode]:
    line = " ".join(["word"] * 30)
    return [
        Episode.from_text(f"e{n}", f"Hill{n} {line} dry.\nDale{n} {line} wet.", reference=f"Hill{n} dry.")
        for n in range(2)
    ]


def swept(episodes: list[Episode]) -> Any:
    """Return a study of six cells."""
    config = Config(provider="scripted", store_url="memory://")
    return sweep(episodes, config, GRID, repeats=2, progress=False)


@pytest.fixture(scope="module")
def study(episodes: list[Episode]) -> Any:
    """One for all tests that look at its cells."""
    return swept(episodes)


@pytest.fixture
def read_study(episodes: list[Episode]) -> Any:
    """One whose runs can be fetched: a store in memory ends with the test."""
    return swept(episodes)


def table(**columns: Any) -> pd.DataFrame:
    """Return cells that need no run."""
    batches = columns.pop("batches", [1, 1, 2, 2])
    return pd.DataFrame(
        {
            "cell": range(1, len(batches) + 1),
            "repeat": 1,
            "summary_batch_size": batches,
            "chunk_tokens": [32, 64] * (len(batches) // 2),
            "status": "ok",
            "error": None,
            "makespan_s": [4.0, 3.0, 2.0, 1.0] * (len(batches) // 4),
            "rougeL": [0.1, 0.2, 0.3, 0.4] * (len(batches) // 4),
            **columns,
        }
    )


def said(explorer: SweepExplorer, view: str) -> str:
    """Return what can be read in a part of it."""
    page = re.sub(r"<style>.*?</style>", "", explorer._views[view].value, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())


def set_to(explorer: SweepExplorer, **values: Any) -> None:
    for name, value in values.items():
        explorer.controls[name].value = value


def test_it_begins_with_what_is_worth_a_look(study: Any) -> None:
    """Speed over the two knobs; all cells in a table, the best first; nothing compared yet."""
    explorer = SweepExplorer(study)
    choice = explorer.choice
    assert (choice.plot, choice.x, choice.y) == ("heatmap", "summary_batch_size", "chunk_tokens")
    assert choice.value == "episodes_per_h"
    assert "data:image/" in explorer._views["plot"].value
    best = str(study.best()["cell"])
    assert f"(MB) {best} " in said(explorer, "cells").replace("peak memory (MB)", "(MB)")
    assert "Choose two cells" in said(explorer, "summaries")
    assert "12 of 12 rows" in said(explorer, "head")


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"value": "makespan_s", "where": "chunk_tokens > 32"},
        {"plot": "lines", "by": "chunk_tokens"},
        {"plot": "pareto", "cost": "makespan_s", "quality": "rougeL", "where": 'status == "ok"'},
    ],
    ids=["heatmap", "filtered", "lines", "pareto"],
)
@pytest.mark.parametrize("kind", ["sweep", "frame"])
def test_the_lines_draw_the_same(study: Any, chosen: dict[str, Any], kind: str) -> None:
    """Run in a notebook they give the plot that is shown, of the same cells."""
    explorer = SweepExplorer(study if kind == "sweep" else study.cells)
    set_to(explorer, **chosen)
    scope: dict[str, Any] = {"study": explorer._study}
    *before, last = explorer.code().splitlines()
    exec("\n".join([*before, f"drawn = {last}"]), scope)
    choice = explorer.choice
    same = getattr(plots, choice.plot)(explorer.cells, **choice.arguments)
    drawn = scope["drawn"]
    assert drawn.get_title(loc="left") == same.get_title(loc="left")
    assert (drawn.get_xlabel(), drawn.get_ylabel()) == (same.get_xlabel(), same.get_ylabel())
    for kinds in ("lines", "images", "collections"):
        assert len(getattr(drawn, kinds)) == len(getattr(same, kinds))
    for one, other in zip(drawn.images, same.images, strict=True):
        np.testing.assert_array_equal(one.get_array(), other.get_array())
    for one, other in zip(drawn.lines, same.lines, strict=True):
        np.testing.assert_array_equal(one.get_xydata(), other.get_xydata())


def test_a_control_draws_anew(study: Any) -> None:
    """Plot, table and lines follow what is chosen."""
    explorer = SweepExplorer(study)
    before = explorer._views["plot"].value
    set_to(explorer, value="makespan_s")
    assert explorer._views["plot"].value != before
    assert "Makespan (s) by" in said(explorer, "plot")
    assert "value='makespan_s'" in said(explorer, "code")


def test_only_what_a_plot_takes_can_be_chosen(study: Any) -> None:
    """The other controls are out of the way."""
    explorer = SweepExplorer(study)
    for plot, used in {"heatmap": "x y value", "lines": "x value by", "pareto": "cost quality by"}.items():
        set_to(explorer, plot=plot)
        names = ("x", "y", "value", "by", "cost", "quality")
        assert [name for name in names if explorer.controls[name].layout.display != "none"] == [
            name for name in names if name in used.split()
        ]


def test_a_knob_has_one_axis(study: Any) -> None:
    """Chosen for the other one, the two change places; a plot that needs two never gets the same twice."""
    explorer = SweepExplorer(study)
    set_to(explorer, x="chunk_tokens")
    assert (explorer.choice.x, explorer.choice.y) == ("chunk_tokens", "summary_batch_size")
    assert explorer.controls["y"].value == "summary_batch_size"
    set_to(explorer, y="chunk_tokens")
    assert (explorer.choice.x, explorer.choice.y) == ("summary_batch_size", "chunk_tokens")
    set_to(explorer, plot="lines", x="chunk_tokens")
    set_to(explorer, plot="heatmap")
    assert {explorer.choice.x, explorer.choice.y} == {"chunk_tokens", "summary_batch_size"}
    assert explorer.controls["y"].value == explorer.choice.y


def test_a_filter_chooses_the_rows(study: Any) -> None:
    """In plot, table and ``cells``."""
    explorer = SweepExplorer(study)
    set_to(explorer, where="chunk_tokens == 64 and summary_batch_size > 1")
    assert len(explorer.cells) == 4
    assert set(explorer.cells["chunk_tokens"]) == {64}
    assert "4 of 12 rows" in said(explorer, "head")
    # By itself: measured times may have these digits among theirs.
    assert not re.search(r"(?<![\d.,])32(?![\d.,])", said(explorer, "cells").split("peak memory")[1])
    set_to(explorer, where="")
    assert len(explorer.cells) == 12


@pytest.mark.parametrize("wrong", ["chunk_tokens >", "nonsense == 1", "chunk_tokens", "1", "model ==", "@x"])
def test_a_filter_that_does_not_work_says_so(study: Any, wrong: str) -> None:
    """What is shown, and what the lines say, stay as they were."""
    explorer = SweepExplorer(study)
    set_to(explorer, where="chunk_tokens == 64")
    code = explorer.code()
    set_to(explorer, where=wrong)
    assert "Filter. the filter" in said(explorer, "head")
    assert "such as summary_batch_size == 1" in said(explorer, "head")
    assert len(explorer.cells) == 6
    assert explorer.code() == code


def test_a_filter_that_lets_nothing_through(study: Any) -> None:
    """Says that there is nothing to draw."""
    explorer = SweepExplorer(study)
    set_to(explorer, where="chunk_tokens > 1000")
    assert "no cells" in said(explorer, "plot")
    assert "There are no cells." in said(explorer, "cells")


def test_two_cells_are_read_beside_each_other(read_study: Any, episodes: list[Episode]) -> None:
    """With their settings; with the episodes at hand, scores and references too."""
    explorer = SweepExplorer(read_study)
    set_to(explorer, left=1, right=4, repeat=2)
    explorer.controls["compare"].click()
    text = said(explorer, "summaries")
    assert "Cell 1: summary_batch_size = 1, chunk_tokens = 32" in text
    assert "Cell 4: summary_batch_size = 2, chunk_tokens = 64" in text
    assert read_study.runs[4, 2].summary("e1").text.split("\n")[0] in text
    assert "rougeL" not in text
    assert explorer.code().splitlines()[-1] == "tk.quality.side_by_side(study.runs[1, 2], study.runs[4, 2])"

    known = SweepExplorer(read_study, episodes)
    known.compare(1, 4)
    text = said(known, "summaries")
    assert "rougeL" in text
    assert "Reference Hill0 dry." in text
    assert "study.runs[4, 1], episodes)" in known.code()


def test_a_run_that_is_not_there_is_said(read_study: Any) -> None:
    """A cell that failed before it had a run has none."""
    read_study.runs._fetches.pop((4, 1))
    explorer = SweepExplorer(read_study)
    explorer.compare(1, 4)
    assert "no run of cell and repeat (4, 1)" in said(explorer, "summaries")


def test_a_simulated_sweep_has_no_texts(episodes: list[Episode]) -> None:
    """All else is there."""
    study = sweep(
        episodes, Config(provider="scripted"), GRID, simulate=True, latency=1.0, score=False, progress=False
    )
    explorer = SweepExplorer(study)
    assert "data:image/" in explorer._views["plot"].value
    explorer.compare(1, 2)
    assert "There are none: simulated runs have no texts." in said(explorer, "summaries")
    assert "Simulated." in said(explorer, "head")


def test_a_sweep_in_which_nothing_succeeded(episodes: list[Episode]) -> None:
    """Says which cells failed and why, and that there is nothing to draw."""
    study = sweep(episodes, Config(), {"provider": ["nobody", "no-one"]}, progress=False)
    explorer = SweepExplorer(study)
    assert explorer.choice.plot is None
    assert "No cell has a result." in said(explorer, "plot")
    assert "'nobody' is unknown" in said(explorer, "cells")
    assert "nobody" in repr(explorer)
    assert "tk.plots" not in explorer.code()


def test_some_cells_failed() -> None:
    """They are in no mean; why they failed stands below."""
    cells = table(
        status=["ok", "failed", "ok", "ok"],
        error=[None, "out of memory", None, None],
        makespan_s=[4.0, None, 2.0, 1.0],
    )
    explorer = SweepExplorer(cells)
    assert "out of memory" in said(explorer, "cells")
    assert "0 of 1" in said(explorer, "cells")


def test_one_knob_only(episodes: list[Episode]) -> None:
    """Has lines, and no heatmap."""
    study = sweep(
        episodes, Config(provider="scripted"), {"chunk_tokens": [32, 64]}, score=False, progress=False
    )
    explorer = SweepExplorer(study)
    assert explorer.choice.plot == "lines"
    assert "heatmap" not in explorer.controls["plot"].options
    assert "data:image/" in explorer._views["plot"].value


def test_no_knob_varies() -> None:
    """There are figures, and nothing to draw them over."""
    explorer = SweepExplorer(table(summary_batch_size=1, chunk_tokens=32)[["cell", "makespan_s", "status"]])
    assert "No knob has more than one value." in said(explorer, "plot")
    assert "makespan" in said(explorer, "cells")


def test_a_table_has_no_summaries() -> None:
    """It says what would have them."""
    explorer = SweepExplorer(table())
    explorer.compare(1, 2)
    assert "give the sweep itself" in said(explorer, "summaries")
    assert "side_by_side" not in explorer.code()


def test_five_thousand_cells_are_shown_in_part() -> None:
    """The table and the notebook stay small; the plot is of all."""
    batches = list(np.repeat(np.arange(1, 1251), 4))
    explorer = SweepExplorer(table(batches=batches))
    assert "The first 100 of 5,000 are shown" in said(explorer, "cells")
    assert all(len(view.value) < 600_000 for view in explorer._views.values())
    assert len(repr(explorer).splitlines()) < 40
    set_to(explorer, plot="pareto")
    assert "data:image/" in explorer._views["plot"].value


def test_without_widgets_it_is_a_table(study: Any) -> None:
    """Text and HTML say what the widgets do: means, failures, lines; a front end takes what it can show."""
    explorer = SweepExplorer(study)
    shown = explorer._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in shown
    assert shown["text/plain"] == repr(explorer)
    for text in (shown["text/plain"], unescape(shown["text/html"])):
        assert "chunk_tokens" in text
        assert "tk.plots.heatmap(study, x='summary_batch_size'" in text
    assert repr(explorer).splitlines()[1].startswith("cell  summary_batch_size (episodes at a time)")


def test_what_is_no_study_is_refused() -> None:
    """With what would be one."""
    with pytest.raises(ConfigError, match=r"a study is what tk\.sweep gives"):
        SweepExplorer(7)


def test_controls_are_labelled(study: Any) -> None:
    """Each has words of its own, which the browser reads out, and all can be reached by keyboard."""
    labels = [control.description for control in SweepExplorer(study).controls.values()]
    assert all(labels)
    assert len(set(labels)) == len(labels)
