"""Over time: ``throughput``, ``in_flight`` and ``limits``; and ``quota_share``, what came of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from toolkit import metrics
from toolkit.errors import ConfigError
from toolkit.plots import look
from toolkit.plots.canvas import axes_for, finish, name_ticks, say_nothing_to_draw
from toolkit.plots.letters import shown
from toolkit.plots.sources import frame_of, made, name_of, notes_of, runs_of, timed_calls, title_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MEASURES = {
    "calls": ("calls", "finished calls/s", "requests_limit", "requests/min"),
    "tokens": ("tokens", "input + output tokens/s", "tokens_limit", "tokens/min"),
    "input_tokens": ("input_tokens", "input tokens/s", None, ""),
    "output_tokens": ("output_tokens", "output tokens/s", None, ""),
}
"""Of ``throughput``: column, label of the axis, the limit on it, and the limit's unit."""

_TIME = "time since the first call (s)"
_LIMIT_TIME = "time since the run's start (s)"
_INTERVALS = 60


def throughput(
    runs: Any,
    of: Literal["calls", "tokens", "input_tokens", "output_tokens"] = "output_tokens",
    *,
    freq: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw calls or tokens a second over time.

    Calls count in the interval in which they end, tokens evenly over their call's service time; see
    ``toolkit.metrics.throughput``. Reused and failed calls do not enter. With ``calls`` and ``tokens`` the
    account's limit is drawn in where the run had one (tokens are charged before they are written, so that
    they need not reach it).

    Parameters
    ----------
    runs : Run or list of Run
    of : str
        What is counted.
    freq : str, optional
        Length of an interval, such as ``"500ms"`` or ``"1min"``; by default about a sixtieth of the longest
        run, the same for all.
    ax : Axes, optional

    Returns
    -------
    Axes
        x: seconds since the first call of each run; y: a second.

    Raises
    ------
    ConfigError
        If ``of`` or ``freq`` is none of these.
    """
    import pandas as pd

    if of not in MEASURES:
        raise ConfigError(f"of={of!r} must be one of {', '.join(MEASURES)}")
    column, label, limit, unit = MEASURES[of]
    several = runs_of(runs)
    frames = [made(timed_calls(run)) for run in several]
    # The frame's own interval begins with the first call that counts.
    longest = max(
        (float(frame["end"].max() - frame["start"].min()) for frame in frames if len(frame)), default=0
    )
    freq = freq or f"{_round_step(longest / _INTERVALS) * 1e6:.0f}us"
    tables = [metrics.throughput(frame, freq) for frame in frames]
    width = pd.Timedelta(freq).total_seconds()
    ax = axes_for(ax)
    legend = []
    for number, (run, table) in enumerate(zip(several, tables, strict=True)):
        if table.empty:
            continue
        rate = table.assign(tokens=table["input_tokens"] + table["output_tokens"])[column] / width
        style = look.series(number)
        line = ax.stairs(
            rate.to_numpy(),
            [*table.index, table.index[-1] + width],
            baseline=0 if len(several) == 1 else None,
            fill=False,
            color=style.colour,
            linestyle=style.line,
            linewidth=1.6,
            label=name_of(run, number),
        )
        mean = float(rate.mean())
        legend.append((line, f"{shown(name_of(run, number), 34)}\nmean {mean:,.3g}/s"))
        legend += _rate_limit(ax, run, limit, unit, bool(legend[1:]))
    title = title_of(several[0], label.capitalize()) if len(several) == 1 else label.capitalize()
    notes = [*notes_of(*several), f"intervals of {_seconds(width)}"]
    if not legend:
        say_nothing_to_draw(ax, "no call brought a new reply")
        return finish(ax, title, notes[:-1], x=_TIME, y=label)
    ax.set_xlim(left=0)
    ax.set_ylim(bottom=0)
    return finish(ax, title, notes, x=_TIME, y=label, legend=legend)


def _rate_limit(ax: Axes, run: Any, column: str | None, unit: str, again: bool) -> list[tuple[Any, str]]:
    """Draw the limit of a run, a minute's in a second, unless there is none or it is drawn already."""
    frame = getattr(run, "limits", None)
    if column is None or frame is None or column not in frame:
        return []
    known = frame[["t_s", column]].dropna()
    if known.empty:
        return []
    values = known[column].astype("float64").to_numpy()
    (line,) = ax.step(known["t_s"].to_numpy(), values / 60, where="post", **look.LIMIT, label="limit")
    return [] if again else [(line, f"limit\n{_span(values)} {unit}")]


def in_flight(run: Any, *, ax: Axes | None = None) -> Axes:
    """Draw how many requests were in flight and how many waited, with the cap on them.

    Of a run without a limiter it draws how many calls the model worked on, from their service times.

    Parameters
    ----------
    run : Run
        Or anything with the frames ``limits`` and ``calls``.
    ax : Axes, optional

    Returns
    -------
    Axes
        x: seconds; y: requests.

    Raises
    ------
    ConfigError
        If the run has no such frames.
    """
    frame = frame_of(run, "limits")
    ax = axes_for(ax)
    title, notes = title_of(run, "Requests in flight"), notes_of(run)
    if frame.empty:
        return _in_service(ax, run, title, notes)
    legend: list[tuple[Any, str]] = []
    for number, (key, events) in enumerate(_keys(frame)):
        suffix = f"\n{shown(key, 18)}" if key else ""
        style = look.series(number)
        times = events["t_s"].to_numpy()
        if events["waiting"].gt(0).any() if "waiting" in events else False:
            area = ax.fill_between(
                times,
                events["waiting"].astype("float64").fillna(0).to_numpy(),
                step="post",
                facecolor="#e6e6e6",
                edgecolor="#8a8a8a",
                linewidth=0.6,
                hatch="....",
                zorder=0,
                label="waiting",
            )
            area.set_hatch_linewidth(look.HATCH_WIDTH)
            legend.append((area, f"waiting in line{suffix}"))
        counts = events["in_flight"].astype("float64").to_numpy()
        (line,) = ax.step(times, counts, where="post", color=style.colour, linewidth=1.4, label="in flight")
        legend.append((line, f"in flight (most {counts.max():.0f}){suffix}"))
        caps = events[["t_s", "slot_cap"]].dropna() if "slot_cap" in events else events.iloc[:0]
        if len(caps):
            values = caps["slot_cap"].astype("float64").to_numpy()
            (cap,) = ax.step(caps["t_s"].to_numpy(), values, where="post", **look.LIMIT, label="cap")
            legend.append((cap, f"cap {_span(values)}{suffix}"))
    ax.set_ylim(bottom=0)
    ax.margins(x=0)
    _whole_numbers(ax)
    return finish(ax, title, notes, x=_LIMIT_TIME, y="requests", legend=legend)


def _in_service(ax: Axes, run: Any, title: str, notes: list[str]) -> Axes:
    """Draw how many calls the model worked on at once: +1 at the start of a service, -1 at its end."""
    import numpy as np

    from toolkit.plots.sources import seconds_of

    calls = made(timed_calls(run))
    if calls.empty:
        say_nothing_to_draw(ax, "no limiter, and no call brought a new reply")
        return finish(ax, title, notes, x=_TIME, y="requests")
    phases = seconds_of(calls, ["service_s", "overhead_s"])
    ends = calls["end"].to_numpy() - phases["overhead_s"].to_numpy()
    starts = ends - phases["service_s"].to_numpy()
    times = np.concatenate([starts, ends])
    # Ends go first among what happens at one time, or a model at work on one would seem to have two.
    order = np.lexsort((np.repeat([1, 0], len(calls)), times))
    counts = np.cumsum(np.repeat([1, -1], len(calls))[order])
    (line,) = ax.step(
        times[order], counts, where="post", color=look.series(0).colour, linewidth=1.4, label="in service"
    )
    ax.set_ylim(bottom=0)
    ax.margins(x=0)
    _whole_numbers(ax)
    legend = [(line, f"in service (most {counts.max()})")]
    return finish(ax, title, [*notes, "no limiter"], x=_TIME, y="requests", legend=legend)


def limits(run: Any, *, ax: Axes | None = None) -> Axes:
    """Draw how much of each limit was in use: slots, and requests and tokens of the last 60 s.

    The limit that bound is the one whose line stays at the top. A limit that works like a bucket may let
    through up to twice itself in the first minute, its capacity and its refill.

    Parameters
    ----------
    run : Run
        Or anything with the frames ``limits`` and ``calls``.
    ax : Axes, optional

    Returns
    -------
    Axes
        x: seconds; y: percent of the limit in force at that time.

    Raises
    ------
    ConfigError
        If the run has no such frames.
    """
    frame = frame_of(run, "limits")
    ax = axes_for(ax)
    title, notes = title_of(run, "Use of the limits"), notes_of(run)
    legend = []
    axis = "in use (% of the limit)"
    for number, (used, limit, name, unit) in enumerate(
        (
            ("in_flight", "slot_cap", "slots", ""),
            ("requests_60s", "requests_limit", "requests in 60 s", "/min"),
            ("tokens_60s", "tokens_limit", "tokens in 60 s", "/min"),
        )
    ):
        for key, events in _keys(frame):
            if not {used, limit} <= set(events.columns):
                continue
            known = events[["t_s", used, limit]].dropna().astype("float64")
            known = known[known[limit] > 0]
            if known.empty:
                continue
            style = look.series(number)
            (line,) = ax.step(
                known["t_s"].to_numpy(),
                (100 * known[used] / known[limit]).to_numpy(),
                where="post",
                color=style.colour,
                linestyle=style.line,
                linewidth=1.0 if used == "in_flight" else 1.8,
                marker=style.marker,
                markevery=0.12,
                markersize=4.5,
                zorder=2 + number,
                label=name,
            )
            suffix = f"\n{shown(key, 18)}" if key else ""
            legend.append((line, f"{name}\nof {_span(known[limit].to_numpy())}{unit}{suffix}"))
    if not legend:
        say_nothing_to_draw(ax, "no limits")
        return finish(ax, title, notes, x=_LIMIT_TIME, y=axis)
    line = ax.axhline(100, **look.LIMIT, label="limit")
    ax.set_ylim(bottom=0)
    ax.margins(x=0)
    return finish(ax, title, notes, x=_LIMIT_TIME, y=axis, legend=[*legend, (line, "limit")])


def quota_share(runs: Any, *, ax: Axes | None = None) -> Axes:
    """Draw the share of each limit that was used while somebody waited; the longest bar of a run bound it.

    Parameters
    ----------
    runs : Run or list of Run
        With ``quota_shares``, as hosted runs have them.
    ax : Axes, optional

    Returns
    -------
    Axes
        x: percent of what the law allowed; a bar for each limit.
    """
    several = runs_of(runs)
    ax = axes_for(ax)
    bars = [
        (number, name, share)
        for number, run in enumerate(several)
        for name, share in (getattr(run, "quota_shares", None) or {}).items()
        if share is not None and math.isfinite(share)
    ]
    one = len(several) == 1
    title = title_of(several[0], "Share of the quota used") if one else "Share of the quota used"
    notes = notes_of(*several)
    axis = "admitted (% of what the limit allowed while somebody waited)"
    if not bars:
        say_nothing_to_draw(ax, "nobody waited for a limit")
        return finish(ax, title, notes, x=axis)
    binding = {number: max(share for other, _, share in bars if other == number) for number, _, _ in bars}
    legend: dict[str, Any] = {}
    for place, (number, _, share) in enumerate(bars):
        bound = share == binding[number]
        drawn = ax.barh(
            place,
            100 * share,
            height=0.62,
            color=look.series(0).colour if bound else "#d9d9d9",
            edgecolor=look.EDGE,
            linewidth=0.5,
            hatch="" if bound else "....",
        )
        drawn[0].set_hatch_linewidth(look.HATCH_WIDTH)
        ax.bar_label(drawn, labels=[f"{share:.1%}"], padding=4, fontsize="small")
        legend.setdefault("bound the run" if bound else "had room left", drawn)
    names = [
        name if one else f"{shown(name_of(several[number], number), 20)}: {name}" for number, name, _ in bars
    ]
    name_ticks(ax, "y", range(len(bars)), names, width=40)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(bars) - 0.4, -0.6)
    ax.set_xlim(0, max(112.0, 112 * max(share for _, _, share in bars)))
    line = ax.axvline(100, **look.LIMIT, label="allowed")
    entries = [(artist, label) for label, artist in legend.items()]
    return finish(ax, title, notes, x=axis, legend=[*entries, (line, "allowed")])


def _keys(frame: pd.DataFrame) -> list[tuple[str | None, pd.DataFrame]]:
    """Return the events of each quota key in order of time; a single one needs no name."""
    frame = frame[frame["t_s"].notna()].sort_values("t_s", kind="stable")
    if "quota_key" not in frame or frame["quota_key"].nunique() < 2:
        return [(None, frame)] if len(frame) else []
    return [(str(key), events) for key, events in frame.groupby("quota_key", sort=False)]


def _span(values: Any) -> str:
    """Return ``5``, or ``3 to 5`` of a limit that changed."""
    low, high = min(values), max(values)
    return f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"


def _round_step(step: float) -> float:
    """Return the next length above that is 1, 2 or 5 times a power of ten; at least 1 ms."""
    if step <= 1e-3:
        return 1e-3
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))


def _seconds(value: float) -> str:
    return f"{value:g} s" if value >= 1 else f"{1000 * value:g} ms"


def _whole_numbers(ax: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
