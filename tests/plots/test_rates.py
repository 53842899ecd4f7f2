"""Over time: what was done in a second, what was in flight, and the limits."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from toolkit import plots
from toolkit.errors import ConfigError


def stairs(ax: Any) -> list[Any]:
    return [
        patch for patch in ax.patches if hasattr(patch, "get_data") and hasattr(patch.get_data(), "edges")
    ]


def line(ax: Any, label: str) -> Any:
    (found,) = [one for one in ax.lines if one.get_label() == label]
    return found


@pytest.mark.parametrize(
    ("of", "total"), [("calls", 9), ("output_tokens", 180), ("input_tokens", 900), ("tokens", 1080)]
)
def test_area_is_what_was_done(of: Any, total: int, make: SimpleNamespace) -> None:
    """Of calls with new replies: the reused and the failed one are not in it."""
    calls = [make.call(n, service_s=0.7) for n in range(9)]
    calls += [
        make.call(2.5, reused=True, service_s=0.1),
        make.call(3.5, status="failed", failed_attempts_s=1.0),
    ]
    ax = plots.throughput(make.run(calls), of, freq="500ms")
    (found,) = stairs(ax)
    values, edges, _ = found.get_data()
    assert (values * np.diff(edges)).sum() == pytest.approx(total)
    assert np.diff(edges) == pytest.approx(0.5)
    assert "intervals of 500 ms" in ax.get_title(loc="left")


def test_limit_is_drawn_by_the_second(make: SimpleNamespace) -> None:
    """60 requests a minute are one a second; where it changed, so does the line."""
    events = [make.event(0), make.event(2, requests_limit=120), make.event(4, requests_limit=120)]
    ax = plots.throughput(make.run([make.call(n, service_s=0.7) for n in range(9)], events), "calls")
    assert line(ax, "limit").get_xdata().tolist()[:2] == pytest.approx([0, 2])
    assert line(ax, "limit").get_ydata().tolist()[:2] == [1.0, 2.0]
    assert "limit\n60 to 120 requests/min" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_several_runs_are_compared(make: SimpleNamespace) -> None:
    """Each from its own first call on, in intervals of one length, with lines that differ."""
    slow = make.run([make.call(100 + n, service_s=0.7) for n in range(9)], id="slow", simulated=True)
    fast = make.run([make.call(n / 3, service_s=0.2) for n in range(9)], id="fast")
    ax = plots.throughput([slow, fast])
    first, second = stairs(ax)
    assert first.get_data().edges[0] == second.get_data().edges[0] == 0
    assert np.diff(first.get_data().edges)[0] == np.diff(second.get_data().edges)[0]
    assert first.get_linestyle() != second.get_linestyle()
    names = [text.get_text().splitlines()[0] for text in ax.get_legend().get_texts()]
    assert names == ["gpt slow (simulated)", "gpt fast"]
    assert "1 simulated · 2 runs · 18 calls" in ax.get_title(loc="left")


@pytest.mark.parametrize("bad", [{"of": "words"}, {"freq": "often"}])
def test_wrong_arguments_are_named(bad: dict[str, Any], make: SimpleNamespace) -> None:
    """With what there is."""
    with pytest.raises(ConfigError, match="must be"):
        plots.throughput(make.run([make.call(service_s=1.0)]), **bad)
    with pytest.raises(ConfigError, match="list of runs is empty"):
        plots.throughput([])


def test_in_flight_and_its_cap(make: SimpleNamespace) -> None:
    """Event by event, in whole requests; and how many waited behind it."""
    events = [
        make.event(0, 1),
        make.event(1, 4, waiting=3),
        make.event(2, 2, slot_cap=2),
        make.event(3, 0, slot_cap=2),
    ]
    ax = plots.in_flight(make.run([], events))
    assert line(ax, "in flight").get_ydata().tolist() == [1, 4, 2, 0]
    assert line(ax, "cap").get_xdata().tolist() == [0, 2, 3]
    assert line(ax, "cap").get_ydata().tolist() == [5, 2, 2]
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["waiting in line", "in flight (most 4)", "cap 2 to 5"]
    assert ax.get_ylim()[0] == 0


def test_without_a_limiter_service_is_counted(make: SimpleNamespace) -> None:
    """Two at once, then one; the moment at which one ends and the next begins is no third."""
    calls = [
        make.call(0, service_s=2.0),
        make.call(1, service_s=1.0),
        make.call(2, queue_s=0.5, service_s=1.0),
    ]
    ax = plots.in_flight(make.run(calls))
    found = line(ax, "in service")
    assert found.get_ydata().tolist() == [1, 2, 1, 0, 1, 0]
    assert found.get_xdata().tolist() == pytest.approx([0, 1, 2, 2, 2.5, 3.5])


def test_many_events_become_a_mean_with_its_range(make: SimpleNamespace) -> None:
    """Thousands of steps would be a filled area that says nothing; the highest one stays to be seen."""
    ax = plots.in_flight(make.run([], [make.event(0.1 * n, 5 if n == 1234 else n % 3) for n in range(4000)]))
    (mean,) = stairs(ax)
    assert len(mean.get_data().values) == 150
    assert mean.get_data().values.mean() == pytest.approx(1.0, abs=0.05)
    (band,) = [each for each in ax.collections if each.get_label() == "range"]
    assert band.get_datalim(ax.transData).ymax == 5


def test_keys_have_lines_of_their_own(make: SimpleNamespace) -> None:
    """Two pools are never added up."""
    events = [make.event(n, n % 4, quota_key=f"key{n % 2}") for n in range(8)]
    ax = plots.in_flight(make.run([], events))
    assert [text.get_text() for text in ax.get_legend().get_texts() if "in flight" in text.get_text()] == [
        "in flight (most 2)\nkey0",
        "in flight (most 3)\nkey1",
    ]


def test_use_of_limits_is_in_percent_of_each(make: SimpleNamespace) -> None:
    """30 of 60 requests, 1500 of 6000 tokens, 4 of 5 slots: the one nearest to 100 is what will bind."""
    ax = plots.limits(make.run([], [make.event(n, 4) for n in range(5)]))
    found = {one.get_label(): one for one in ax.lines}
    assert {label: one.get_ydata()[0] for label, one in found.items() if label != "limit"} == pytest.approx(
        {"slots": 80.0, "requests in 60 s": 50.0, "tokens in 60 s": 25.0}
    )
    assert found["limit"].get_ydata() == [100, 100]
    assert len({one.get_marker() for one in found.values()}) == 4


def test_a_limit_that_is_not_there_is_not_drawn(make: SimpleNamespace) -> None:
    """Null is no limit, and no division by it."""
    ax = plots.limits(make.run([], [make.event(n, tokens_limit=None, slot_cap=0) for n in range(5)]))
    assert [one.get_label() for one in ax.lines] == ["requests in 60 s", "limit"]


def test_bars_of_the_quota(make: SimpleNamespace) -> None:
    """As long as the share, the one that bound in another dress, its number within or beside it."""
    run = make.run(quota_shares={"requests:bucket:60": 0.25, "tokens:bucket:60": 0.987})
    ax = plots.quota_share(run)
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([25.0, 98.7])
    assert [bool(bar.get_hatch()) for bar in ax.patches] == [True, False]
    assert [text.get_text() for text in ax.texts] == ["25.0%", "98.7%"]
    assert [text.get_text() for text in ax.get_yticklabels()] == [
        "requests (bucket, 60 s)",
        "tokens (bucket, 60 s)",
    ]
    several = plots.quota_share([run, make.run(id="other", quota_shares={"tokens:fixed:60": 0.5})])
    assert [text.get_text() for text in several.get_yticklabels()][-1] == "other: tokens (fixed, 60 s)"
