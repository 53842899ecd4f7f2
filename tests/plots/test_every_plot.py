"""What holds for every plot: it takes and returns Axes, says its units, and leaves matplotlib alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

from toolkit import plots
from toolkit.errors import ConfigError

OF_RUN: dict[str, Callable[..., Any]] = {
    "timeline": plots.timeline,
    "timeline by call": lambda run, **kwargs: plots.timeline(run, by="call", **kwargs),
    "timeline by worker": lambda run, **kwargs: plots.timeline(run, by="worker", **kwargs),
    "throughput": plots.throughput,
    "throughput of calls": lambda run, **kwargs: plots.throughput(run, of="calls", **kwargs),
    "in_flight": plots.in_flight,
    "limits": plots.limits,
    "quota_share": plots.quota_share,
    "waits": plots.waits,
    "waits by stage": lambda run, **kwargs: plots.waits(run, by="stage", **kwargs),
    "latency_ecdf": plots.latency_ecdf,
}
OF_STUDY: dict[str, Callable[..., Any]] = {
    "heatmap": lambda study, **kwargs: plots.heatmap(
        study, x="summary_batch_size", y="chunk_tokens", value="makespan_s", **kwargs
    ),
    "lines": lambda study, **kwargs: plots.lines(
        study, x="summary_batch_size", y="makespan_s", by="chunk_tokens", **kwargs
    ),
    "pareto": plots.pareto,
    "predicted": lambda study, **kwargs: plots.predicted(
        study["makespan_s"], study["makespan_s"] * 1.2, names=list(study["cell"]), **kwargs
    ),
}
ALL = OF_RUN | OF_STUDY
UNITS = (
    "(s)",
    "(%",
    "/s",
    "requests",
    "(mean number)",
    "(F1",
    "(USD)",
    "tokens)",
    "at a time)",
    "episode",
    "call",
    "worker",
    "stage",
)
NAMES = ["$100_deal_$x", "🎙 morning 🚀", "_hidden", "a very long episode " * 5, "你好\nline two\t\x1b[31m"]


@pytest.fixture
def data(make: SimpleNamespace) -> Callable[[str], Any]:
    """Return what a plot is of: a run with waits, failures and limits, or a study."""

    def of(plot: str) -> Any:
        if plot in OF_STUDY:
            return make.cells()
        calls = [
            make.call(0.1 * n, f"e{n % 3}", wait_tokens_s=0.5 * (n % 4), service_s=0.5, overhead_s=0.01)
            for n in range(12)
        ]
        calls += [make.call(1.0, "e1", status="failed", failed_attempts_s=0.3, retry_wait_s=0.2)]
        events = [make.event(0.1 * n, n % 5, waiting=n % 3, lease_id=n) for n in range(40)]
        return make.run(calls, events, quota_shares={"tokens:bucket:60": 0.99, "requests:bucket:60": 0.4})

    return of


@pytest.mark.parametrize("plot", ALL)
def test_draws_into_the_axes_given(plot: str, data: Callable[[str], Any]) -> None:
    """And into nothing else: no figure appears in pyplot, no setting changes."""
    settings, figures = dict(mpl.rcParams), pyplot.get_fignums()
    ax = Figure().subplots()
    assert ALL[plot](data(plot), ax=ax) is ax
    ax.figure.canvas.draw()
    assert dict(mpl.rcParams) == settings
    assert pyplot.get_fignums() == figures


@pytest.mark.parametrize("plot", ALL)
def test_makes_one_figure_without(
    plot: str, data: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of notebook size, which the notebook shows by itself."""
    monkeypatch.setattr(pyplot, "show", lambda *_: pytest.fail("a plot showed itself"))
    ax = ALL[plot](data(plot))
    assert pyplot.get_fignums() == [ax.figure.number]
    assert tuple(ax.figure.get_size_inches()) == (8.0, 4.5)


@pytest.mark.parametrize("plot", ALL)
def test_axes_are_labelled_with_units(plot: str, data: Callable[[str], Any]) -> None:
    """A number without a unit is none; and the title says of what the plot is."""
    ax = ALL[plot](data(plot))
    assert any(unit in ax.get_xlabel() for unit in UNITS)
    if plot != "quota_share":  # Its rows are named.
        assert any(unit in ax.get_ylabel() for unit in UNITS)
    assert ax.get_title(loc="left")


@pytest.mark.parametrize("plot", ALL)
def test_nothing_is_clipped(plot: str, data: Callable[[str], Any]) -> None:
    """Title, labels and legend lie within the figure, also beside other plots."""
    ax = ALL[plot](data(plot))
    ax.figure.canvas.draw()
    box = ax.figure.bbox.padded(1)
    legend = ax.get_legend()
    low, high = sorted(ax.get_ylim())
    ticks = [
        text for at, text in zip(ax.get_yticks(), ax.get_yticklabels(), strict=True) if low <= at <= high
    ]
    for artist in (ax.title, ax.xaxis.label, ax.yaxis.label, *ticks, *([legend] if legend else [])):
        inner = artist.get_window_extent()
        assert not inner.width or (box.contains(inner.x0, inner.y0) and box.contains(inner.x1, inner.y1))


@pytest.mark.parametrize("plot", OF_RUN)
@pytest.mark.parametrize("kind", ["empty", "one", "failed", "reused", "null", "cancelled", "no time"])
def test_any_run_can_be_drawn(plot: str, kind: str, make: SimpleNamespace) -> None:
    """None of these gives an error, a warning, or an empty frame without a word."""
    calls = {
        "empty": [],
        "one": [make.call(service_s=1.0)],
        "failed": [make.call(n, status="failed", failed_attempts_s=0.5) for n in range(3)],
        "reused": [make.call(n, reused=True, total_s=0.001) for n in range(3)],
        "null": [make.call(n, service_s=1.0, input_tokens=None, output_tokens=None) for n in range(3)],
        "cancelled": [make.call(n, status="cancelled") for n in range(3)],
        "no time": [make.call(0.0) for _ in range(3)],
    }[kind]
    run = make.run(calls)
    if kind == "null":
        run.calls[["service_s", "overhead_s", "total_s", "wait_tokens_s"]] = np.nan
        run.calls["started_at"] = pd.NaT
        run.calls["reused"] = pd.Series([None] * 3, dtype="boolean")
    ax = OF_RUN[plot](run)
    ax.figure.canvas.draw()
    drawn = [*ax.patches, *ax.lines, *ax.collections]
    assert drawn or ax.texts


@pytest.mark.parametrize("plot", OF_STUDY)
@pytest.mark.parametrize("kind", ["empty", "one", "all failed", "null"])
def test_any_study_can_be_drawn(plot: str, kind: str, make: SimpleNamespace) -> None:
    """Also one in which nothing succeeded."""
    cells = make.cells()
    cells = {
        "empty": cells.iloc[:0],
        "one": cells.iloc[:1],
        "all failed": cells.assign(status="failed", makespan_s=np.nan, cost_usd=None, rougeL=None),
        "null": cells.assign(makespan_s=pd.array([pd.NA] * 12, dtype="Float64"), chunk_tokens=None),
    }[kind]
    ax = OF_STUDY[plot](cells)
    ax.figure.canvas.draw()
    assert [*ax.patches, *ax.lines, *ax.collections] or ax.texts


@pytest.mark.parametrize("plot", OF_RUN)
def test_names_are_shown_as_they_are(plot: str, make: SimpleNamespace, texts_of: Callable[..., Any]) -> None:
    """Dollars, underscores and emoji; of long ones the ends; and never two lines."""
    calls = [make.call(n, name, wait_slots_s=1.0, service_s=1.0) for n, name in enumerate(NAMES)]
    run = make.run(calls, [make.event(n) for n in range(3)], model="gpt_$x$ 🎙", id="_id_$1$")
    ax = OF_RUN[plot](run)
    ax.figure.canvas.draw()
    shown = texts_of(ax)
    assert any("gpt_$x$ 🎙" in text for text in shown)
    assert any("_id_$1$" in text for text in shown)
    if plot in ("timeline", "waits"):
        assert {"$100_deal_$x", "🎙 morning 🚀", "_hidden"} <= set(shown)
        assert not any(len(text) > 40 for text in (label.get_text() for label in ax.get_yticklabels()))
    for text in (ax.title, *ax.get_yticklabels()):
        if "$" in text.get_text() and "mathdefault" not in text.get_text():
            assert not text.get_parse_math()


def test_knobs_are_shown_as_they_are(make: SimpleNamespace, texts_of: Callable[..., Any]) -> None:
    """Values of knobs are names, too."""
    cells = make.cells(model=["$m_1$", "🎙", "_x"] * 4)
    for plot in (
        lambda: plots.heatmap(cells, x="model", y="chunk_tokens", value="makespan_s"),
        lambda: plots.lines(cells, x="model", y="makespan_s"),
    ):
        ax = plot()
        ax.figure.canvas.draw()
        assert {"$m_1$", "🎙", "_x"} <= set(texts_of(ax))
    ax = plots.lines(cells, x="chunk_tokens", y="makespan_s", by="model")
    ax.figure.canvas.draw()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        f"model = {m}" for m in ("$m_1$", "🎙", "_x")
    ]


@pytest.mark.parametrize("plot", OF_RUN)
def test_simulated_and_reused_are_said(plot: str, make: SimpleNamespace) -> None:
    """Nobody takes a computed time for a measured one, or a makespan with reuse for one without."""
    calls = [make.call(n, service_s=1.0, reused=n == 0) for n in range(3)]
    assert "simulated" not in OF_RUN[plot](make.run(calls)).get_title(loc="left")
    title = OF_RUN[plot](make.run(calls, simulated=True)).get_title(loc="left")
    assert "simulated" in title
    assert "1 reused" in title


@pytest.mark.parametrize("plot", list(OF_STUDY)[:3])
def test_simulated_study_is_said(plot: str, make: SimpleNamespace) -> None:
    """A mixture says how much of it."""
    assert "simulated" in OF_STUDY[plot](make.cells(simulated=True)).get_title(loc="left")
    mixed = make.cells(simulated=[True] * 3 + [False] * 9)
    assert "3 rows simulated" in OF_STUDY[plot](mixed).get_title(loc="left")


@pytest.mark.slow
@pytest.mark.parametrize("plot", OF_RUN)
def test_ten_thousand_calls_are_few_marks(plot: str, make: SimpleNamespace) -> None:
    """Few enough to be legible, and soon drawn."""
    run = make.run(
        [make.call(0.01 * n, f"e{n // 10}", wait_slots_s=0.5, service_s=1.0) for n in range(10_000)]
    )
    run.limits = pd.concat(
        [make.run([], [make.event(n, n % 5, waiting=n % 7)]).limits for n in range(50)] * 400
    )
    run.limits["t_s"] = np.linspace(0, 100, len(run.limits))
    ax = OF_RUN[plot](run)
    ax.figure.canvas.draw()
    assert len(ax.patches) + len(ax.lines) + len(ax.collections) < 200
    assert len(ax.get_yticklabels()) < 40


@pytest.mark.parametrize("plot", OF_STUDY)
def test_five_thousand_cells_are_few_marks(plot: str) -> None:
    """As many as a simulated sweep may have are drawn as a few collections, and not one by one."""
    random = np.random.default_rng(1)
    cells = pd.DataFrame(
        {
            "cell": range(5000),
            "repeat": 1,
            "status": "ok",
            "summary_batch_size": random.integers(1, 900, 5000),
            "chunk_tokens": random.integers(1, 10, 5000) * 100,
            "makespan_s": random.uniform(1, 90, 5000),
            "cost_usd": random.uniform(1, 90, 5000),
            "rougeL": random.uniform(0, 1, 5000),
        }
    )
    ax = OF_STUDY[plot](cells)
    ax.figure.canvas.draw()
    assert len(ax.patches) + len(ax.lines) + len(ax.collections) + len(ax.texts) < 100


@pytest.mark.parametrize("plot", OF_RUN)
def test_what_is_no_run_is_said(plot: str) -> None:
    """With what to give instead."""
    with pytest.raises(ConfigError, match=r"needs a run, as tk\.run.* this is a str"):
        OF_RUN[plot]("run")
    calls = SimpleNamespace(calls=pd.DataFrame({"a": [1]}), limits=pd.DataFrame({"a": [1]}))
    with pytest.raises(ConfigError, match=r"the frame \.\w+ lacks .*; it has a"):
        OF_RUN[plot](calls)


def test_what_is_no_study_is_said(make: SimpleNamespace) -> None:
    """And a wrong column is named together with those that there are, nothing being drawn before."""
    with pytest.raises(ConfigError, match=r"a study is what tk\.sweep gives"):
        plots.pareto("study")
    with pytest.raises(
        ConfigError,
        match=r"no column 'chunk_token', did you mean 'chunk_tokens'\?; its columns are sweep_id, cell",
    ):
        plots.heatmap(make.cells(), x="chunk_token", y="summary_batch_size", value="makespan_s")
    with pytest.raises(ConfigError, match="'error' has no numbers"):
        plots.lines(make.cells(error="x"), x="chunk_tokens", y="error")
    assert pyplot.get_fignums() == []


def test_anything_with_cells_is_a_study(make: SimpleNamespace) -> None:
    """``tk.sweep`` returns one."""
    ax = plots.pareto(SimpleNamespace(cells=make.cells()))
    assert "12" not in ax.get_title(loc="left")


def test_pyplot_is_loaded_for_a_figure_of_its_own_only() -> None:
    """It chooses a window system when it loads, which a program with Axes of its own may not want."""
    code = (
        "import sys, pandas as pd, toolkit as tk\n"
        "from matplotlib.figure import Figure\n"
        "tk.plots.pareto(pd.DataFrame({'cost_usd': [1.0], 'rougeL': [1.0]}), ax=Figure().subplots())\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
