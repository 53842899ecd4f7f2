"""Names, numbers and times in words, and foreign text made fit to be shown."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from toolkit.harmless import for_terminal, whole_characters

NONE = "–"
"""Where a value does not apply or is not known."""
_JOINERS = "\u200c\u200d\ufe0e\ufe0f"


def plain(text: object, most: int = 2000) -> str:
    """Return text without control characters and marks of direction, and not endless."""
    given = str(text)
    # Of a text that is endless only the part that may be shown is worth the cleaning.
    clean = for_terminal(whole_characters(given[: 4 * most])).strip()
    return clean if len(clean) <= most and len(given) <= 4 * most else f"{clean[: most - 1]}…"


def shown(name: object, width: int = 28) -> str:
    """Return a name on one line, its middle left out where it is wider than ``width`` columns.

    Beginning and end stay, because ids of one series differ at their ends.
    """
    if is_missing(name):
        return "none"
    plain = " ".join(for_terminal(whole_characters(str(name))).split()) or "(empty)"
    if _columns(plain) <= width:
        return plain
    head, tail = (width - 1) - (width - 1) // 2, (width - 1) // 2
    return f"{_cut(plain, head)}…{_cut(plain[::-1], tail)[::-1].lstrip(_JOINERS)}"


def _cut(text: str, width: int) -> str:
    taken = 0
    for place, character in enumerate(text):
        taken += _columns(character)
        if taken > width:
            return text[:place].rstrip(_JOINERS)
    return text


def _columns(text: str) -> int:
    return sum(
        0
        if character in _JOINERS or unicodedata.combining(character)
        else 1 + (unicodedata.east_asian_width(character) in "WF")
        for character in text
    )


def is_missing(value: Any) -> bool:
    """Return whether a value of a frame is null."""
    try:
        return value is None or bool(value != value)
    except (TypeError, ValueError):
        # Pandas' own null is neither equal to anything nor not; lists and arrays are values.
        return str(value) == "<NA>"


def number(value: float) -> str:
    """Return three significant digits, and all digits before the point."""
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        # From 999.5 on three digits would be those of 1e+03.
        return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"
    return f"{value:.1e}"


def count(value: Any) -> str:
    """Return a whole number with its thousands apart."""
    return NONE if is_missing(value) else f"{int(value):,}"


def counted(number: int, noun: str) -> str:
    """Return ``1 chunk``, ``2 chunks``, ``12,000 chunks``."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def real(value: Any) -> str:
    """Return three significant digits."""
    return NONE if is_missing(value) else number(float(value))


def span(values: Iterable[float]) -> str:
    """Return ``5``, or ``3 to 5`` of what changed."""
    low, high = min(ordered := list(values)), max(ordered)
    return f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"


def seconds(value: float) -> str:
    """Return ``1.5 s`` or ``20 ms``."""
    return f"{number(value)} s" if value >= 0.9995 or value == 0 else f"{number(1000 * value)} ms"


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


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as text, the columns beneath each other."""
    *ahead, _ = range(len(rows[0]))
    widths = [max(len(row[place]) for row in rows) for place in ahead]
    return "\n".join(
        "  ".join([*(row[place].ljust(widths[place]) for place in ahead), row[-1]]).rstrip() for row in rows
    )
