"""Plots of a study: means over repeats, their intervals, and what has no result."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from toolkit import plots
from toolkit.errors import ConfigError
from toolkit.intervals import t_quantile
from toolkit.plots.tradeoffs import pareto_front

POINTS = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=40)


def field(ax: Any) -> np.ndarray:
    (image,) = ax.images
    return np.ma.filled(image.get_array().astype(float), np.nan)


def draw_heatmap(cells: Any, **kwargs: Any) -> Any:
    return plots.heatmap(
        cells, **{"x": "summary_batch_size", "y": "chunk_tokens", "value": "makespan_s", **kwargs}
    )


def test_heatmap_has_the_means(make: SimpleNamespace) -> None:
    """A row for each value of y, a column for each of x, in order; with the interval written in it."""
    ax = draw_heatmap(make.cells())
    assert field(ax).tolist() == [[12.0, 32.0], [22.0, 42.0]]
    half = t_quantile(0.975, 2) / math.sqrt(3)
    assert f"12\n± {half:.3g}" in [text.get_text() for text in ax.texts]
    assert "95 % confidence interval" in ax.get_title(loc="left")
    assert [text.get_text() for text in ax.get_xticklabels()] == ["1", "4"]
    assert ax.figure.axes[1].get_ylabel() == "makespan (s)"


def test_failed_cells_are_hatched(make: SimpleNamespace) -> None:
    """A whole cell that failed, one that has no value, and one of which a repeat failed."""
    status = ["ok"] * 12
    status[0:3] = ["failed"] * 3
    status[3] = "failed"
    cells = make.cells(status=status)
    cells.loc[6:8, "makespan_s"] = np.nan  # Resumed: it went well, and its time is no measurement.
    ax = draw_heatmap(cells)
    assert np.isnan(field(ax)).tolist() == [[True, True], [False, False]]
    hatched = [patch for patch in ax.patches if patch.get_hatch()]
    assert [patch.get_xy() for patch in hatched] == [(-0.5, -0.5), (0.5, -0.5)]
    texts = [text.get_text() for text in ax.texts]
    assert texts[:2] == ["failed", "no value"]
    assert any(text.endswith("2 of 3 ok") for text in texts)
    title = ax.get_title(loc="left")
    assert "hatched: failed or no value" in title
    assert "4 of 12 rows failed" in title


def test_rows_without_a_value_did_not_fail(make: SimpleNamespace) -> None:
    """Two of three resumed: all went well, one has a time; beside a failure, one of three is known."""
    cells = make.cells(status=["ok"] * 9 + ["failed"] + ["ok"] * 2)
    cells.loc[[0, 1, 10], "makespan_s"] = np.nan
    texts = [text.get_text() for text in draw_heatmap(cells).texts]
    assert "13\n1 of 3 known" in texts
    assert "43\n1 of 3 known" in texts
    assert not any("ok" in text for text in texts)


def test_equal_repeats_are_written_without_rounding(make: SimpleNamespace) -> None:
    """Three times 0.1 is 0.1, give or take nothing."""
    ax = draw_heatmap(make.cells(cost_usd=0.1), value="cost_usd")
    assert {text.get_text() for text in ax.texts} == {"0.1\n± 0"}


def test_measures_of_failed_cells_do_not_count(make: SimpleNamespace) -> None:
    """A run that broke after a second was not quick."""
    cells = make.cells(status=["failed", *["ok"] * 11])
    cells.loc[0, "makespan_s"] = 0.001
    assert field(draw_heatmap(cells))[0, 0] == 12.5


def test_what_was_averaged_over_is_said(make: SimpleNamespace) -> None:
    """Its differences are in no interval: they are no uncertainty."""
    ax = plots.lines(
        make.cells(makespan_s=[1.0, 1.0, 1.0, 9.0, 9.0, 9.0] * 2), x="summary_batch_size", y="makespan_s"
    )
    assert "mean also over chunk_tokens" in ax.get_title(loc="left")
    (container,) = ax.containers
    assert container[0].get_ydata().tolist() == [5.0, 5.0]
    (bars,) = container[2]
    assert all(np.ptp(segment[:, 1]) == 0 for segment in bars.get_segments())


def test_lines_have_intervals(make: SimpleNamespace) -> None:
    """A line for each value of ``by``, with markers of its own, and bars by Student's t."""
    ax = plots.lines(make.cells(), x="summary_batch_size", y="makespan_s", by="chunk_tokens")
    first, second = ax.containers
    assert first[0].get_ydata().tolist() == [12.0, 32.0]
    assert first[0].get_xdata() == pytest.approx([1, 4], abs=0.05)
    half = t_quantile(0.975, 2) / math.sqrt(3)
    assert [np.ptp(segment[:, 1]) / 2 for segment in first[2][0].get_segments()] == pytest.approx(
        [half, half]
    )
    assert first[0].get_marker() != second[0].get_marker()
    assert first[0].get_linestyle() != second[0].get_linestyle()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "chunk_tokens = 512",
        "chunk_tokens = 1024",
    ]


def test_one_repeat_has_no_interval(make: SimpleNamespace) -> None:
    """Nor a bar of no height, which would say that it is certain."""
    cells = make.cells()
    ax = plots.lines(cells[cells["repeat"] == 1], x="summary_batch_size", y="makespan_s", by="chunk_tokens")
    for container in ax.containers:
        assert all(len(segment) < 2 for segment in container[2][0].get_segments())
    assert "confidence" not in ax.get_title(loc="left")


def test_failed_points_are_crosses(make: SimpleNamespace) -> None:
    """At the bottom, where no value is."""
    cells = make.cells(status=["failed"] * 3 + ["ok"] * 9)
    ax = plots.lines(cells, x="summary_batch_size", y="makespan_s", by="chunk_tokens")
    (crosses,) = [line for line in ax.lines if line.get_label() == "failed"]
    assert crosses.get_xdata() == pytest.approx([1], abs=0.05)
    assert "failed: 512" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_numbers_have_their_distances_and_names_have_none(make: SimpleNamespace) -> None:
    """1, 2 and 4 are not side by side; names, lists and nulls are, nulls last."""
    cells = make.cells(chunk_tokens=[None, 400.0, 100.0] * 4)
    ax = plots.lines(cells, x="chunk_tokens", y="makespan_s")
    assert [text.get_text() for text in ax.get_xticklabels()] == ["100.0", "400.0", "none"]
    cells["chunk_tokens"] = [["b"], "a", True] * 4
    ax = plots.lines(cells, x="chunk_tokens", y="makespan_s")
    assert [text.get_text() for text in ax.get_xticklabels()] == ["['b']", "a", "True"]
    assert ax.get_xticks().tolist() == [0, 1, 2]


def test_too_many_lines_are_refused(make: SimpleNamespace) -> None:
    """Nobody could tell them apart."""
    with pytest.raises(ConfigError, match="by='cell' has 13 values, of which 12"):
        plots.lines(
            make.cells().iloc[[0] * 13].assign(cell=range(13)), x="chunk_tokens", y="makespan_s", by="cell"
        )


def test_many_numbers_are_put_into_intervals(make: SimpleNamespace) -> None:
    """A random search has as many values as cells: a field of single pixels would say nothing."""
    cells = (
        make.cells()
        .iloc[[0] * 200]
        .assign(chunk_tokens=range(200), makespan_s=np.arange(200.0), cell=range(200))
    )
    ax = draw_heatmap(cells)
    assert field(ax).shape == (24, 1)
    assert np.isfinite(field(ax)).all()
    assert (np.diff(field(ax)[:, 0]) > 0).all()
    assert "chunk_tokens in intervals" in ax.get_title(loc="left")


def test_what_is_refused_leaves_no_figure(make: SimpleNamespace) -> None:
    """A notebook would show an empty one."""
    from matplotlib import pyplot

    with pytest.raises(ConfigError, match="by='cell' has 13 values, of which 12"):
        plots.pareto(make.cells().iloc[[0] * 13].assign(cell=range(13)), by="cell")
    for plot in (plots.latency_ecdf, plots.quota_share):
        with pytest.raises(ConfigError, match="calls"):
            plot(SimpleNamespace(calls=None))
    assert pyplot.get_fignums() == []


@given(POINTS)
def test_front_is_what_nothing_dominates(points: list[tuple[int, int]]) -> None:
    """No point beats one of it, one of it is as good as any point, and both measures rise along it."""
    front = pareto_front(points)
    chosen = [points[place] for place in front]
    for x, y in chosen:
        assert not any((a <= x and b > y) or (a < x and b >= y) for a, b in points)
    for x, y in points:
        assert any(a <= x and b >= y for a, b in chosen)
    assert chosen == sorted(set(chosen))
    assert [y for _, y in chosen] == sorted(y for _, y in chosen)


def test_pareto_shows_cells_front_and_names(make: SimpleNamespace) -> None:
    """A point for each cell; the cheapest and the best are on the front, and are named by their knobs."""
    quality = [0.3] * 3 + [0.2] * 3 + [0.5] * 3 + [0.5] * 3
    ax = plots.pareto(make.cells(rougeL=quality))
    dots, front = (
        next(line for line in ax.lines if line.get_label() == label) for label in ("cell", "front")
    )
    assert dots.get_xdata() == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert front.get_xdata() == pytest.approx([0.1, 0.3])
    assert front.get_ydata() == pytest.approx([0.3, 0.5])
    assert [text.get_text() for text in ax.texts] == ["1, 512", "4, 512"]
    assert "named by summary_batch_size, chunk_tokens" in ax.get_title(loc="left")


def test_pareto_leaves_out_what_has_no_result(make: SimpleNamespace) -> None:
    """And says how many; a cell that failed is neither cheap nor good."""
    status = ["failed"] * 3 + ["ok"] * 9
    ax = plots.pareto(make.cells(status=status), by="chunk_tokens")
    assert "1 cell without a result" in ax.get_title(loc="left")
    cells = [line for line in ax.lines if line.get_label() == "cell"]
    assert sum(len(line.get_xdata()) for line in cells) == 3
    assert len({line.get_marker() for line in cells}) == 2


def test_predicted_against_measured(make: SimpleNamespace) -> None:
    """Points where they belong, the line of equals, a band of 10 %, and the errors in words."""
    ax = plots.predicted([10, 20, None, 40], [10.5, 26, 5, 40], names=["a", "b", "c", "d"])
    within, outside, equal = (
        next(line for line in ax.lines if line.get_label() == label)
        for label in ("within 10%", "outside 10%", "equal")
    )
    assert within.get_xydata().tolist() == [[10, 10.5], [40, 40]]
    assert outside.get_xydata().tolist() == [[20, 26]]
    assert within.get_marker() != outside.get_marker()
    assert equal.get_xdata() == pytest.approx(equal.get_ydata())
    assert ax.get_xlim() == ax.get_ylim()
    top = ax.get_xlim()[1]
    band = ax.collections[0].get_paths()[0].vertices
    assert max(y for x, y in band if x == top) == pytest.approx(1.1 * top)
    assert min(y for x, y in band if x == top) == pytest.approx(0.9 * top)
    assert [text.get_text() for text in ax.texts] == ["b"]
    title = ax.get_title(loc="left")
    assert "3 pairs · error: median 5.0%, worst 30.0% · 1 without a time, left out" in title


def test_predicted_takes_runs(make: SimpleNamespace) -> None:
    """What is wanted of them is their makespan; where they differ much, the axes are logarithmic."""
    measured = [make.run(makespan_s=1.0), make.run(makespan_s=100.0)]
    ax = plots.predicted(measured, [1.1, 99.0])
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    with pytest.raises(ConfigError, match="2 measured and 1 predicted makespans; they belong together"):
        plots.predicted(measured, [1.0])
    with pytest.raises(ConfigError, match="'fast' is no makespan"):
        plots.predicted(["fast"], [1.0])


def test_a_long_name_of_an_axis_is_not_cut_off() -> None:
    """Upright, a name and its unit are soon longer than the plot is high."""
    cells = pd.DataFrame(
        {
            "summary_chunk_parallelism": [1, 2, 1, 2],
            "chunk_tokens": [64, 64, 128, 128],
            "makespan_s": [1.0, 2.0, 3.0, 4.0],
        }
    )
    for size in ((8.0, 4.5), (7.0, 4.2)):
        ax = Figure(figsize=size, layout="constrained").add_subplot()
        plots.heatmap(cells, x="chunk_tokens", y="summary_chunk_parallelism", value="makespan_s", ax=ax)
        ax.figure.draw_without_rendering()
        box = ax.yaxis.label.get_window_extent()
        assert box.y0 >= 0
        assert box.y1 <= ax.figure.bbox.height
