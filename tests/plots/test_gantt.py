"""The timeline: every phase of every call has its rectangle, and none lies over another."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from toolkit import plots
from toolkit.errors import ConfigError
from toolkit.plots import look

PHASES = [phase.column for phase in look.PHASES]
SPANS = st.lists(
    st.tuples(st.integers(0, 60), st.integers(1, 30), st.integers(0, 2)), min_size=1, max_size=25
)


def bars(ax: Any) -> dict[str, list[tuple[float, float, float, float]]]:
    """Return the rectangles of each phase as (left, bottom, width, height)."""
    return {
        container.get_label(): [(p.get_x(), p.get_y(), p.get_width(), p.get_height()) for p in container]
        for container in ax.containers
    }


def test_phases_follow_each_other_from_start_to_end(make: SimpleNamespace) -> None:
    """Each as long as it lasted, in order, and together as long as the call."""
    lengths = {name: 0.5 * (place + 1) for place, name in enumerate(PHASES)}
    ax = plots.timeline(make.run([make.call(0.0, service_s=1.0), make.call(2.0, **lengths)]), by="call")
    left = 2.0
    found = bars(ax)
    for phase in look.PHASES:
        x, bottom, width, height = found[phase.label][-1]
        assert (x, width) == pytest.approx((left, lengths[phase.column]), abs=1e-6)
        assert 1 <= bottom < bottom + height <= 2
        left += width
    assert left == pytest.approx(2.0 + sum(lengths.values()))
    assert ax.get_xlim() == pytest.approx((0.0, left))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spans=SPANS)
def test_no_call_lies_over_another(make: SimpleNamespace, spans: list[tuple[int, int, int]]) -> None:
    """Calls of an episode at the same time lie beneath each other, within its row; none is lost."""
    calls = [
        make.call(start, f"e{episode}", call_id=f"c{n}", service_s=float(length))
        for n, (start, length, episode) in enumerate(spans)
    ]
    ax = plots.timeline(make.run(calls))
    found = bars(ax)["service"]
    assert sorted(width for _, _, width, _ in found) == sorted(float(length) for _, length, _ in spans)
    lanes: dict[float, list[tuple[float, float]]] = {}
    for x, bottom, width, _ in found:
        lanes.setdefault(bottom, []).append((x, x + width))
    for lane in lanes.values():
        lane.sort()
        assert all(end <= start + 1e-5 for (_, end), (start, _) in pairwise(lane))
    from matplotlib import pyplot

    pyplot.close("all")


def test_rows_are_the_episodes_in_order_of_their_start(make: SimpleNamespace) -> None:
    """From top to bottom."""
    calls = [make.call(3, "late", service_s=1.0), make.call(0, "early", service_s=1.0)]
    ax = plots.timeline(make.run(calls))
    assert [text.get_text() for text in ax.get_yticklabels()] == ["early", "late"]
    assert ax.yaxis_inverted()


@pytest.mark.parametrize("draw", [plots.timeline, plots.throughput])
@pytest.mark.parametrize("lengths", [(9.0, 4.0), (4.0, 9.0)], ids=["longest first", "longest last"])
def test_axes_that_are_shared_show_the_longest(
    draw: Any, lengths: tuple[float, float], make: SimpleNamespace
) -> None:
    """Runs beside each other on one axis of time are all seen to their ends."""
    figure = Figure()
    axes = figure.subplots(1, 2, sharex=True)
    for ax, seconds in zip(axes, lengths, strict=True):
        draw(make.run([make.call(0.0, "e1", service_s=seconds, output_tokens=9)]), ax=ax)
    assert axes[0].get_xlim()[1] >= 9.0
    alone = draw(make.run([make.call(0.0, "e1", service_s=4.0, output_tokens=9)]), ax=Figure().subplots())
    assert alone.get_xlim()[1] < 9.0


def test_ends_are_marked(make: SimpleNamespace) -> None:
    """A failed call has a cross at its end; a reused one is a mark without bars."""
    calls = [
        make.call(0, status="failed", failed_attempts_s=2.0),
        make.call(1, reused=True, service_s=1.0),
        make.call(2, status="cancelled", wait_slots_s=1.0),
        make.call(3, service_s=1.0),
    ]
    ax = plots.timeline(make.run(calls), by="call")
    marks = {line.get_label(): line for line in ax.lines}
    assert {"failed", "reused", "cancelled"} <= set(marks)
    assert marks["failed"].get_xdata().tolist() == [2.0]
    assert len({mark.get_marker() for mark in marks.values()}) >= 3
    assert [x for x, *_ in bars(ax)["service"]] == [3.0]
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["wait: slots", "failed attempts", "service", "failed", "cancelled", "reused"]


@pytest.mark.parametrize(("count", "by"), [(400, "call"), (1600, "episode")])
def test_many_calls_are_counted_by_phase(count: int, by: Any, make: SimpleNamespace) -> None:
    """Too many rows, or too many in a row: the areas are the seconds that all together were in a phase."""
    calls = [make.call(0.1 * n, wait_tokens_s=2.0, service_s=1.0) for n in range(count)]
    ax = plots.timeline(make.run(calls), by=by)
    areas = {}
    for area in ax.collections:
        corners = area.get_paths()[0].vertices
        x, y = corners[:, 0], corners[:, 1]
        areas[area.get_label()] = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    assert areas == pytest.approx({"wait: tokens": 2.0 * count, "service": 1.0 * count}, rel=1e-3)
    assert "calls in each phase (mean number)" in ax.get_ylabel()
    assert "counted" in ax.get_title(loc="left")


def test_phases_are_told_apart_in_grey() -> None:
    """Each has a hatch of its own, or is plain and differs in lightness from all that are plain, too."""
    plain = sorted(
        light for phase, light in zip(look.PHASES, lights(look.PHASES), strict=True) if not phase.hatch
    )
    assert all(b - a > 0.2 for a, b in pairwise(plain))
    looks = [(light, phase.hatch) for phase, light in zip(look.PHASES, lights(look.PHASES), strict=True)]
    for place, (light, hatch) in enumerate(looks):
        assert all(hatch != other or abs(light - dark) > 0.2 for dark, other in looks[:place])


def lights(phases: Any) -> list[float]:
    """Return the lightness of phases, from 0 to 1, as a grey print has it."""
    from matplotlib.colors import to_rgb

    return [float(np.dot(to_rgb(phase.colour), (0.299, 0.587, 0.114))) for phase in phases]


def test_series_are_told_apart_in_grey() -> None:
    """By line and marker, where colours run out."""
    looks = [look.series(number) for number in range(30)]
    assert len({(each.line, each.marker, each.colour) for each in looks}) == 30
    assert len({(each.line, each.marker) for each in looks[:10]}) == 10


def test_bars_have_their_phase_s_hatch(make: SimpleNamespace) -> None:
    """Said once in the table, and seen in every rectangle."""
    ax = plots.timeline(make.run([make.call(0, wait_slots_s=1.0, retry_wait_s=1.0, service_s=1.0)]))
    by_label = {phase.label: phase for phase in look.PHASES}
    for container in ax.containers:
        assert {bar.get_hatch() or "" for bar in container} == {by_label[container.get_label()].hatch}


def test_wrong_rows_are_refused(make: SimpleNamespace) -> None:
    """With the two that there are."""
    with pytest.raises(ConfigError, match="by='chunk' must be 'episode', 'worker' or 'call'"):
        plots.timeline(make.run(), by="chunk")
