"""Text of strangers: no formula in a spreadsheet, no command in a terminal, no markup in a notebook."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.harmless import for_markdown, for_spreadsheet, for_terminal

QUICK = settings(deadline=None, max_examples=300)

signs = [*"\x00\x08\x1b\x7f\x9b\r\n\t \u202e\u2066\u200f", *"=+-@＝＋－＠#`'"]
sequences = ["\x1b[31m", "\x1b]0;title\x07", "\x1b]8;;http://x\x1b\\", "\x1bP", "\x1bc", "\x9b31m"]
markup = ["cmd|' /C calc'!A0", "<script>", "**", "[a](b)", "1.", "3)", "&lt;", "$x$", "word"]
links = ["https://x.org", "www.x.org", "//x", "x.org"]
hostile = st.lists(
    st.sampled_from([*signs, *sequences, *markup, *links]) | st.text(max_size=5), max_size=12
).map("".join)

prose = st.text(st.characters(categories=["L", "M", "N", "P", "S", "Zs"], include_characters="\n\t"))


@QUICK
@given(hostile)
def test_terminal_gets_no_control_characters(text: str) -> None:
    """Nothing that a terminal acts on is left but line breaks and tabs, and a second pass finds no more."""
    shown = for_terminal(text)
    assert all(char in "\n\t" or unicodedata.category(char) != "Cc" for char in shown)
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")
    assert for_terminal(shown) == shown


@QUICK
@given(prose)
def test_terminal_leaves_prose_alone(text: str) -> None:
    """What people write in any script is shown as it is."""
    assert for_terminal(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[1;31mred\x1b[0mb", "aredb"),
        ("a\x1b]0;title\x07b", "ab"),
        ("a\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\b", "alinkb"),
        ("a\x1bPq secret\x1b\\b", "ab"),
        ("a\x1bcb", "ab"),
        ("a\x1b", "a"),
        ("50 %\r100 %", "50 %100 %"),
        ("user\u202etxt.exe", "usertxt.exe"),
    ],
)
def test_escape_sequences_go_as_a_whole(text: str, shown: str) -> None:
    """A sequence leaves none of its parameters behind as text."""
    assert for_terminal(text) == shown


@QUICK
@given(hostile)
def test_spreadsheet_gets_no_formula(text: str) -> None:
    """No cell begins with what Excel, LibreOffice or Sheets calculate, behind blanks or full-width."""
    shown = unicodedata.normalize("NFKC", for_spreadsheet(text)).lstrip(" \n")
    assert not shown.startswith(("=", "+", "-", "@", "\t", "\r"))


@pytest.mark.parametrize(
    "start",
    [
        "=",
        "+",
        "-",
        "@",
        "\t=",
        "＝",
        "＋",
        "－",
        "＠",
        "⁺",
        " =",
        "\xa0=",
        "\u3000=",
        "\n=",
        "\x00=",
        "\x1b[0m=",
    ],
)
def test_formula_stays_readable(start: str) -> None:
    """An apostrophe is put before a formula and the rest stays; ordinary text gets none."""
    assert for_spreadsheet(start + "1+1") == "'" + for_terminal(start + "1+1")
    assert for_spreadsheet("Sum = 1+1") == "Sum = 1+1"


def rendered(markdown: str) -> str:
    """Return what a Markdown reader makes of backslash escapes."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", markdown)


@QUICK
@given(hostile | prose)
def test_markdown_shows_the_text_and_nothing_else(text: str) -> None:
    """With its escapes read the text is the same, and no sign of markup stands without an escape."""
    shown = for_markdown(text)
    assert rendered(shown) == for_terminal(text)
    bare = re.sub(r"\\[!-/:-@\[-`{-~]", "¶", shown)
    assert not re.search(r"[`*_{}\[\]<>#|~!&$\\]|//|\w\.[^\W\d]", bare)
    for line in bare.splitlines():
        assert not re.match(r"\s*([-+=]|\d+[.)])", line)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<b>bold</b>", r"\<b\>bold\</b\>"),
        ("# no heading", r"\# no heading"),
        ("a\n---", "a\n\\---"),
        ("a\n===", "a\n\\==="),
        ("\n\n- item", "\n\n\\- item"),
        ("12. item", r"12\. item"),
        ("[link](http://x)", r"\[link\](http:\//x)"),
        ("see HTTPS://x.org/a//b", r"see HTTPS:\//x\.org/a\//b"),
        ("www.x.org and x.org/a", r"www\.x\.org and x\.org/a"),
        ("//localhost mailto:a@b.org", r"\//localhost mailto\:a@b\.org"),
        ("and/or, at 10:30. Then 3.5 more...", "and/or, at 10:30. Then 3.5 more..."),
        ("&lt;", r"\&lt;"),
        ("well-known 3.5", "well-known 3.5"),
    ],
)
def test_markdown_escapes(text: str, shown: str) -> None:
    """Each kind of markup is turned off, and signs within words are left alone."""
    assert for_markdown(text) == shown


def test_many_empty_lines_take_no_time() -> None:
    """A reply of nothing but line breaks is handled in linear time; in square time this test runs out."""
    assert for_markdown("\n" * 200_000) == "\n" * 200_000
