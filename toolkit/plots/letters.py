"""Names as they are.

A name may hold what matplotlib takes for mathematics (``$``), what a font has no glyph for (emoji, Chinese),
line breaks and control characters, and it may be of any length.
"""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.text import Text

LAST_RESORT = "Last Resort High-Efficiency"
"""A font of matplotlib's own: a box for every character, with a sign of its script."""
EMOJI = "Noto Emoji"
EMOJI_FILE = Path(__file__).parents[1] / "data/fonts/NotoEmoji-Regular.ttf"
_NO_LETTERS = (LAST_RESORT, "STIX", "cm")
"""Beginnings of names: boxes have a glyph for everything, matplotlib's mathematics for private characters."""


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
