"""Small pictures that follow the theme: SVG with the notebook's own colours, made in milliseconds.

What is drawn as one drags, or twice a second, cannot wait for matplotlib; what is looked at afterwards is
drawn by ``toolkit.plots``. Every colour has a second sign: waits are thin bars and service thick ones, curves
differ in their dashes, and the legend has the figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from toolkit.metrics import seconds_of
from toolkit.plots import look
from toolkit.plots.gantt import lanes_of
from toolkit.plots.sources import timed_calls
from toolkit.runs import Run
from toolkit.wording import duration, shown

WIDTH = 400.0
"""Of a picture in its own units, about as many pixels as it gets at the least width of a window."""
_LEFT, _RIGHT, _BOTTOM, _TOP = 44.0, 8.0, 18.0, 6.0
_PLOT = WIDTH - _LEFT - _RIGHT
_TALLEST = 220.0
_LANE, _NAMED = 12.0, 9.0
"""Height of a lane where there is room, and of an episode that can have its name beside it."""
_DASHES = ("", "6 3", "2 3")

Points = Sequence[tuple[float, float]]


def timeline(run: Run) -> Markup:
    """Draw who did what when, call by call."""
    calls = timed_calls(run)
    if calls.empty:
        return Markup('<p class="note">Nothing is asked.</p>')
    ids = list(dict.fromkeys(calls["episode_id"]))
    places, heights = lanes_of(calls, calls["episode_id"], ids)
    total = int(heights.sum())
    lane = min(_LANE, _TALLEST / total)
    height = lane * total
    until = float(calls["end"].max()) or 1.0
    phases = seconds_of(calls, [phase.column for phase in look.PHASES])
    left = calls["start"].to_numpy()
    drawn, legend = [], []
    for phase in look.PHASES:
        width = phases[phase.column].to_numpy()
        there = width > 0
        # What is nowhere a pixel wide would be looked for in vain.
        if there.any() and width[there].max() > until / 1000:
            thick = phase.column in ("service_s", "failed_attempts_s")
            bars = _bars(left[there], width[there], places[there], lane, until, 0.8 if thick else 0.34)
            name, seconds = phase.label, duration(float(width.sum()))
            drawn.append(
                Markup('<path class="{}" d="{}"><title>{}: {} in all calls</title></path>').format(
                    _css(phase.column), bars, name, seconds
                )
            )
            legend.append((_css(phase.column), f"{name} {seconds}", ""))
        left = left + width
    edges = [0, *heights.cumsum()]
    for number, name in enumerate(ids):
        top, tall = _TOP + lane * edges[number], lane * heights[number]
        if tall >= _NAMED:
            drawn.append(
                Markup('<text class="name" x="{:.0f}" y="{:.1f}">{}</text>').format(
                    _LEFT - 4, top + tall / 2 + 3, shown(name, 7)
                )
            )
    words = f"Timeline of {len(calls)} calls of {len(ids)} episodes in {duration(until)}"
    return _figure(words, height, [*drawn, *_time_axis(until, height)], legend)


def _bars(left: Any, width: Any, places: Any, lane: float, until: float, share: float) -> str:
    """Return bars as one path, those of a phase; ``share`` of its lane is how thick each is."""
    thick, scale = share * lane, _PLOT / until
    return "".join(
        f"M{_LEFT + scale * x:.1f} {_TOP + lane * y + (lane - thick) / 2:.1f}"
        f"h{max(scale * w, 0.4):.1f}v{thick:.1f}h-{max(scale * w, 0.4):.1f}z"
        for x, w, y in zip(left.tolist(), width.tolist(), places.tolist(), strict=True)
    )


def curves(
    series: Mapping[str, Points], words: str, *, until: float, height: float = 72.0, percent: bool = False
) -> Markup:
    """Draw curves over time.

    Parameters
    ----------
    series : mapping
        From the name of each to its points, in order of time.
    words : str
        What the picture shows, for those who do not see it.
    until : float
        Seconds at the right end.
    percent : bool
        Whether the values are shares, of which 1 is marked as the limit.
    """
    until = max(until, 1e-3)
    highest = max((value for points in series.values() for _, value in points), default=0.0)
    top = nice(max(highest, 1.0 if percent else 1e-9))
    drawn: list[Markup] = []
    for share in (0.5, 1.0) if not percent else (1.0 / top,):
        y = _TOP + height * (1 - share)
        label = "100 %" if percent else f"{top * share:,.3g}"
        drawn.append(
            Markup(
                '<line class="{}" x1="{:.0f}" x2="{:.0f}" y1="{:.1f}" y2="{:.1f}"/>'
                '<text class="name" x="{:.0f}" y="{:.1f}">{}</text>'
            ).format("limit" if percent else "grid", _LEFT, WIDTH - _RIGHT, y, y, _LEFT - 4, y + 4, label)
        )
    legend = []
    for number, (name, points) in enumerate(series.items()):
        path = " ".join(
            f"{_LEFT + _PLOT * min(at / until, 1.0):.1f},{_TOP + height * (1 - value / top):.1f}"
            for at, value in points
        )
        dashes = _DASHES[number % len(_DASHES)]
        drawn.append(
            Markup('<polyline class="curve c{}" stroke-dasharray="{}" points="{}"/>').format(
                number, dashes, path
            )
        )
        last = f" {100 * points[-1][1]:.0f} %" if percent and points else ""
        legend.append((f"c{number}", name + last, dashes))
    return _figure(words, height, [*drawn, *_time_axis(until, height)], legend if len(series) > 1 else [])


def _time_axis(until: float, height: float) -> list[Markup]:
    """Return the axis at the bottom, with its ticks in seconds, minutes or hours."""
    unit, seconds = next(
        (unit for unit in (("h", 3600.0), ("min", 60.0)) if until >= 3 * unit[1]), ("s", 1.0)
    )
    y = _TOP + height
    drawn = [
        Markup('<line class="axis" x1="{0:.0f}" x2="{1:.0f}" y1="{2:.1f}" y2="{2:.1f}"/>').format(
            _LEFT, WIDTH - _RIGHT, y
        )
    ]
    step = nice(until / seconds / 5)
    for number in range(int(until / seconds / step) + 1):
        x = _LEFT + _PLOT * number * step * seconds / until
        if x < WIDTH - _RIGHT - 4:
            label = f"{number * step:g}" + (f" {unit}" if number == 0 else "")
            drawn.append(
                Markup(
                    '<line class="axis" x1="{0:.1f}" x2="{0:.1f}" y1="{1:.1f}" y2="{2:.1f}"/>'
                    '<text class="tick" x="{0:.1f}" y="{3:.1f}">{4}</text>'
                ).format(x, y, y + 3, y + 14, label)
            )
    return drawn


def _figure(
    words: str, height: float, drawn: Sequence[Markup], legend: Sequence[tuple[str, str, str]]
) -> Markup:
    tall = _TOP + height + _BOTTOM
    picture = Markup('<svg role="img" aria-label="{}" viewBox="0 0 {:.0f} {:.0f}">{}</svg>').format(
        words, WIDTH, tall, Markup("").join(drawn)
    )
    keys = Markup("").join(
        Markup(
            '<span class="key"><svg viewBox="0 0 18 8" aria-hidden="true">'
            '<line class="{}" x1="0" x2="18" y1="4" y2="4" stroke-dasharray="{}"/></svg> {}</span>'
        ).format(css, dashes, label)
        for css, label, dashes in legend
    )
    return Markup('<figure class="picture">{}<figcaption>{}</figcaption></figure>').format(picture, keys)


def nice(value: float) -> float:
    """Return the next number above that is 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= value * (1 - 1e-9))


def _css(column: str) -> str:
    return column.removesuffix("_s").replace("_", "-")
