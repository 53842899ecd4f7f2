"""Names as they are, and short numbers.

A name may hold what matplotlib takes for mathematics (``$``), what a font has no glyph for (emoji, Chinese),
line breaks and control characters, and it may be of any length.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.harmless import for_terminal, whole_characters

if TYPE_CHECKING:
    from matplotlib.text import Text

LAST_RESORT = "Last Resort High-Efficiency"
"""A font of matplotlib's own: a box for every character, with a sign of its script."""
EMOJI = "Noto Emoji"
EMOJI_FILE = Path(__file__).parents[1] / "data/fonts/NotoEmoji-Regular.ttf"
_NO_LETTERS = (LAST_RESORT, "STIX", "cm")
"""Beginnings of names: boxes have a glyph for everything, matplotlib's mathematics for private characters."""
_JOINERS = "\u200c\u200d\ufe0e\ufe0f"


def shown(name: object, width: int = 28) -> str:
    """Return a name on one line, its middle left out where it is wider than ``width`` columns.

    Beginning and end stay, because ids of one series differ at their ends.
    """
    if name is None or name != name or str(name) == "<NA>":
        return "none"
    plain = " ".join(for_terminal(whole_characters(str(name))).split()) or "(empty)"
    if _columns(plain) <= width:
        return plain
    head, tail = (width - 1) - (width - 1) // 2, (width - 1) // 2
    return f"{_cut(plain, head)}…{_cut(plain[::-1], tail)[::-1].lstrip(_JOINERS)}"


def number(value: float) -> str:
    """Return three significant digits, and all digits before the point."""
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        # From 999.5 on three digits would be those of 1e+03.
        return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"
    return f"{value:.1e}"


def seconds(value: float) -> str:
    """Return ``1.5 s`` or ``20 ms``."""
    return f"{number(value)} s" if value >= 0.9995 or value == 0 else f"{number(1000 * value)} ms"


def span(values: Iterable[float]) -> str:
    """Return ``5``, or ``3 to 5`` of what changed."""
    low, high = min(ordered := list(values)), max(ordered)
    return f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"


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


def literal(text: Text) -> Text:
    """Make a text show its string as it is: no mathematics, no TeX, a glyph for every character."""
    text.set_parse_math(False)
    text.set_usetex(False)
    if not text.get_text().isascii():
        text.set_fontfamily(families(text.get_text(), tuple(text.get_fontfamily())))
    return text


def style_of(text: str) -> dict[str, Any]:
    """Return the same as keyword arguments, for labels that matplotlib makes itself."""
    from matplotlib import rcParams

    own = tuple(rcParams["font.family"])
    return {"parse_math": False, "usetex": False, "fontfamily": families(text, own)}


def families(text: str, own: tuple[str, ...]) -> list[str]:
    """Return the font families that have glyphs for a text, those in use first.

    For what these lack come the toolkit's emoji, then fonts of this machine, and for what no font has a box.
    """
    wanted = frozenset(character for character in text if not character.isascii())
    return [*own, *(_further_families(wanted, own) if wanted else ())]


@lru_cache(maxsize=512)
def _further_families(wanted: frozenset[str], own: tuple[str, ...]) -> tuple[str, ...]:
    from matplotlib.font_manager import FontProperties, findfont, fontManager

    found = []
    missing = wanted
    for family in own:
        missing = _missing(missing, str(findfont(FontProperties(family=[family]))))
    if not missing:
        return ()
    names = {entry.name: entry.fname for entry in reversed(fontManager.ttflist)}
    if EMOJI not in names:
        fontManager.addfont(EMOJI_FILE)
        names[EMOJI] = str(EMOJI_FILE)
    # Glyphs in colour would be drawn as nothing.
    others = sorted(name for name in names if not name.startswith(_NO_LETTERS) and "Color" not in name)
    for name in (EMOJI, *others):
        left = _missing(missing, names[name])
        if left != missing:
            found.append(name)
            missing = left
        if not missing:
            return tuple(found)
    return (*found, LAST_RESORT)


def _missing(characters: frozenset[str], path: str) -> frozenset[str]:
    """Return those for which a font file has no glyph; all of them if it cannot be read."""
    from matplotlib.ft2font import FT2Font

    with suppress(OSError, RuntimeError):
        font = FT2Font(path)
        return frozenset(each for each in characters if not font.get_char_index(ord(each)))
    return characters
