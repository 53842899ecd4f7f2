"""How long: waits by cause add up, and the distribution of latencies is that of the calls."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from toolkit import plots
from toolkit.errors import ConfigError


def widths(ax: Any) -> dict[str, list[float]]:
    return {bars.get_label(): [round(bar.get_width(), 6) for bar in bars] for bars in ax.containers}


def test_waits_are_stacked_by_cause(make: SimpleNamespace) -> None:
    """Summed over an episode's calls, each cause where the one before ends; service is no wait."""
    calls = [
        make.call(0, "a", wait_slots_s=1.0, wait_tokens_s=2.0, service_s=9.0),
        make.call(1, "a", wait_tokens_s=3.0),
        make.call(2, "b", retry_wait_s=4.0, wait_requests_s=None),
    ]
    ax = plots.waits(make.run(calls))
    assert widths(ax) == {"wait: slots": [1.0, 0.0], "wait: tokens": [5.0, 0.0], "wait: retry": [0.0, 4.0]}
    tokens = next(bars for bars in ax.containers if bars.get_label() == "wait: tokens")
    assert tokens[0].get_x() == 1.0
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "slots 1 s",
        "tokens 5 s",
        "retry 4 s",
    ]


def test_many_episodes_are_the_longest_and_a_mean(make: SimpleNamespace) -> None:
    """The rest is not left out in silence."""
    calls = [make.call(n, f"e{n}", wait_slots_s=float(n)) for n in range(100)]
    ax = plots.waits(make.run(calls))
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert names[:2] == ["e99", "e98"]
    assert names[-1] == "mean of 76 others"
    assert widths(ax)["wait: slots"][-1] == pytest.approx(np.mean(range(76)))


def test_waits_of_runs_and_stages(make: SimpleNamespace) -> None:
    """Runs beside each other, or where within a run."""
    one = make.run([make.call(0, wait_slots_s=1.0)], id="one")
    two = make.run([make.call(0, "x", wait_slots_s=2.0), make.call(1, "y", wait_slots_s=3.0)], id="two")
    assert widths(plots.waits([one, two])) == {"wait: slots": [1.0, 5.0]}
    assert widths(plots.waits([one, two], by="episode")) == {"wait: slots": [1.0, 2.0, 3.0]}
    ax = plots.waits(two, by="stage")
    assert [text.get_text() for text in ax.get_yticklabels()] == ["map"]
    with pytest.raises(ConfigError, match="by='call' must be 'episode', 'stage' or 'run'"):
        plots.waits(two, by="call")


def test_reused_calls_waited_for_nothing(make: SimpleNamespace) -> None:
    """Whatever stands in their row is not of this run."""
    ax = plots.waits(make.run([make.call(0, wait_slots_s=1.0), make.call(1, wait_slots_s=7.0, reused=True)]))
    assert widths(ax) == {"wait: slots": [1.0]}


def test_share_of_calls_by_time(make: SimpleNamespace) -> None:
    """A step up at each call, from 0 to 100 %; failed and reused ones are not in it."""
    calls = [make.call(n, wait_slots_s=1.0, service_s=float(n + 1)) for n in range(4)]
    calls += [make.call(9, service_s=99.0, reused=True), make.call(9, status="failed", service_s=99.0)]
    ax = plots.latency_ecdf(make.run(calls))
    service, total = (line for line in ax.lines if line.get_label() in ("service", "total"))
    assert service.get_xdata().tolist() == [1, 1, 2, 3, 4]
    assert service.get_ydata().tolist() == [0, 25, 50, 75, 100]
    assert total.get_xdata().tolist() == [2, 2, 3, 4, 5]
    assert (service.get_linestyle(), service.get_marker()) != (total.get_linestyle(), total.get_marker())
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts[0] == "service time\nmedian 2.5 s, p95 3.85 s"
    assert ax.get_xscale() == "linear"


def test_wide_latencies_are_on_a_logarithmic_axis(make: SimpleNamespace) -> None:
    """With plain numbers."""
    ax = plots.latency_ecdf(make.run([make.call(n, service_s=10.0 ** (n - 1)) for n in range(4)]))
    ax.figure.canvas.draw()
    assert ax.get_xscale() == "log"
    assert "10" in [text.get_text() for text in ax.get_xticklabels()]


@pytest.mark.parametrize("most", [0.0009, 0.004, 0.02])
@pytest.mark.parametrize("size", [(8.0, 4.5), (7.0, 4.2)])
def test_labels_of_short_times_stand_apart(
    make: SimpleNamespace, most: float, size: tuple[float, float]
) -> None:
    """Below a tenth of a second the ticks are milliseconds; the lines stay in seconds."""
    ax = Figure(figsize=size, layout="constrained").add_subplot()
    calls = [make.call(n, service_s=time) for n, time in enumerate(np.geomspace(0.0001, most, 20))]
    plots.latency_ecdf(make.run(calls), ax=ax)
    ax.figure.draw_without_rendering()
    assert ax.get_xlabel() == "service and total time (ms)"
    assert ax.lines[0].get_xdata()[-1] == pytest.approx(most)
    left, right = ax.get_xlim()
    ticks = [
        label
        for label, at in zip(ax.get_xticklabels(), ax.get_xticks(), strict=True)
        if left <= at <= right and label.get_text()
    ]
    assert all(1000 * label.get_position()[0] == pytest.approx(float(label.get_text())) for label in ticks)
    boxes = [label.get_window_extent() for label in ticks]
    assert len(boxes) > 2
    assert all(one.x1 + 5 < other.x0 for one, other in pairwise(boxes))


def test_latencies_of_several_runs(make: SimpleNamespace) -> None:
    """By service time, which is the model's alone, unless asked otherwise."""
    runs = [
        make.run([make.call(n, wait_slots_s=5.0, service_s=1.0 + n) for n in range(3)], id=name)
        for name in "ab"
    ]
    ax = plots.latency_ecdf(runs)
    assert [line.get_xdata().max() for line in ax.lines[:2]] == [3.0, 3.0]
    assert [line.get_xdata().max() for line in plots.latency_ecdf(runs, "total").lines[:2]] == [8.0, 8.0]
    assert [text.get_text().splitlines()[:2] for text in ax.get_legend().get_texts()] == [
        ["gpt a", "3 calls"],
        ["gpt b", "3 calls"],
    ]
    with pytest.raises(ConfigError, match="of='queue' must be 'service' or 'total'"):
        plots.latency_ecdf(runs, "queue")
