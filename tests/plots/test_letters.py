"""Names are shown as they are, on one line, with a glyph for every character."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib import rcParams
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font

from toolkit.plots.letters import EMOJI, LAST_RESORT, literal
from toolkit.wording import number, seconds, shown, span

NAMES = [
    "$100_deal_$x",
    "\\alpha_{1}^2",
    "_hidden",
    "🎙 morning 🚀",
    "你好",
    "50% #1 & ~",
    "{",
    "a\u200db",
    "❤️",
    "👩‍🚀",
]


@pytest.mark.parametrize("name", NAMES)
def test_name_is_drawn_as_it_is(name: str) -> None:
    """No mathematics, no TeX, and none of the warnings that matplotlib gives for a missing glyph."""
    figure = Figure()
    text = literal(figure.text(0.5, 0.5, shown(name)))
    figure.canvas.draw()
    assert text.get_text() == name
    assert text.get_parse_math() is False
    assert text.get_usetex() is False


def test_dollars_take_the_room_of_dollars() -> None:
    """Read as mathematics ``$x$`` would be one letter wide."""
    figure = Figure()
    wide, narrow = (literal(figure.text(0, 0, name)).get_window_extent().width for name in ("$x$", "x"))
    assert wide > 2 * narrow


@pytest.mark.parametrize("name", ["🎙", "🚀", "😀", "🧪"])
def test_emoji_have_glyphs_of_their_own(name: str) -> None:
    """Not boxes, also on a machine without any font for them."""
    families = literal(Figure().text(0, 0, name)).get_fontfamily()
    assert LAST_RESORT not in families
    fonts = [FT2Font(findfont(FontProperties(family=[family]))) for family in families]
    assert any(font.get_char_index(ord(name)) for font in fonts)
    assert findfont(FontProperties(family=[EMOJI]))


def test_font_in_use_stays_the_first_one() -> None:
    """A family set by the user is what letters are drawn in; only what it lacks comes from elsewhere."""
    text = Figure().text(0, 0, "é 🎙", fontfamily=["DejaVu Serif"])
    assert literal(text).get_fontfamily()[0] == "DejaVu Serif"
    assert literal(Figure().text(0, 0, "é")).get_fontfamily() == rcParams["font.family"]


def test_nothing_of_matplotlib_is_set() -> None:
    """A plot is no reason for the user's next one to look different."""
    before = dict(rcParams)
    literal(Figure().text(0, 0, "🎙 你"))
    assert dict(rcParams) == before


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40))
def test_whatever_the_name_it_can_be_drawn(name: str) -> None:
    """Control characters, halves of characters, unassigned ones: no warning, no error, one line."""
    figure = Figure()
    text = literal(figure.text(0.5, 0.5, shown(name, 20)))
    figure.canvas.draw()
    assert "\n" not in text.get_text()


@given(st.text(min_size=1, max_size=200), st.integers(3, 60))
@example(name="0" * 19 + "…" + "0" * 21, width=40)
def test_long_names_are_cut_in_the_middle(name: str, width: int) -> None:
    """At most as wide as asked, and never empty."""
    short = shown(name, width)
    assert len(short) >= 1
    plain = shown(name, 10_000)
    if plain != short:
        # A name may hold such a mark itself.
        cuts = [place for place, letter in enumerate(short) if letter == "…"]
        assert any(plain.startswith(short[:cut]) and plain.endswith(short[cut + 1 :]) for cut in cuts)


def test_names_of_a_series_stay_apart() -> None:
    """They differ at their ends, which stay."""
    short = {shown(f"{'a very long name of a podcast ' * 3}part {n}", 24) for n in range(9)}
    assert len(short) == 9
    assert max(map(len, short)) == 24


@pytest.mark.parametrize(
    ("value", "text"), [(None, "none"), (float("nan"), "none"), ("", "(empty)"), (4, "4")]
)
def test_what_is_no_name(value: object, text: str) -> None:
    """A null and an empty name are seen for what they are."""
    assert shown(value) == text


def test_numbers_are_short() -> None:
    """Three digits, all those before the point, and no exponent where there is room."""
    assert [number(x) for x in (0, 0.12345, 12.345, 1234.5, 98765432.0)] == [
        "0",
        "0.123",
        "12.3",
        "1,234",
        "9.9e+07",
    ]
    # What three digits round up to the next power of ten has no exponent either.
    assert [number(x) for x in (999.4, 999.5, 999.96, -999.96)] == ["999", "1,000", "1,000", "-1,000"]
    assert [seconds(x) for x in (0.9994, 0.99996)] == ["999 ms", "1 s"]
    assert [seconds(x) for x in (0.0, 0.0205, 1.5, 90.0)] == ["0 s", "20.5 ms", "1.5 s", "90 s"]
    assert [span(x) for x in ([5, 5], [5, 3])] == ["5", "3 to 5"]
