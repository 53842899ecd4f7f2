"""What plots read: the frames of runs, checked before anything is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from toolkit.errors import ConfigError
from toolkit.metrics import reused, seconds_of
from toolkit.wording import counted, shown

if TYPE_CHECKING:
    import pandas as pd

FRAMES = {
    "calls": ("episode_id", "call_id", "status", "reused", "started_at", "service_s", "total_s"),
    "episodes": ("episode_id", "status"),
    "limits": ("t_s", "in_flight"),
}
"""Columns without which a frame is not the one it should be."""


def frame_of(run: Any, name: str) -> pd.DataFrame:
    """Return a frame of a run: ``calls``, ``episodes`` or ``limits``.

    Raises
    ------
    ConfigError
        If it has none, or not its columns.
    """
    import pandas as pd

    frame = getattr(run, name, None)
    if not isinstance(frame, pd.DataFrame):
        raise ConfigError(
            f"a plot of {name} needs a run, as tk.run, tk.simulate and open_store().run(id) give it, "
            f"with a DataFrame .{name}; this is a {type(run).__name__}"
        )
    missing = [column for column in FRAMES[name] if column not in frame.columns]
    if missing:
        raise ConfigError(f"the frame .{name} lacks {', '.join(missing)}; it has {', '.join(frame.columns)}")
    return frame


def runs_of(runs: Any) -> list[Any]:
    """Return one run or several as a list.

    Raises
    ------
    ConfigError
        If there is none.
    """
    found = list(runs) if isinstance(runs, list | tuple) else [runs]
    if not found:
        raise ConfigError("the list of runs is empty; give at least one")
    return found


def timed_calls(run: Any) -> pd.DataFrame:
    """Return the calls that have a start, with ``start`` and ``end`` in seconds since the first one."""
    calls = frame_of(run, "calls")
    calls = calls[calls["started_at"].notna()]
    began = (calls["started_at"] - calls["started_at"].min()).dt.total_seconds()
    times = seconds_of(calls, ["service_s", "overhead_s", "total_s"])
    return calls.assign(**times, start=began, end=began + times["total_s"]).sort_values(
        "start", kind="stable"
    )


def title_of(run: Any, of: str) -> str:
    """Return ``Timeline: openai/gpt, run 3f2a…``, as far as these are known."""
    model = "/".join(shown(part) for part in (_told(run, "provider"), _told(run, "model")) if part)
    parts = [model, f"run {shown(run.id, 14)}" if getattr(run, "id", None) else ""]
    return ": ".join([of, *filter(None, [", ".join(filter(None, parts))])])


def name_of(run: Any, number: int) -> str:
    """Return what tells a run from the others in a legend."""
    model = _told(run, "model")
    parts = [shown(model, 18) if model else "", shown(run.id, 14) if getattr(run, "id", None) else ""]
    name = " ".join(filter(None, parts)) or f"run {number + 1}"
    return f"{name} (simulated)" if is_simulated(run) else name


def short_name_of(run: Any, number: int) -> str:
    """Return the same for where there is little room."""
    name = shown(run.id, 9) if getattr(run, "id", None) else f"run {number + 1}"
    return f"{name}, sim." if is_simulated(run) else name


def _told(run: Any, name: str) -> str | None:
    value = getattr(run, name, None)
    return str(value) if value else None


def is_simulated(run: Any) -> bool:
    """Return whether a run's times were computed and not measured."""
    if getattr(run, "simulated", False):
        return True
    calls = getattr(run, "calls", None)
    return calls is not None and "simulated" in calls and bool(calls["simulated"].fillna(False).any())


def notes_of(*runs: Any) -> list[str]:
    """Return what a reader must know of runs: how large, simulated, what was reused and what failed."""
    import pandas as pd

    calls = pd.concat([frame_of(run, "calls")[["status", "reused"]] for run in runs], ignore_index=True)
    simulated = sum(is_simulated(run) for run in runs)
    status = calls["status"].value_counts()
    notes = []
    if simulated:
        notes.append("simulated" if simulated == len(runs) else f"{simulated} simulated")
    if len(runs) > 1:
        notes.append(counted(len(runs), "run"))
    parts = [f"{number:,} {name}" for name in ("failed", "cancelled") if (number := int(status.get(name, 0)))]
    if number := int(reused(calls).sum()):
        parts.append(f"{number:,} reused, in no rate or time")
    notes.append(_of(len(calls), "call", parts))
    ends = [frame["status"] for run in runs if (frame := _optional(run, "episodes")) is not None]
    if ends:
        status = pd.concat(ends).value_counts()
        parts = [f"{number:,} {name}" for name, number in status.items() if name != "ok"]
        notes.append(_of(int(status.sum()), "episode", parts))
    if any(getattr(run, "interrupted", False) for run in runs):
        notes.append("stopped before the end")
    return notes


def _of(number: int, noun: str, parts: Sequence[str]) -> str:
    """Return ``12 calls``, or ``12 calls (3 failed)``."""
    return f"{number:,} {noun}{'s' * (number != 1)}" + (f" ({', '.join(parts)})" if parts else "")


def _optional(run: Any, name: str) -> pd.DataFrame | None:
    frame = getattr(run, name, None)
    return frame if frame is not None and "status" in frame else None
