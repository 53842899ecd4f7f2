"""The small pictures of a panel."""

from __future__ import annotations

import re
from collections.abc import Callable
from xml.etree import ElementTree

import pytest

from toolkit import Config, Episode, LatencyModel, simulate
from toolkit.widgets.pictures import curves, nice, timeline


def parsed(picture: str) -> ElementTree.Element:
    return ElementTree.fromstring(f"<div>{picture}</div>")


def test_a_timeline_has_a_bar_for_each_phase_of_each_call(episodes: list[Episode], scripted: Config) -> None:
    """Waits and service are told apart by more than a colour: the bars of one are thinner."""
    run = simulate(episodes, scripted, latency=LatencyModel(base_s=1.0, output_tokens=20))
    picture = parsed(timeline(run))
    (service,) = (path for path in picture.iter("path") if path.get("class") == "service")
    assert service.get("d", "").count("M") == len(run.calls)
    assert "service" in str(service.find("title").text)  # type: ignore[union-attr]
    (image,) = (svg for svg in picture.iter("svg") if svg.get("role") == "img")
    assert f"{len(run.calls)} calls" in str(image.get("aria-label"))


def test_waits_are_drawn_and_named(episodes: list[Episode]) -> None:
    """What binds is seen: the legend has the seconds of each cause."""
    config = Config(
        provider="openai",
        openai_api_key="none",
        summary_batch_size=6,
        openai_max_concurrent_requests=1,
        summary_chunk_parallelism=1,
    )
    run = simulate(episodes, config, latency=LatencyModel(base_s=1.0, output_tokens=20))
    picture = timeline(run)
    assert 'class="wait-slots"' in picture
    assert re.search(r"wait: slots \d", picture)


def test_names_are_text(talk: Callable[..., Episode], scripted: Config) -> None:
    """The id of an episode is the name of a file, which may be anything."""
    wild = [Episode.from_text("<script>", talk(1).transcript), Episode.from_text("a&b", talk(2).transcript)]
    picture = timeline(simulate(wild, scripted, latency=1.0))
    assert "<script" not in picture
    assert "a&amp;b" in picture
    parsed(picture)


def test_many_calls_stay_small(talk: Callable[..., Episode], scripted: Config) -> None:
    """It is sent each time that somebody lets go of a slider."""
    run = simulate([talk(number) for number in range(90)], scripted, latency=1.0)
    picture = timeline(run)
    assert len(run.calls) > 250
    assert len(picture) < 30_000


def test_nothing_to_draw_is_said(scripted: Config) -> None:
    """An empty picture would look as if it were broken."""
    run = simulate([Episode.from_text("silence", "")], scripted, latency=1.0)
    assert "Nothing is asked" in timeline(run)


def test_curves_share_the_axes() -> None:
    """The limit is marked, each curve has its dashes, and the legend its last value."""
    picture = curves(
        {"requests": [(0.0, 0.2), (10.0, 0.5)], "tokens": [(0.0, 0.1), (10.0, 0.9)]},
        "Use of the limits",
        until=10.0,
        percent=True,
    )
    drawn = parsed(picture)
    lines = list(drawn.iter("polyline"))
    assert len({line.get("stroke-dasharray") for line in lines}) == 2
    assert "tokens 90 %" in picture
    assert "100 %" in picture
    points = [float(y) for line in lines for y in re.findall(r",([\d.]+)", line.get("points", ""))]
    assert all(0 <= y <= 100 for y in points)


@pytest.mark.parametrize(("value", "above"), [(0.3, 0.5), (1.0, 1.0), (7.0, 10.0), (1300.0, 2000.0)])
def test_ticks_are_round(value: float, above: float) -> None:
    """1, 2 or 5 times a power of ten."""
    assert nice(value) == above


@pytest.mark.parametrize(("until", "unit"), [(20.0, "0 s"), (600.0, "0 min"), (40_000.0, "0 h")])
def test_time_is_in_units_that_fit(until: float, unit: str) -> None:
    """40,000 seconds are read by nobody."""
    assert unit in curves({"x": [(0.0, 1.0)]}, "a curve", until=until)
