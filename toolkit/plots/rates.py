"""``throughput``: calls and tokens a second."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from toolkit import metrics, wording
from toolkit.errors import ConfigError
from toolkit.metrics import made
from toolkit.plots import look
from toolkit.plots.canvas import axes_for, finish, reach, say_nothing_to_draw
from toolkit.plots.sources import name_of, notes_of, runs_of, timed_calls, title_of
from toolkit.plots.steps import changes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MEASURES = {
    "calls": ("calls", "finished calls/s", "requests_limit", "requests/min"),
    "tokens": ("tokens", "input + output tokens/s", "tokens_limit", "tokens/min"),
    "input_tokens": ("input_tokens", "input tokens/s", None, ""),
    "output_tokens": ("output_tokens", "output tokens/s", None, ""),
}
"""Of ``throughput``: column, label of the axis, the limit on it, and the limit's unit."""

_TIME = "time since the first call (s)"
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
    limit of one run is drawn in: what it is in a second. A burst may go above it, a minute may not.

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
    one = len(several) == 1
    legend: list[tuple[Any, str]] = []
    for number, (run, frame, table) in enumerate(zip(several, frames, tables, strict=True)):
        if table.empty:
            continue
        amount = table.assign(tokens=table["input_tokens"] + table["output_tokens"])[column]
        style = look.series(number)
        line = ax.stairs(
            amount.to_numpy() / width,
            [*table.index, table.index[-1] + width],
            baseline=0 if one else None,
            fill=False,
            color=style.colour,
            linestyle=style.line,
            linewidth=1.6,
            label=name_of(run, number),
        )
        lasted = float(frame["end"].max() - frame["start"].min())
        mean = f"mean {wording.number(amount.sum() / lasted)}/s" if lasted else ""
        legend.append((line, "\n".join(filter(None, ["" if one else name_of(run, number), mean])) or label))
    title = title_of(several[0], label.capitalize()) if one else label.capitalize()
    notes = notes_of(*several)
    if not legend:
        say_nothing_to_draw(ax, "no call brought a new reply")
        return finish(ax, title, notes, x=_TIME, y=label)
    reach(ax, max(table.index[-1] + width for table in tables if len(table)))
    if one and limit:
        legend += _limit_line(ax, several[0], limit, unit)
    notes.append(f"intervals of {wording.seconds(width)}")
    ax.set_ylim(bottom=0)
    return finish(ax, title, notes, x=_TIME, y=label, legend=legend)


def _limit_line(ax: Axes, run: Any, column: str, unit: str) -> list[tuple[Any, str]]:
    """Draw the limit of a run, what it is in a second, if there is one."""
    frame = getattr(run, "limits", None)
    if frame is None or column not in frame:
        return []
    known = frame[["t_s", column]].dropna().astype("float64")
    if known.empty:
        return []
    times, values = changes(known["t_s"].to_numpy(), known[column].to_numpy())
    # What was in force last is so until the last call's end.
    until = max(times[-1], ax.get_xlim()[1])
    (line,) = ax.step(
        [*times, until], [*values / 60, values[-1] / 60], where="post", **look.LIMIT, label="limit"
    )
    return [(line, f"limit\n{wording.span(values)} {unit}")]


def _round_step(step: float) -> float:
    """Return the next length above that is 1, 2 or 5 times a power of ten; at least 1 ms."""
    if step <= 1e-3:
        return 1e-3
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))
