"""Numbers and times in words, and foreign text made fit to be shown."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from toolkit.harmless import for_terminal, whole_characters
from toolkit.plots.letters import number

NONE = "–"
"""Where a value does not apply or is not known."""


def plain(text: object, most: int = 2000) -> str:
    """Return text without control characters and marks of direction, and not endless."""
    clean = for_terminal(whole_characters(str(text))).strip()
    return clean if len(clean) <= most else f"{clean[: most - 1]}…"


def is_missing(value: Any) -> bool:
    """Return whether a value of a frame is null."""
    import pandas as pd

    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def count(value: Any) -> str:
    """Return a whole number with its thousands apart."""
    return NONE if is_missing(value) else f"{int(value):,}"


def real(value: Any) -> str:
    """Return three significant digits."""
    return NONE if is_missing(value) else number(float(value))


def in_seconds(value: Any) -> str:
    """Return a number of seconds without its unit, to the millisecond."""
    if is_missing(value):
        return NONE
    return "<0.001" if 0 < float(value) < 0.001 else number(float(value))


def money(value: Any) -> str:
    """Return US dollars: cents, or as many digits as a small sum needs."""
    if is_missing(value):
        return NONE
    dollars = float(value)
    return f"${dollars:,.2f}" if dollars == 0 or dollars >= 1 else f"${dollars:.4g}"


def percent(share: Any) -> str:
    """Return a share of 1 in percent."""
    return NONE if is_missing(share) else f"{100 * float(share):.1f} %"


def duration(seconds: Any) -> str:
    """Return ``350 ms``, ``12.3 s``, ``4 min 10 s`` or ``2 h 5 min``."""
    if is_missing(seconds):
        return NONE
    value = float(seconds)
    if 0 < value < 0.9995:
        return f"{number(1000 * value)} ms"
    if value < 120:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 120:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def moment(epoch_s: float | None) -> str:
    """Return a time in UTC, to the second."""
    if not epoch_s:
        return NONE
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def listed(words: list[str]) -> str:
    """Return ``a``, ``a and b`` or ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
